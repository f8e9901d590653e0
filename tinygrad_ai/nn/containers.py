"""Modules made of modules: in a row, or in a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Self

from tinygrad_ai.errors import DTypeError, IndexRangeError
from tinygrad_ai.nn.module import Module


class _Listed(Module):
    """Modules as the attributes "0", "1", …, or under names of their own."""

    def _add(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise DTypeError(
                f"{type(self).__name__} holds modules, not {type(module).__name__}",
                "   help: nn.ReLU() is the module of relu" if callable(module) else "",
            )
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Add ``module`` at the end, under the first free number from its position on."""
        self._add(next(str(k) for k in count(len(self)) if str(k) not in vars(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self.children()))

    def __getitem__(self, key: int | slice) -> Any:
        """The module at a position, or for a slice a container of the same kind."""
        listed = list(self)
        if isinstance(key, slice):
            return type(self)._of(listed[key])
        if not -len(listed) <= key < len(listed):
            raise IndexRangeError(f"{type(self).__name__} has {len(listed)} modules, not a {key}")
        return listed[key]

    @classmethod
    def _of(cls, modules: list[Module]) -> Self:
        raise NotImplementedError


class Sequential(_Listed):
    """Modules called one after the other: ``Sequential(a, b)(x)`` is ``b(a(x))``.

    A dict of modules gives them names.
    """

    def __init__(self, *modules: Any) -> None:
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        pairs = modules[0].items() if named else enumerate(modules)
        for name, module in pairs:
            self._add(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self.children():
            input = module(input)
        return input

    @classmethod
    def _of(cls, modules: list[Module]) -> Self:
        return cls(*modules)


class ModuleList(_Listed):
    """A list of modules whose parameters the module around it finds."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add all ``modules`` at the end."""
        for module in modules:
            self.append(module)
        return self

    @classmethod
    def _of(cls, modules: list[Module]) -> Self:
        return cls(modules)
