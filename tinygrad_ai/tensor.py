"""Tensor: the face users see. Every rule is in a record of ``ops``; here are only names for them.

A Tensor is a :class:`~tinygrad_ai.autodiff.Value` that converts data, prints itself and offers
NumPy's operators and methods.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_ai import autodiff
from tinygrad_ai.autodiff import Value, raw
from tinygrad_ai.backend import NUMPY, as_array, backend_for, backend_of, namespaces
from tinygrad_ai.dtypes import check, python_default
from tinygrad_ai.errors import DTypeError, GraphError, IndexRangeError, ShapeError
from tinygrad_ai.ops import (
    elementwise,
    index,
    linalg,
    logic,
    movement,
    norms,
    reduce,
    scan,
    transfer,
    trigonometry,
    ufuncs,
)


def _array(data: Any, dtype: Any, device: str | None) -> Any:
    """A fresh array with the values of ``data`` on ``device`` (where it is, by default)."""
    if isinstance(data, Value) or type(data) in namespaces:
        data = data.array if isinstance(data, Value) else data
        home = backend_of(data)
    else:
        home = NUMPY
        foreign = hasattr(data, "__array__")  # another library's array
        array = np.asarray(data) if foreign else as_array("Tensor", "data", data)
        data, dtype = array, python_default(data) if dtype is None else dtype
    check(data.dtype)
    wanted = None if dtype is None else check(dtype)
    if device is None:
        return home.asarray(data, dtype=wanted)
    return backend_for(device).asarray(home.to_numpy(data), dtype=wanted)


class Tensor(Value):
    """An n-dimensional array through which gradients can flow.

    Args:
        data: a number, a nested list, a NumPy or CuPy array (copied in). A Python float or a list
            of floats becomes float32; an array keeps its dtype.
        requires_grad: track gradients for this leaf (floating-point dtypes only).
        dtype: float16, float32, float64, an integer dtype or bool.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or a registered backend's device.

    Raises DTypeError for data the library cannot hold and DeviceError for an absent device.
    """

    __slots__ = ()
    __array_ufunc__ = ufuncs.array_ufunc
    __hash__ = object.__hash__  # Tensors are told apart by identity

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        self.array = _array(data, dtype, device)
        self.node = None
        self.version = [0]
        self.grad = None
        self.name = None
        if requires_grad:
            self.requires_grad = True

    # ------------------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def device(self) -> str:
        """Where the elements live: ``"cpu"``, ``"cuda:0"``…"""
        array = raw(self)
        return backend_of(array).device_of(array)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order, as NumPy has it."""
        return movement.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return movement.swapaxes(self, -1, -2)

    def __repr__(self) -> str:
        array = self.numpy()
        body = np.array2string(array, separator=", ", prefix="Tensor(")
        facts = f", dtype={array.dtype}" + (", requires_grad=True" if self.requires_grad else "")
        return f"Tensor({body}{facts})"

    # --------------------------------------------------------------------------- out to Python

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a read-only NumPy array: a view for a CPU tensor, else a copy."""
        if autodiff.mode.capture is not None:
            autodiff.mode.capture.look(self)
        view = backend_of(self.array).to_numpy(self.array).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element, this tensor has shape {self.shape}")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"only integer tensors can be an index, not {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous",
                "   help: use .any() or .all()",
            )
        return bool(self.item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise DTypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise DTypeError("iteration over a 0-d tensor")
        return iter(movement.unstack(self))

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise GraphError("only leaves can be copied or pickled; detach() the tensor first")
        if autodiff.mode.capture is not None:
            autodiff.mode.capture.look(self)
        return type(self), (self.array, self.requires_grad), (None, {"name": self.name})

    # -------------------------------------------------------------------------------- gradients

    def backward(
        self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Accumulate the gradient of this tensor into ``.grad`` of every leaf it depends on.

        Args:
            gradient: the cotangent to start from, of this tensor's shape; 1 for a scalar.
            retain_graph: keep what the nodes saved, so that backward can run again.
            create_graph: record the walk, so that the gradients can be differentiated.

        Raises GraphError for a non-scalar without ``gradient``, for a tensor that depends on no
        leaf, and for a second backward through a freed graph.
        """
        autodiff.backward(self, gradient, retain_graph, create_graph)

    def detach(self) -> Tensor:
        """The same array without a place in the graph."""
        return self.box(self.array, None, self.version)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call ``hook`` with this tensor's gradient in backward; what it returns replaces it.

        Returns a function that removes the hook.
        """
        node = self._tracked("register_hook")
        if not callable(hook):
            raise DTypeError(f"register_hook: the hook must be a function, not {hook!r}")
        node.hooks = [*(node.hooks or []), hook]

        def remove() -> None:
            node.hooks = [h for h in node.hooks or [] if h is not hook]

        return remove

    def retain_grad(self) -> None:
        """Have backward set ``.grad`` of this tensor too, though it is not a leaf."""
        if self._tracked("retain_grad").primitive is None:
            return
        here = weakref.ref(self)

        def keep(g: Tensor) -> None:
            tensor = here()
            if tensor is not None:
                tensor.grad = g.copy() if tensor.grad is None else tensor.grad + g

        self.register_hook(keep)

    def _tracked(self, wish: str) -> autodiff.Node:
        if self.node is None:
            raise GraphError(f"{wish}: this tensor does not require gradients")
        return self.node

    # ---------------------------------------------------------------------- places and changes

    def to(self, device: str) -> Tensor:
        """This tensor on ``device``; the gradient comes back to where it was."""
        here = self.device
        if backend_for(device) is backend_of(self.array) and device in (here, here.split(":")[0]):
            return self
        return transfer.transfer(self, source=here, target=device)

    def astype(self, dtype: Any) -> Tensor:
        """This tensor in another dtype (itself if it has it already)."""
        wanted = check(dtype)
        return self if wanted == self.dtype else elementwise.astype(self, dtype=wanted)

    def copy(self) -> Tensor:
        """A copy with memory of its own, through which gradients flow."""
        return elementwise.positive(self)

    def __getitem__(self, key: Any) -> Tensor:
        """``x[key]`` with NumPy's rules; basic indexing gives a view."""
        return index.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Change elements in place; of tensors that gradients flow through only leaves, in no_grad.

        That is how a step of gradient descent is written by hand: ``p[...] = p - lr * p.grad``.
        """
        tracked = autodiff.mode.grad and isinstance(value, Tensor) and value.requires_grad
        if tracked or (self.requires_grad and (autodiff.mode.grad or not self.is_leaf)):
            raise GraphError(
                "assignment would change a tensor that gradients flow through",
                "   help: where(mask, new, x) and scatter_add(x, axis, index, src) give a new one",
                "   help: with no_grad(): lets leaves be changed: p[...] = p - lr * p.grad",
            )
        if autodiff.mode.on_assign is not None:
            autodiff.mode.on_assign(self)
        if autodiff.mode.capture is not None:
            return autodiff.mode.capture.assign(self, key, value)
        parts = key if isinstance(key, tuple) else (key,)
        plain = tuple(p.array if isinstance(p, Value) else p for p in parts)
        given = _array(value, self.dtype, self.device)
        try:
            self.array[plain] = given
        except IndexError as error:
            raise IndexRangeError(f"x[{key!r}] = …: {error}") from None
        except ValueError as error:
            raise ShapeError(f"x[{key!r}] = …: {error}") from None
        self.version[0] += 1

    # -------------------------------------------------------------------------------- operators

    __add__ = elementwise.add
    __sub__ = elementwise.subtract
    __mul__ = elementwise.multiply
    __truediv__ = elementwise.divide
    __floordiv__ = elementwise.floor_divide
    __mod__ = elementwise.remainder
    __pow__ = elementwise.power
    __matmul__ = linalg.matmul
    __neg__ = elementwise.negative
    __pos__ = elementwise.positive
    __abs__ = elementwise.absolute
    __invert__ = logic.bitwise_not
    __and__ = logic.bitwise_and
    __or__ = logic.bitwise_or
    __xor__ = logic.bitwise_xor
    __rand__ = logic.bitwise_and
    __ror__ = logic.bitwise_or
    __rxor__ = logic.bitwise_xor
    __eq__ = logic.equal
    __ne__ = logic.not_equal
    __lt__ = logic.less
    __le__ = logic.less_equal
    __gt__ = logic.greater
    __ge__ = logic.greater_equal

    def __radd__(self, other: Any) -> Tensor:
        return elementwise.add(other, self)

    def __rsub__(self, other: Any) -> Tensor:
        return elementwise.subtract(other, self)

    def __rmul__(self, other: Any) -> Tensor:
        return elementwise.multiply(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return elementwise.divide(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return elementwise.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return elementwise.remainder(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return elementwise.power(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    # --------------------------------------------------------------------- functions as methods

    abs = elementwise.absolute
    clip = elementwise.clip_between
    round = elementwise.round
    exp, log, sqrt, square = elementwise.exp, elementwise.log, elementwise.sqrt, elementwise.square
    sin, cos, tanh = trigonometry.sin, trigonometry.cos, elementwise.tanh
    sigmoid, relu, sign = elementwise.sigmoid, elementwise.relu, elementwise.sign
    sum, mean, prod, var, std = reduce.sum, reduce.mean, reduce.prod, reduce.var, reduce.std
    max, min, amax, amin = reduce.amax, reduce.amin, reduce.amax, reduce.amin
    all, any, argmax, argmin = reduce.all, reduce.any, reduce.argmax, reduce.argmin
    logsumexp, cumsum, cumprod = norms.logsumexp, scan.cumsum, scan.cumprod
    norm, median = norms.norm, index.median
    reshape, flatten, ravel = movement.reshape, movement.flatten, movement.flatten
    transpose, permute, swapaxes = movement.transpose, movement.transpose, movement.swapaxes
    squeeze, expand_dims, flip = movement.squeeze, movement.expand_dims, movement.flip
    broadcast_to, split, unstack = movement.broadcast_to, movement.split, movement.unstack
    take, repeat, nonzero, diagonal = index.take, index.repeat, index.nonzero, index.diagonal
    sort, argsort, topk = index.sort, index.argsort, index.topk
    gather, scatter_add, index_select = index.gather, index.scatter_add, index.index_select
    masked_fill, take_along_axis = index.masked_fill, index.take_along_axis
    dot, trace = linalg.dot, linalg.trace


Value.result_type = Tensor
