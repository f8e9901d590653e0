"""Scalar expressions: "arrays" of one symbolic element, from which kernels are generated.

Running a forward or VJP rule on expressions records it. Names, dtypes and promotion are NumPy's
own: an operation is named after its ufunc, and the ufunc says what it does to dtypes. Equal
expressions are one object, so a shared subexpression is computed once. A ufunc listed in
``EXPANSIONS`` is written with simpler ones, so that code generators need not know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tinygrad_ai.backend.base import Namespace, namespaces
from tinygrad_ai.errors import DTypeError, GraphError

INT = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)


def _operator(ufunc: np.ufunc) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The method of an operator, and the one for the operand on its right."""
    return lambda *args: apply(ufunc, *args), lambda b, a: apply(ufunc, a, b)


class Expr:
    """An immutable node: ``op`` on ``args``, with ``dtype``; made once for equal contents.

    Leaves are ``const`` (``attr``: the Python value), ``index`` (``attr``: the number of a loop)
    and ``symbol`` (``attr``: a name); ``load`` (``attr``: the number of an operand) has the offset
    of an element as its argument. Comparisons give expressions: compare identity with ``is``.
    """

    __slots__ = ("__weakref__", "args", "attr", "dtype", "op")
    __array_ufunc__ = None  # NumPy arrays and scalars leave the operators to us
    op: str
    args: tuple[Expr, ...]
    dtype: np.dtype[Any]
    attr: Any

    def __new__(cls, op: str, args: Sequence[Expr], dtype: Any, attr: Any = None) -> Expr:
        dtype = np.dtype(dtype)
        key = (op, tuple(map(id, args)), dtype, repr(attr))  # repr tells -0.0 from 0.0
        found = _made.get(key)
        if found is None:
            found = object.__new__(cls)
            found.op, found.args, found.dtype, found.attr = op, tuple(args), dtype, attr
            _made[key] = found
        return found

    __hash__ = object.__hash__
    __add__, __radd__ = _operator(np.add)
    __sub__, __rsub__ = _operator(np.subtract)
    __mul__, __rmul__ = _operator(np.multiply)
    __truediv__, __rtruediv__ = _operator(np.divide)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide)
    __mod__, __rmod__ = _operator(np.remainder)
    __pow__, __rpow__ = _operator(np.power)
    __and__, __rand__ = _operator(np.bitwise_and)
    __or__, __ror__ = _operator(np.bitwise_or)
    __xor__, __rxor__ = _operator(np.bitwise_xor)
    __eq__, __ne__ = _operator(np.equal)[0], _operator(np.not_equal)[0]
    __lt__, __gt__ = _operator(np.less)[0], _operator(np.greater)[0]
    __le__, __ge__ = _operator(np.less_equal)[0], _operator(np.greater_equal)[0]
    __neg__, __pos__ = _operator(np.negative)[0], _operator(np.positive)[0]
    __abs__, __invert__ = _operator(np.absolute)[0], _operator(np.invert)[0]

    def __bool__(self) -> bool:
        raise GraphError(
            "the truth of a symbolic element is not known while code is generated",
            "   help: choose with where(condition, a, b)",
        )

    def __repr__(self) -> str:
        return "\n".join(f"v{k} = {line}" for k, line in enumerate(_listing(order([self]))))

    def astype(self, dtype: Any) -> Expr:
        """The value in another dtype."""
        return cast(self, np.dtype(dtype))


_made: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()


def order(roots: Iterable[Expr], enter: Callable[[Expr], bool] = lambda e: True) -> list[Expr]:
    """The nodes below ``roots``, arguments first; those that ``enter`` refuses are not entered."""
    seen: set[Expr] = set()
    done: list[Expr] = []
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if enter(node):
                stack.extend((a, False) for a in reversed(node.args))
    return done


def _listing(nodes: list[Expr]) -> Iterable[str]:
    names = {node: f"v{k}" for k, node in enumerate(nodes)}
    for node in nodes:
        words = [] if node.attr is None else [repr(node.attr)]
        yield f"{' '.join([node.op, *words, *(names[a] for a in node.args)])} : {node.dtype}"


def const(value: Any, dtype: Any) -> Expr:
    """A constant, rounded to ``dtype``."""
    return Expr("const", (), dtype, np.dtype(dtype).type(value).item())


def cast(value: Any, dtype: np.dtype[Any]) -> Expr:
    """An expression, Python number or NumPy scalar as an expression of ``dtype``."""
    if _kind(value) == dtype and isinstance(value, Expr):
        return value
    if not isinstance(value, Expr):
        return const(value, dtype)
    return const(value.attr, dtype) if value.op == "const" else Expr("astype", (value,), dtype)


@cache
def _resolve(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    return ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))


def _kind(value: Any) -> Any:
    """What promotion sees: a dtype, or the type of a weak Python number."""
    if isinstance(value, Expr | np.generic):
        return value.dtype
    if not isinstance(value, bool | int | float):
        raise DTypeError(f"{type(value).__name__} cannot be part of a scalar expression")
    return BOOL if isinstance(value, bool) else type(value)


