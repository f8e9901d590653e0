"""How a framework is asked for values and gradients: ``call`` and ``vjp`` on NumPy arrays.

The checker and the properties know only this protocol. A framework of your own takes ten lines::

    class Mine(Adapter):
        name = "mine"
        def owns(self, value): return isinstance(value, mine.Array)
        def call(self, f, arrays): return outputs(f(*map(mine.array, arrays)), np.asarray)
        def vjp(self, f, arrays, cotangents):
            y, back = mine.vjp(f, *map(mine.array, arrays))
            return [np.asarray(g) for g in back(cotangents)]
    register_adapter(Mine())
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import no_grad, pull_back
from tinygrad_ai.errors import DTypeError, TinygradError, ValueRangeError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms import vjp as tensor_vjp
from tinygrad_ai.transforms.tree import flatten

Arrays = list[np.ndarray[Any, Any]]
Function = Callable[..., Any]


class CheckError(TinygradError, ValueError):
    """A function or an argument that cannot be checked, with the reason."""


class Adapter:
    """What the checker asks of a framework; arrays in and out are NumPy's."""

    name = "abstract"
    composes = True  #: whether ``vjp`` differentiates any function, one that calls ``f`` too

    def owns(self, value: Any) -> bool:
        """Whether ``value`` is a tensor or a module of this framework."""
        return False

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        """A tensor of the framework as a NumPy array."""
        return np.asarray(value)

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        """The floating-point outputs of ``f`` at ``arrays``, flattened into a list."""
        raise NotImplementedError

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """For each input its gradient (None: nothing flows to it) for these cotangents."""
        raise NotImplementedError

    def pullback(self, f: Function, inputs: int) -> Function:
        """``(*inputs, *cotangents) -> gradients`` as a function of the framework itself."""
        raise CheckError(f"second order: the adapter {self.name!r} cannot differentiate gradients")

    def reset(self) -> Callable[[], None]:
        """A function that sets the framework's random generator back to where it is now."""
        return lambda: None


def outputs(y: Any, convert: Callable[[Any], Any]) -> Arrays:
    """The floating-point leaves of a function's result, converted; raises CheckError if none."""
    leaves = flatten(y)[0]
    if y is None or not leaves:
        raise CheckError("the function returns None; it must return a tensor or several")
    found = [np.asarray(convert(leaf)) for leaf in leaves]
    if any(a.dtype.kind == "c" for a in found):
        raise CheckError("complex outputs cannot be checked: split them into real and imaginary")
    real = [a for a in found if a.dtype.kind == "f"]
    if not real:
        raise CheckError(f"the function returns {found[0].dtype}, which has no gradient")
    return real


