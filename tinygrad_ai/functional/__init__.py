"""Functions of neural networks, with PyTorch's names and argument order (``axis`` for ``dim``).

They take Tensors, and but for dropout raw arrays too; ``tinygrad_ai.nn.functional`` has the same.
"""

from tinygrad_ai.functional.activations import (
    dropout,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from tinygrad_ai.functional.attention import scaled_dot_product_attention
from tinygrad_ai.functional.layers import (
    batch_norm,
    embedding,
    layer_norm,
    linear,
    one_hot,
    rms_norm,
)
from tinygrad_ai.functional.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from tinygrad_ai.ops.conv import conv1d, conv2d, conv_transpose2d
from tinygrad_ai.ops.pool import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
