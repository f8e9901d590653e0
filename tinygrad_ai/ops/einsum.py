"""``einsum``: sums of products named by letters, as products of matrices two operands at a time.

The public function brings a call into one plain form: ``...`` becomes letters, a letter that stands
twice in an operand its diagonal, an axis that is broadcast from size 1 goes, a letter that only one
operand knows is summed at once. What is left are contractions of two operands, in the order that
``numpy.einsum_path`` finds cheapest. So the gradients of a product of many operands share their
partial products, and the record needs no other rule than itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_letters
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import contraction
from tinygrad_ai.backend import operands as as_arrays
from tinygrad_ai.errors import DTypeError, ShapeError, user_name
from tinygrad_ai.ops.index import diagonal
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.ops.movement import permute, reshape
from tinygrad_ai.ops.products import in_float32, matmul_
from tinygrad_ai.ops.reduce import sum as sum_over


def _parts(spec: str) -> tuple[str, str, str]:
    operands, out = spec.split("->")
    left, right = operands.split(",")
    return left, right, out


def _contract(xp: Any, a: Any, b: Any, spec: str) -> Any:
    """(batch, rows, summed) times (batch, summed, columns), then the axes put in order."""
    left, right, out = _parts(spec)
    size = dict(zip(left + right, a.shape + b.shape, strict=True))
    batch = [k for k in left if k in right and k in out]
    summed = [k for k in left if k in right and k not in out]
    rows = [k for k in left if k not in right]
    columns = [k for k in right if k not in left]

    def arranged(x: Any, letters: str, *groups: list[str]) -> Any:
        order = [letters.index(k) for group in groups for k in group]
        shape = [math.prod(size[k] for k in group) for group in groups]
        return xp.reshape(xp.transpose(x, order), shape)

    x = arranged(a, left, batch, rows, summed)
    y = arranged(b, right, batch, summed, columns)
    product = xp.matmul(x, y) if summed else x * y
    natural = batch + rows + columns
    product = xp.reshape(product, [size[k] for k in natural])
    return xp.transpose(product, [natural.index(k) for k in out])


#: what ``_contract`` takes of a namespace, as records
_RECORDS = SimpleNamespace(
    matmul=matmul_, reshape=reshape, transpose=lambda x, order: permute(x, axes=tuple(order))
)


def _swapped(spec: str, i: int) -> str:
    """The specification of the rule for operand ``i``: its letters from the output's and the
    other operand's."""
    *operands, out = _parts(spec)
    return f"{out},{operands[1 - i]}->{operands[i]}"


def _batched(size: int, spec: str) -> dict[str, str]:
    """``spec`` with a new letter in front of everything."""
    new = next(k for k in ascii_letters if k not in spec)
    left, right, out = _parts(spec)
    return {"spec": f"{new}{left},{new}{right}->{new}{out}"}


einsum_ = contraction(
    "einsum",
    lambda xp, a, b, *, spec: in_float32(lambda a, b: _contract(xp, a, b, spec), a, b),
    vjp=(
        lambda g, b, spec: einsum_(g, b, spec=_swapped(spec, 0)),
        lambda g, a, spec: einsum_(g, a, spec=_swapped(spec, 1)),
    ),
    batch=_batched,
    lower=Composite(lambda a, b, *, spec: _contract(_RECORDS, a, b, spec)),
    sample=lambda rng: (
        (rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 2, 5))),
        {"spec": "bik,kbj->jbi"},
    ),
    why="an operand collects the gradient times the other one over the letters it lacks",
)


def einsum(spec: str, *operands: Any) -> Any:
    """Sums of products as ``spec`` names them, e.g. ``einsum("bij,bjk->bik", x, y)``.

    NumPy's rules: ``...`` broadcasts, a letter twice in one operand is its diagonal, without ``->``
    the letters that stand once come out in alphabetical order. Any number of operands. Raises
    ShapeError, naming operand and letter, where the specification does not fit the shapes.
    """
    operands = tuple(as_arrays("einsum", (), operands, numbers=False))
    inputs, out = _parsed(spec, operands)
    parts = [
        _with_diagonals(spec, x, letters, k)
        for k, (x, letters) in enumerate(zip(operands, inputs, strict=True))
    ]
    sizes = _sizes(spec, operands, inputs)
    parts = [_without_broadcast(x, letters, sizes) for x, letters in parts]
    missing = set(out).difference(*(letters for _, letters in parts))
    if missing:
        raise ShapeError(f"einsum {spec!r}: output letter {min(missing)!r} is in no operand")
    for chosen in _path(parts, out):
        picked = [parts.pop(k) for k in sorted(chosen, reverse=True)]
        kept = set(out).union(*(letters for _, letters in parts))
        merged = picked[0]
        for k, other in enumerate(picked[1:], 2):
            merged = _merge(merged, other, kept.union(*(letters for _, letters in picked[k:])))
        parts.append(merged)
    ((x, letters),) = parts
    x, letters = _summed(x, letters, set(out))
    order = tuple(letters.index(k) for k in out)
    return x if order == tuple(range(len(order))) else permute(x, axes=order)


def _merge(left: tuple[Any, str], right: tuple[Any, str], kept: set[str]) -> tuple[Any, str]:
    """Two operands contracted to one that has the letters ``kept`` needs."""
    a, first = _summed(*left, kept | set(right[1]))
    b, second = _summed(*right, kept | set(first))
    out = "".join(dict.fromkeys(k for k in first + second if k in kept))
    return einsum_(a, b, spec=f"{first},{second}->{out}"), out