class TinygradAdapter(Adapter):
    """This library, eagerly."""

    name = "tinygrad_ai"

    @property
    def compiled(self) -> Any:
        """The adapter of the same functions through ``jit``."""
        return adapter_named("compiled")

    def owns(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        return value.numpy() if isinstance(value, Tensor) else np.asarray(value)

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with no_grad():
            return outputs(f(*map(Tensor, arrays)), self.numpy)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        return self.pulled(f, self.inputs(arrays), cotangents)

    def inputs(self, arrays: Sequence[Any]) -> list[Tensor]:
        """Tensors of the arrays; those of real numbers require gradients."""
        return [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]

    def pulled(self, f: Function, inputs: list[Tensor], cotangents: Sequence[Any]) -> list[Any]:
        """The gradients at ``inputs``, as tensors where the cotangents are, else as arrays."""
        leaves = [t for t in flatten(f(*inputs))[0] if _is_float(t)]
        roots: dict[Any, Any] = {}
        for leaf, v in zip(leaves, cotangents, strict=True):
            if isinstance(leaf, Tensor) and leaf.node is not None:
                roots[leaf.node] = roots[leaf.node] + v if leaf.node in roots else v
        nodes = [t.node for t in inputs]
        lift = any(isinstance(v, Tensor) for v in cotangents)
        found = pull_back(roots, [n for n in nodes if n is not None], lift=lift, record=False)
        return [None if n is None else found.get(n) for n in nodes]

    def pullback(self, f: Function, inputs: int) -> Function:
        def gradients(*values: Tensor) -> Any:
            out, back = tensor_vjp(f, *values[:inputs])
            leaves, rebuild = flatten(out)
            rest = iter(values[inputs:])
            given = [next(rest) if _is_float(leaf) else np.zeros(leaf.shape) for leaf in leaves]
            return back(rebuild(given))

        return gradients

    def reset(self) -> Callable[[], None]:
        state = random.generator().state_dict()
        return lambda: random.generator().load_state_dict(state)


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and leaf.dtype.kind == "f"


class NumpyAdapter(Adapter):
    """A rule written by hand: ``f(*arrays)`` beside ``vjp(g, *arrays)``, both plain NumPy."""

    name = "numpy"
    composes = False

    def __init__(self, rule: Function | None = None) -> None:
        self.rule = rule

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with np.errstate(all="ignore"):
            return outputs(f(*arrays), np.asarray)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        if self.rule is None:
            raise CheckError("a NumPy function has no gradient: pass its rule as vjp=")
        g = cotangents[0] if len(cotangents) == 1 else tuple(cotangents)
        with np.errstate(all="ignore"):
            made = self.rule(g, *arrays)
        found = list(made) if isinstance(made, tuple | list) else [made]
        if len(found) != len(arrays):
            raise CheckError(
                f"vjp= returned {len(found)} gradients for {len(arrays)} arguments",
                "   help: return one for each argument, None for one that has none",
            )
        return [None if x is None else np.asarray(x) for x in found]


class TorchAdapter(Adapter):
    """PyTorch: functions of torch tensors, modules included."""

    name = "torch"

    def __init__(self, torch: ModuleType) -> None:
        self.torch = torch

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.torch.Tensor | self.torch.nn.Module)

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)

    def _inputs(self, arrays: Sequence[Any], grad: bool) -> list[Any]:
        return [
            self.torch.tensor(np.array(a, order="C")).requires_grad_(grad and a.dtype.kind == "f")
            for a in arrays
        ]

    def _floats(self, y: Any) -> list[Any]:
        return [
            t for t in flatten(y)[0] if hasattr(t, "is_floating_point") and t.is_floating_point()
        ]

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with self.torch.no_grad():
            return outputs(f(*self._inputs(arrays, False)), self.numpy)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        inputs = self._inputs(arrays, True)
        pairs = [
            (y, self.torch.tensor(np.array(v, order="C")).to(y.dtype))
            for y, v in zip(self._floats(f(*inputs)), cotangents, strict=True)
            if y.requires_grad
        ]
        wanted = [x for x in inputs if x.requires_grad]
        if not pairs or not wanted:
            return [None] * len(inputs)
        ys, vs = zip(*pairs, strict=True)
        found = iter(self.torch.autograd.grad(ys, wanted, vs, allow_unused=True))
        return [
            None if not x.requires_grad or (g := next(found)) is None else g.numpy() for x in inputs
        ]

    def pullback(self, f: Function, inputs: int) -> Function:
        def gradients(*values: Any) -> Any:
            xs = [x if x.requires_grad else x.requires_grad_() for x in values[:inputs]]
            with self.torch.enable_grad():
                ys = self._floats(f(*xs))
                return self.torch.autograd.grad(
                    ys, xs, list(values[inputs:]), create_graph=True, materialize_grads=True
                )

        return gradients

    def reset(self) -> Callable[[], None]:
        state = self.torch.get_rng_state()
        return lambda: self.torch.set_rng_state(state)


