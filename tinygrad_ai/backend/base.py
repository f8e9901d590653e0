"""The backend protocol and the table of the backends that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinygrad_ai.errors import DeviceError, DTypeError


class Namespace:
    """An array namespace: ``extra`` functions first, then everything of ``module``.

    A name looked up once is kept in the instance, so that ``xp.tanh`` costs what ``np.tanh`` does.
    """

    def __init__(self, module: Any, **extra: Any) -> None:
        self.__dict__.update(extra, module=module)

    def native(self, record: Any, arrays: Any, params: Any) -> Any:
        """What kernels make of ``arrays``; None where there are none for the operation."""
        return None

    def pulled(self, node: Any, i: int, g: Any) -> Any:
        """What kernels make of the cotangent ``g`` of a node for its input ``i``; or None."""
        return None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        self.__dict__[name] = found
        return found


class Backend(Protocol):
    """What the library asks of a device.

    ``xp`` speaks NumPy's names (ufuncs, reductions, ``linalg``, ``lib.stride_tricks``) and adds
    ``erf(x)``, ``scatter_add(target, index, values)`` (in place, duplicates accumulate),
    ``native(record, arrays, params)`` and ``pulled(node, i, g)`` (what kernels make of an operation
    and of its VJP, or None) and ``asarray``. Arrays of the backend are instances of ``array_type``
    and of nothing else.
    """

    name: str
    xp: Any

    @property
    def array_type(self) -> type[Any]:
        """The type of this backend's arrays."""

    def asarray(self, data: Any, dtype: Any = None) -> Any:
        """A fresh array of this backend with the values of ``data`` (host or own array)."""

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """The values as a NumPy array; a copy only where the device is not the host."""

    def devices(self) -> list[str]:
        """The devices this backend offers, the default one first, e.g. ``["cuda", "cuda:0"]``."""

    def device_of(self, array: Any) -> str:
        """The device on which ``array`` lives."""


_backends: dict[str, Backend] = {}
_homes: dict[type, Backend] = {}
_loaders: dict[str, Callable[[], Backend]] = {}
#: array type -> namespace: the one table that says how a primitive's forward rule is run.
namespaces: dict[type, Any] = {}


def register_backend(backend: Backend) -> None:
    """Make ``backend`` known: its devices can be named, its arrays put into Tensors."""
    for device in backend.devices():
        _backends[device] = backend
    _homes[backend.array_type] = backend
    namespaces[backend.array_type] = backend.xp


def register_loader(device: str, load: Callable[[], Backend]) -> None:
    """Have ``load`` called, once, when ``device`` is first named (heavy imports stay out)."""
    _loaders[device] = load


def backends() -> dict[str, Backend]:
    """The registered backends by device name."""
    return dict(_backends)


def backend_for(device: str) -> Backend:
    """The backend of a device name; raises DeviceError where there is none."""
    if not isinstance(device, str):
        raise DTypeError(f"a device is named by a string such as 'cpu' or 'cuda:1', not {device!r}")
    kind = device.split(":")[0]
    if device not in _backends and kind in _loaders:
        register_backend(_loaders[kind]())
    if device not in _backends:
        raise DeviceError(
            f"device {device!r} is not there; available: {', '.join(sorted(_backends))}"
        )
    return _backends[device]


def backend_of(array: Any) -> Backend:
    """The backend whose array this is; raises DeviceError for a foreign type."""
    for kind in type(array).__mro__:  # a subclass without a backend of its own is at home here too
        if kind in _homes:
            return _homes[kind]
    raise DeviceError(
        f"no values to read: {type(array).__name__} is not an array of any registered backend",
        "   help: inside vmap a tensor stands for one example of many",
    )