def apply(ufunc: np.ufunc, *args: Any) -> Expr:
    """``ufunc`` on expressions and numbers, with NumPy's promotion."""
    *wanted, result = _resolve(ufunc, tuple(map(_kind, args)))
    name = ufunc.__name__
    if name.startswith("logical_"):
        wanted = [BOOL] * len(args)
    operands = [cast(a, dtype) for a, dtype in zip(args, wanted, strict=True)]
    if wanted[0] == BOOL:
        name = BOOLEAN.get(name, name)
    expand = EXPANSIONS.get(name)
    return expand(*operands) if expand else Expr(name, operands, result)


def where(condition: Any, a: Any, b: Any) -> Expr:
    """``a`` where ``condition`` holds, else ``b``."""
    dtype = np.result_type(*(v.dtype if isinstance(v, Expr) else v for v in (a, b)))
    return Expr("where", (cast(condition, BOOL), cast(a, dtype), cast(b, dtype)), dtype)


def _special(name: str, x: Expr) -> Expr:
    """A function that NumPy lacks, typed as the NumPy backend types it."""
    dtype = np.result_type(x.dtype, np.float16)
    return Expr(name, (cast(x, dtype),), dtype)


class _Ufuncs:
    def __getattr__(self, name: str) -> Callable[..., Expr]:
        ufunc = getattr(np, name)
        if not isinstance(ufunc, np.ufunc):
            raise AttributeError(f"np.{name} is not elementwise")
        return partial(apply, ufunc)


xp: Any = Namespace(
    _Ufuncs(),
    where=where,
    erf=partial(_special, "erf"),
    erfc=partial(_special, "erfc"),
    clip=lambda x, low, high: xp.minimum(xp.maximum(x, low), high),
    zeros_like=lambda x: const(0, x.dtype),
    asarray=lambda value, dtype: cast(value, np.dtype(dtype)),
)

#: What arithmetic and logic mean for booleans (other operands of logic are converted to them).
BOOLEAN = {
    "add": "bitwise_or", "maximum": "bitwise_or", "logical_or": "bitwise_or",
    "multiply": "bitwise_and", "minimum": "bitwise_and", "logical_and": "bitwise_and",
    "logical_xor": "bitwise_xor", "logical_not": "invert",
}  # fmt: skip


def _divisor(b: Expr) -> Expr:
    """``b``, or 1 where C's integer division traps: at 0, and at -1 for the smallest integer."""
    return where((b == 0) | (b == -1), 1, b)


def _remainder(a: Any, b: Any) -> Expr:
    """The remainder with the sign of ``b``: C's, moved by ``b`` where the signs differ."""
    if a.dtype.kind == "i":
        b = _divisor(b)
    m = xp.fmod(a, b)
    moved = where((m != 0) & ((m < 0) ^ (b < 0)), m + b, m)
    return moved if a.dtype.kind == "i" else where(m == 0, xp.copysign(0, b), moved)


def _floor_divide(a: Any, b: Any) -> Expr:
    """⌊a/b⌋ from the exact remainder, as NumPy has it; integers over 0 give 0."""
    whole_numbers = a.dtype.kind == "i"
    divisor = _divisor(b) if whole_numbers else b
    m = xp.fmod(a, divisor)
    d = Expr("quotient", (a, divisor), a.dtype) if whole_numbers else (a - m) / b
    d = where((m != 0) & ((m < 0) ^ (b < 0)), d - 1, d)
    if whole_numbers:
        return where(b == 0, 0, where(b == -1, -a, d))
    whole = xp.floor(d)
    whole = where(d - whole > 0.5, whole + 1, whole)
    return where(b == 0, a / b, where(d == 0, xp.copysign(0, a / b), whole))


#: Powers that are less work, as NumPy has them: as exact, or nearly.
POWERS: dict[Any, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a * a,
    3: lambda a: a * a * a,
    0.5: lambda a: xp.sqrt(a),
    -1: lambda a: 1 / a,
}


def _power(a: Any, b: Any) -> Expr:
    easy = POWERS.get(b.attr) if b.op == "const" else None
    made = Expr("power", (a, b), a.dtype) if easy is None else easy(a)
    return made if made.dtype == a.dtype else Expr("power", (a, b), a.dtype)


def _logaddexp(a: Any, b: Any) -> Expr:
    apart = xp.maximum(a, b) + xp.log1p(xp.exp(-abs(a - b)))
    return where(a == b, a + math.log(2), apart)  # also two equal infinities


def _absolute(x: Any) -> Expr:
    return Expr("absolute", x.args if x.op == "negative" else (x,), x.dtype)  # |-x| is |x|


EXPANSIONS: dict[str, Callable[..., Expr]] = {
    "absolute": _absolute,
    "positive": lambda x: x,
    "sign": lambda x: where(x > 0, 1, where(x < 0, -1, where(x == 0, 0, x))),
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == math.inf,
    "isfinite": lambda x: abs(x) < math.inf,
    "remainder": _remainder,
    "floor_divide": _floor_divide,
    "power": _power,
    "logaddexp": _logaddexp,
}

namespaces[Expr] = xp  # from here on a primitive called on expressions gives an expression