class JaxAdapter(Adapter):
    """JAX: functions of jax arrays, in float64 where the inputs are."""

    name = "jax"

    def __init__(self, jax: ModuleType) -> None:
        self.jax = jax

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.jax.Array)

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with self.jax.enable_x64(True):
            return outputs(f(*map(self.jax.numpy.asarray, arrays)), np.asarray)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        with self.jax.enable_x64(True):
            moving = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]

            def of_floats(*xs: Any) -> list[Any]:
                full = list(map(self.jax.numpy.asarray, arrays))
                for k, x in zip(moving, xs, strict=True):
                    full[k] = x
                return [y for y in flatten(f(*full))[0] if _is_float(y)]

            _, back = self.jax.vjp(of_floats, *(self.jax.numpy.asarray(arrays[k]) for k in moving))
            found = iter(back([self.jax.numpy.asarray(v) for v in cotangents]))
            return [np.asarray(next(found)) if k in moving else None for k in range(len(arrays))]

    def pullback(self, f: Function, inputs: int) -> Function:
        def gradients(*values: Any) -> Any:
            _, back = self.jax.vjp(lambda *xs: flatten(f(*xs))[0], *values[:inputs])
            return back(list(values[inputs:]))

        return gradients


class AutogradAdapter(Adapter):
    """HIPS autograd: functions written with ``autograd.numpy``."""

    name = "autograd"

    def __init__(self, autograd: ModuleType) -> None:
        self.autograd = autograd

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with np.errstate(all="ignore"):
            return outputs(f(*arrays), np.asarray)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for k, a in enumerate(arrays):
            if a.dtype.kind != "f":
                found.append(None)
                continue
            with np.errstate(all="ignore"):
                back, y = self.autograd.make_vjp(f, k)(*arrays)
                several = isinstance(y, tuple | list)
                g: Any = type(y)(cotangents) if several else cotangents[0]
                found.append(np.asarray(back(g if several or np.ndim(g) else float(g))))
        return found

    def pullback(self, f: Function, inputs: int) -> Function:
        def gradients(*values: Any) -> Any:
            g = values[inputs]
            return tuple(
                self.autograd.make_vjp(f, k)(*values[:inputs])[0](g) for k in range(inputs)
            )

        return gradients


_REGISTERED: dict[str, Adapter] = {"tinygrad_ai": TinygradAdapter(), "numpy": NumpyAdapter()}
_FRAMEWORKS: dict[str, Callable[[ModuleType], Adapter]] = {
    "torch": TorchAdapter,
    "jax": JaxAdapter,
    "autograd": AutogradAdapter,
}


def register_adapter(adapter: Adapter) -> None:
    """Make an adapter known by its name and to values that it owns."""
    _REGISTERED[adapter.name] = adapter


def adapter_named(name: str) -> Adapter:
    """The adapter of a framework; raises CheckError where it is unknown or not installed."""
    if name not in _REGISTERED and name in _FRAMEWORKS:
        try:
            module = __import__(name)
        except ImportError:
            raise CheckError(f"the adapter {name!r} needs the package {name}") from None
        register_adapter(_FRAMEWORKS[name](module))
    if name not in _REGISTERED:
        known = ", ".join(sorted({*_REGISTERED, *_FRAMEWORKS}))
        raise CheckError(f"no adapter {name!r}; there are: {known}")
    return _REGISTERED[name]


def adapter_for(values: Sequence[Any]) -> Adapter:
    """The adapter of the framework whose tensors or modules stand among ``values``.

    Plain arrays and numbers are taken for this library's.
    """
    for name in _FRAMEWORKS:
        if name in sys.modules:
            adapter_named(name)
    for adapter in _REGISTERED.values():
        if any(adapter.owns(value) for value in values):
            return adapter
    return _REGISTERED["tinygrad_ai"]


def checked_array(value: Any, adapter: Adapter) -> np.ndarray[Any, Any]:
    """An argument as a NumPy array; raises DTypeError for complex and other foreign dtypes."""
    array = np.asarray(adapter.numpy(value) if adapter.owns(value) else value)
    if array.dtype.kind == "c":
        raise DTypeError(
            "complex arguments cannot be checked",
            "   help: write the function of the real and the imaginary part",
        )
    if array.dtype.kind not in "fiub":
        raise ValueRangeError(f"an argument is {array.dtype}; arrays of numbers can be checked")
    return array
