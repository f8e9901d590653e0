"""Functions made into other functions: derivatives of any order, batches, less memory."""

from tinygrad_ai.transforms.anomaly import detect_anomaly
from tinygrad_ai.transforms.checkpoint import checkpoint
from tinygrad_ai.transforms.custom import custom_vjp
from tinygrad_ai.transforms.forward import jvp
from tinygrad_ai.transforms.higher import hessian, hvp, jacobian
from tinygrad_ai.transforms.reverse import grad, stop_gradient, value_and_grad, vjp
from tinygrad_ai.transforms.vmap import vmap

__all__ = [
    "checkpoint",
    "custom_vjp",
    "detect_anomaly",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
]
