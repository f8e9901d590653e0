"""Module: parameters, buffers and other modules kept as ordinary attributes of one object.

Nothing is registered behind the scenes: a module's parameters are its attributes that are
Parameters, in the order in which they were set, and its children those that are Modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, Self

import numpy as np

from tinygrad_ai.autodiff import mode, no_grad
from tinygrad_ai.backend import backend_for, backend_of, namespaces
from tinygrad_ai.dtypes import check
from tinygrad_ai.errors import DTypeError, ShapeError, user_line, user_name, warn_user
from tinygrad_ai.nn.summary import summarize
from tinygrad_ai.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a module trains: it requires gradients, and its name is the attribute's."""

    __slots__ = ()

    def __init__(
        self,
        data: Any,
        requires_grad: bool = True,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        super().__init__(data, requires_grad, dtype, device)


class Unmatched(NamedTuple):
    """What ``load_state_dict(strict=False)`` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and models: assign parameters and layers, write ``forward``.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         self.fc1 = nn.Linear(784, 128)
    ...         self.fc2 = nn.Linear(128, 10)
    ...     def forward(self, x):
    ...         return self.fc2(self.fc1(x).relu())

    ``training`` is what dropout and batch normalisation look at; see ``train`` and ``eval``.
    """

    training: bool = True
    _buffer_names: tuple[str, ...] = ()
    _unsaved: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward``; an error in it gets a note that says in which module, by its path."""
        try:
            return self.forward(*args, **kwargs)
        except Exception as error:
            _say_where(self, error)
            raise

    # ------------------------------------------------------------------------------ attributes

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and isinstance(value, Tensor):
            if not isinstance(value, Parameter):
                raise DTypeError(
                    f"{type(self).__name__}.{name} is a Parameter; a Tensor in its place would not "
                    "be trained",
                    "   help: nn.Parameter(tensor) makes one",
                )
        elif name in self._buffer_names and value is not None and not isinstance(value, Tensor):
            raise DTypeError(f"{type(self).__name__}.{name} is a buffer and must stay a Tensor")
        if isinstance(value, Parameter) and value.name is None:
            value.name = name
        if isinstance(value, list | tuple) and any(isinstance(v, Module) for v in value):
            warn_user(
                f"{type(self).__name__}.{name} is a plain {type(value).__name__} of modules, whose "
                "parameters are not found; nn.ModuleList holds modules"
            )
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        close = get_close_matches(name, [n for n in dir(self) if not n.startswith("_")], 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep ``tensor`` as attribute ``name``: saved and moved with the module, not trained.

        With ``persistent=False`` it is not saved: the constructor computes it again.
        """
        self._buffer_names = (*self._buffer_names, name)
        self._unsaved = (*self._unsaved, *([] if persistent else [name]))
        setattr(self, name, tensor)

    # --------------------------------------------------------------------------- what is inside

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one, by name."""
        return ((name, v) for name, v in vars(self).items() if isinstance(v, Module))

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (named ``prefix``) and all below it by dotted path, each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            stack.extend(reversed([(_join(path, n), m) for n, m in module.named_children()]))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters that are attributes of this very module, by name."""
        return ((name, v) for name, v in vars(self).items() if isinstance(v, Parameter))

    def own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers of this very module, by name."""
        pairs = ((name, getattr(self, name)) for name in self._buffer_names)
        return ((name, v) for name, v in pairs if v is not None)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters by dotted path; one that is shared comes once."""
        return self._each_once(Module.own_parameters)

    def parameters(self) -> Iterator[Parameter]:
        """All parameters; one that is shared comes once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers by dotted path; one that is shared comes once."""
        return self._each_once(Module.own_buffers)

    def buffers(self) -> Iterator[Tensor]:
        """All buffers; one that is shared comes once."""
        return (buffer for _, buffer in self.named_buffers())

    def _each_once(self, own: Callable[[Module], Iterator[Any]]) -> Iterator[Any]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, tensor in own(module):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield _join(path, name), tensor

    # -------------------------------------------------------------------------- saving, loading

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by dotted path, in PyTorch's order and under its names.

        The tensors share the module's memory; a parameter that is shared stands under all its
        names.
        """
        return dict(self._state(""))

    def _state(self, path: str) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in (*self.own_parameters(), *self.own_buffers()):
            if name not in self._unsaved:
                yield _join(path, name), tensor.detach()
        for name, child in self.named_children():
            yield from child._state(_join(path, name))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Unmatched:
        """Copy the values of ``state_dict`` (Tensors or arrays) into parameters and buffers.

        They take on dtype and device of what is there. With ``strict=False`` missing and
        unexpected entries are left alone, and returned. Raises ShapeError that names every entry
        that is missing, unexpected or of another shape, DTypeError for what is no dict of Tensors
        or arrays of real numbers; then nothing has been loaded.
        """
        if not isinstance(state_dict, Mapping):
            raise DTypeError(
                f"load_state_dict takes a dict of arrays, not a {type(state_dict).__name__}",
                "   help: tinygrad_ai.load(path) reads one from a file",
            )
        mine = self.state_dict()
        missing = [name for name in mine if name not in state_dict]
        unexpected = [name for name in state_dict if name not in mine]
        common = {name: mine[name] for name in mine if name in state_dict}
        raw = {name: _raw(name, state_dict[name]) for name in common}
        misfits = [
            f"{name}: {tuple(raw[name].shape)} in the state, {t.shape} in the module"
            for name, t in common.items()
            if tuple(raw[name].shape) != t.shape
        ]
        if misfits or (strict and (missing or unexpected)):
            raise _state_error(type(self).__name__, missing, unexpected, misfits)
        with no_grad():
            for name, tensor in common.items():
                tensor[...] = Tensor.box(raw[name])
        return Unmatched(missing, unexpected)

    # ------------------------------------------------------------------------------ all at once

    def apply(self, f: Callable[[Module], Any]) -> Self:
        """Call ``f`` on every module below this one, then on this one."""
        for child in self.children():
            child.apply(f)
        f(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all below it: dropout and batch statistics are on."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether gradients are tracked for all parameters; False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str | None = None, dtype: Any = None) -> Self:
        """Move parameters, buffers and gradients to ``device``, floating-point ones to ``dtype``.

        The Parameter objects stay, so an optimiser made before goes on with them.
        """
        wanted = None if dtype is None else check(dtype)
        for tensor in (*self.parameters(), *self.buffers()):
            _move(tensor, device, wanted)
            if tensor.grad is not None:
                _move(tensor.grad, device, wanted)
        return self

    # ----------------------------------------------------------------------------------- to see

    def extra_repr(self) -> str:
        """What stands in the parentheses of ``repr``: the layer's settings."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
        ]
        inside = "\n" + "\n".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"

    def summary(self, input_shape: tuple[int, ...] | None = None, dtype: Any = None) -> str:
        """A table of the layers: output shapes, and parameters with their arithmetic.

        Args:
            input_shape: the shape of an input, batch axis first; zeros of it are sent through the
                module, in evaluation mode and without gradients, to see the output shapes.
            dtype: of that input, float32 by default; an embedding needs an integer one.
        """
        return summarize(self, input_shape, dtype)


