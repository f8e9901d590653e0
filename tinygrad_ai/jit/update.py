"""An optimiser's rule, which changes arrays in place, as an operation that makes new ones.

The rule is run on :class:`Cell`s, which look like arrays that can be changed and hold an
expression of one element. So the code of :mod:`tinygrad_ai.optim.rules` is the only place where
an update is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.backend import NUMPY
from tinygrad_ai.backend.scalar import Expr, cast
from tinygrad_ai.backend.scalar import xp as scalar_xp

DOUBLE = np.dtype(np.float64)
VARYING = float, int  # the types of settings that code is not made for


class Number:
    """A setting of an optimiser: its value decides branches, its expression is computed with."""

    __array_ufunc__ = None

    def __init__(self, expr: Expr, value: float) -> None:
        self.expr, self.value = expr, value

    __eq__ = None  # type: ignore[assignment]  # a comparison would be baked into the code

    def __bool__(self) -> bool:
        return bool(self.value)

    def __mul__(self, other: Any) -> Expr:
        return self.expr * _weak(other)

    def __sub__(self, other: Any) -> Expr:
        return self.expr - _weak(other)

    def __add__(self, other: Any) -> Expr:
        return self.expr + _weak(other)

    def __rsub__(self, other: Any) -> Expr:
        return _weak(other) - self.expr

    __rmul__, __radd__ = __mul__, __add__


def _weak(value: Any) -> Any:
    return value.expr if isinstance(value, Number) else value


class Cell:
    """An array of one symbolic element that can be changed in place."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        self.dtype = expr.dtype

    def value_of(self, other: Any) -> Expr:
        """``other`` as an operand beside this cell: numbers are weak."""
        if isinstance(other, Cell):
            return other.expr
        return cast(_weak(other), self.dtype)

    def __iadd__(self, other: Any) -> Cell:
        self.expr = self.expr + self.value_of(other)
        return self

    def __isub__(self, other: Any) -> Cell:
        self.expr = self.expr - self.value_of(other)
        return self

    def __imul__(self, other: Any) -> Cell:
        self.expr = self.expr * self.value_of(other)
        return self


class _CellNamespace:
    """NumPy's functions with ``out=`` on cells."""

    def __getattr__(self, name: str) -> Callable[..., Cell]:
        function = getattr(scalar_xp, name)

        def call(*args: Any, out: Cell) -> Cell:
            out.expr = cast(function(*map(out.value_of, args)), out.dtype)
            return out

        return call


class Update:
    """The operation ``w', *slots' = update(w, g, *slots, *numbers)`` made of a rule.

    ``numbers`` maps the names of the settings to their present values; ``varying`` are those that
    come as operands, at every call anew.
    """

    kind = "elementwise"

    def __init__(
        self, rule: Callable[..., None], slots: Sequence[str], numbers: dict[str, Any]
    ) -> None:
        self.rule, self.slots = rule, tuple(slots)
        self.name = rule.__name__
        self.numbers = numbers
        self.varying = tuple(k for k, v in numbers.items() if type(v) in VARYING)

    def scalar(self, w: Expr, g: Expr, *rest: Expr) -> tuple[Expr, ...]:
        """New weights and slots as expressions of the old ones."""
        n = len(self.slots)
        slots = {k: Cell(e) for k, e in zip(self.slots, rest[:n], strict=True)}
        loaded = dict(zip(self.varying, rest[n:], strict=True))
        numbers = {k: Number(loaded[k], v) if k in loaded else v for k, v in self.numbers.items()}
        weights = Cell(w)
        scratch = Cell(w), Cell(w)
        self.rule(_CellNamespace(), weights, Cell(g), slots, numbers, *scratch)
        return (weights.expr, *(slots[k].expr for k in self.slots))

    def has_code(self, dtype: np.dtype[Any]) -> bool:
        """Whether the rule can be run on cells of ``dtype``.

        One that adds up a whole array, or compares a number, runs on arrays only.
        """
        symbols = [Expr("symbol", (), dtype, k) for k in ("w", "g", *self.slots)]
        symbols += [Expr("symbol", (), DOUBLE, k) for k in self.varying]
        try:
            self.scalar(*symbols)
        except Exception:  # whatever a rule does with what is no array
            return False
        return True

    def suits(self, numbers: dict[str, Any]) -> bool:
        """Whether the code made for the first numbers is that for these: branches see the truth of
        what varies, and the value of the rest."""
        for name, then in self.numbers.items():
            now = numbers.get(name)
            if now is not then:
                if type(now) in VARYING and type(then) in VARYING:
                    now, then = bool(now), bool(then)
                if type(now) is not type(then) or now != then:
                    return False
        return numbers.keys() == self.numbers.keys()

    def evaluate(self, arrays: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """New weights and slots by NumPy."""
        n = len(self.slots)
        w, g = arrays[0].copy(), arrays[1]
        slots = {k: a.copy() for k, a in zip(self.slots, arrays[2 : 2 + n], strict=True)}
        loaded = (float(a) for a in arrays[2 + n :])
        numbers = {**self.numbers, **dict(zip(self.varying, loaded, strict=True))}
        wide = np.float32 if w.dtype == np.float16 else w.dtype
        new, g = w.astype(wide), g.astype(wide)
        self.rule(NUMPY.xp, new, g, slots, numbers, np.empty_like(new), np.empty_like(new))
        return (new.astype(w.dtype), *slots.values())