def _summed(x: Any, letters: str, kept: set[str]) -> tuple[Any, str]:
    """``x`` summed over the letters that nothing else needs."""
    gone = tuple(k for k, letter in enumerate(letters) if letter not in kept)
    return (sum_over(x, gone), "".join(k for k in letters if k in kept)) if gone else (x, letters)


def _path(parts: list[tuple[Any, str]], out: str) -> Sequence[Sequence[int]]:
    """Which operands to contract next, again and again, until one is left."""
    if len(parts) <= 2:
        return [tuple(range(len(parts)))] * (len(parts) - 1)
    spec = ",".join(letters for _, letters in parts) + "->" + out
    shapes = [np.broadcast_to(np.float32(0), x.shape) for x, _ in parts]
    return np.einsum_path(spec, *shapes, optimize="greedy")[0][1:]


# ------------------------------------------------------------------------- reading a specification


def _name(x: Any, k: int) -> str:
    return f"operand {k} ({user_name(x)})" if user_name(x) else f"operand {k}"


def _parsed(spec: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """The letters of every operand and of the output, with ``...`` written out as new letters."""
    if not isinstance(spec, str):
        raise DTypeError(f"einsum: the specification must be a string, not {spec!r}")
    plain = spec.replace(" ", "")
    arrow = plain.count("->")
    words = plain.replace("->", ",").split(",")
    odd = set(plain.replace("->", "").replace("...", "").replace(",", "")) - set(ascii_letters)
    if odd or arrow > 1 or (arrow and "," in plain.split("->")[1]):
        raise ShapeError(
            f"einsum {spec!r}: expected letters, ',', '...' and at most one '->', as in 'ij,jk->ik'"
        )
    inputs, out = (words[:-1], words[-1]) if arrow else (words, None)
    if len(inputs) != len(operands):
        raise ShapeError(f"einsum {spec!r}: names {len(inputs)} operands, got {len(operands)}")
    free = [k for k in ascii_letters if k not in plain]
    extra = [
        _extra(spec, x, word, k) for k, (x, word) in enumerate(zip(operands, inputs, strict=True))
    ]
    dots = "".join(free[: max(extra)])
    inputs = [w.replace("...", dots[len(dots) - n :]) for w, n in zip(inputs, extra, strict=True)]
    if out is None:
        letters = plain.replace("...", "").replace(",", "")
        out = dots + "".join(sorted(k for k in set(letters) if letters.count(k) == 1))
    elif "..." not in out and dots:
        raise ShapeError(
            f"einsum {spec!r}: the output must have '...' too, to hold {len(dots)} axes"
        )
    out = out.replace("...", dots)
    twice = [k for k in out if out.count(k) > 1]
    if twice:
        raise ShapeError(f"einsum {spec!r}: output letter {twice[0]!r} stands twice")
    return inputs, out


def _extra(spec: str, x: Any, word: str, k: int) -> int:
    """How many axes of ``x`` the ``...`` in ``word`` stands for."""
    named = len(word.replace("...", ""))
    extra = np.ndim(x) - named
    if word.count("...") > 1 or extra < 0 or (extra and "..." not in word):
        raise ShapeError(
            f"einsum {spec!r}: {_name(x, k)} has shape {np.shape(x)}, {np.ndim(x)} axes, but "
            f"{word!r} names {named}"
        )
    return extra


def _sizes(spec: str, operands: Sequence[Any], inputs: Sequence[str]) -> dict[str, int]:
    """The size of every letter; raises ShapeError where two operands disagree."""
    found: dict[str, tuple[int, int]] = {}
    for k, (x, letters) in enumerate(zip(operands, inputs, strict=True)):
        for letter, n in zip(letters, x.shape, strict=True):
            size, first = found.setdefault(letter, (n, k))
            if size == 1 != n:
                found[letter] = n, k
            elif n not in (1, size):
                named = f"letter {letter!r}" if letter in spec else "an axis of '...'"
                raise ShapeError(
                    f"einsum {spec!r}: {named} has size {size} in {_name(operands[first], first)} "
                    f"{operands[first].shape} and {n} in {_name(x, k)} {x.shape}"
                )
    return {letter: size for letter, (size, _) in found.items()}


def _with_diagonals(spec: str, x: Any, letters: str, k: int) -> tuple[Any, str]:
    """``x`` with the diagonal taken of axes that share a letter; diagonals stand last."""
    for letter in letters:
        while letters.count(letter) > 1:
            i = letters.index(letter)
            j = letters.index(letter, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(
                    f"einsum {spec!r}: letter {letter!r} names axes of sizes {x.shape[i]} and "
                    f"{x.shape[j]} of {_name(x, k)} {x.shape}"
                )
            x = diagonal(x, 0, i, j)
            letters = letters[:i] + letters[i + 1 : j] + letters[j + 1 :] + letter
    return x, letters


def _without_broadcast(x: Any, letters: str, sizes: dict[str, int]) -> tuple[Any, str]:
    """``x`` without the axes of size 1 whose letter is larger elsewhere."""
    kept = [
        k for k, (n, letter) in enumerate(zip(x.shape, letters, strict=True)) if n == sizes[letter]
    ]
    if len(kept) == x.ndim:
        return x, letters
    return reshape(x, tuple(x.shape[k] for k in kept)), "".join(letters[k] for k in kept)
