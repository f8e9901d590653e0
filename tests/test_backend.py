"""Backends: a third party's registered beside NumPy, CUDA asked for where there is none."""

import subprocess
import sys

import numpy as np
import pytest

from tinygrad_ai.backend import Namespace, backend_for, backends, register_backend
from tinygrad_ai.errors import DeviceError
from tinygrad_ai.ops import elementwise as el
from tinygrad_ai.tensor import Tensor


class Other(np.ndarray):
    """Another array type: what it computes stays of its type."""


def _of_other(function):
    def wrapped(*args, **keywords):
        return np.asarray(function(*args, **keywords)).view(Other)

    return wrapped


class OtherBackend:
    """The whole of what a third party writes."""

    name = "other"
    array_type = Other
    xp = Namespace(
        np,
        asarray=_of_other(np.asarray),
        ones=_of_other(np.ones),
        zeros=_of_other(np.zeros),
        where=_of_other(np.where),
        sum=_of_other(np.sum),
        scatter_add=np.add.at,
    )

    def asarray(self, data, dtype=None):
        return np.array(data, dtype=dtype).view(Other)

    def to_numpy(self, array):
        return array.view(np.ndarray)

    def devices(self):
        return ["other"]

    def device_of(self, array):
        return "other"


register_backend(OtherBackend())


def test_a_registered_backend_computes_and_differentiates():
    x = Tensor([0.5, -0.25, 2.0], device="other", requires_grad=True)
    y = (el.tanh(x) * x)[::-1].sum()
    assert x.device == "other" and type(y.array) is Other
    y.backward()
    assert type(x.grad.array) is Other and x.grad.device == "other"
    v = x.numpy()
    wanted = np.tanh(v) + v * (1 - np.tanh(v) ** 2)
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-6)


def test_values_and_gradients_move_between_devices():
    x = Tensor([1.0, 2.0], requires_grad=True)
    there = x.to("other") * 3
    back = there.to("cpu")
    assert there.device == "other" and back.device == "cpu" and x.to("cpu") is x
    (back * np.array([1.0, -1.0], dtype=np.float32)).sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, -3.0])


def test_an_unknown_device_lists_those_that_are_there():
    with pytest.raises(DeviceError, match=r"'tpu' is not there; available: cpu.*other"):
        Tensor([1.0], device="tpu")
    assert set(backends()) >= {"cpu", "other"}


def test_cuda_without_cupy_says_what_to_install():
    program = (
        "import sys; sys.modules['cupy'] = None\n"
        "from tinygrad_ai.tensor import Tensor\n"
        "try: Tensor([1.0], device='cuda')\n"
        "except RuntimeError as e: print(e, e.__notes__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "needs CuPy, which is not installed" in said.stdout
    assert "pip install 'tinygrad_ai[gpu]'" in said.stdout


@pytest.mark.gpu_proof
def test_cuda_with_cupy_but_without_a_driver_says_so():
    with pytest.raises(DeviceError, match="no CUDA GPU or no driver"):
        backend_for("cuda")