def _join(path: str, name: str) -> str:
    return ".".join(filter(None, (path, name)))


def _raw(name: str, value: Any) -> Any:
    """The array of an entry of a state; raises DTypeError for what is none of real numbers."""
    array: Any = np.asarray(value) if isinstance(value, np.generic) else value
    array = getattr(array, "array", array)
    if (
        not any(kind in namespaces for kind in type(array).__mro__)
        or array.dtype.kind not in "biuf"
    ):
        kind = getattr(array, "dtype", type(value).__name__)
        raise DTypeError(
            f"load_state_dict: {name} is {kind}, not a Tensor or an array of real numbers",
            "   nothing was loaded",
        )
    check(array.dtype)
    return array


def _move(tensor: Tensor, device: str | None, dtype: Any) -> None:
    here = backend_of(tensor.array)
    target = here if device is None else backend_for(device)
    wanted = dtype if dtype is not None and tensor.dtype.kind == "f" else tensor.dtype
    if target is here and wanted == tensor.dtype:
        return
    if mode.capture is not None:
        mode.capture.refuse("to() of a module", "move or convert it before the step")
    raw = tensor.array if target is here else here.to_numpy(tensor.array)
    tracked, tensor.requires_grad = tensor.requires_grad, False
    tensor.array = target.asarray(raw, dtype=wanted)
    tensor.version[0] += 1
    tensor.requires_grad = tracked  # a new leaf node, which knows the new dtype


def _state_error(
    owner: str, missing: list[str], unexpected: list[str], misfits: list[str]
) -> ShapeError:
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misfits}
    parts = [f"{kind}: {', '.join(names)}" for kind, names in found.items() if names]
    return ShapeError(
        f"load_state_dict: the state does not fit {owner} ({'; '.join(parts)})",
        "   nothing was loaded",
        "" if misfits else "   help: strict=False loads the entries that fit",
    )


def _say_where(module: Module, error: Exception) -> None:
    """Note on ``error`` the path from ``module`` to the innermost module that it went through.

    Each module on the way out replaces the note by a longer path.
    """
    failed, note = getattr(error, "failed_in", (module, None))
    notes = getattr(error, "__notes__", [])
    if note in notes:
        notes.remove(note)
    path = next((path for path, m in module.named_modules() if m is failed), "")
    where = _join(user_name(module) or "model", path)
    note = f"   in {where} ({type(failed).__name__}), {user_line()}"
    error.add_note(note)
    error.failed_in = failed, note  # type: ignore[attr-defined]
