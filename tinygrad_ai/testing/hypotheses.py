"""What slips there are, and what a rule with each of them would return.

A hypothesis looks at the evidence of one argument and yields the causes that would explain it.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.testing.report import Cause

Array = np.ndarray[Any, Any]
SMALL = 400  #: outputs up to which a rule's own matrix is built


@dataclass
class Evidence:
    """One argument whose gradient is wrong: what the rule gave, what it should have given."""

    x: Array
    got: list[Array]  #: by cotangent
    jacobian: Array  #: outputs × elements
    cotangents: list[Array]  #: flattened
    shapes: list[tuple[int, ...]]  #: of the outputs
    inputs: list[Array]
    values: Array  #: the outputs, flattened
    rule: Array | None = None  #: the rule's own matrix, outputs × elements, where it is linear
    redo: Callable[[dict[int, Array]], Array] | None = None  #: the Jacobian at other inputs
    kinks: bool = False
    k: int = 0

    def due(self, v: Array) -> Array:
        """The right gradient for a flattened cotangent."""
        return (v @ self.jacobian).reshape(self.x.shape)

    def explains(self, make: Callable[[Array], Array]) -> bool:
        """Whether ``make(v)`` is what the rule gave, for every cotangent."""
        return all(same(g, make(v)) for g, v in zip(self.got, self.cotangents, strict=True))


def same(a: Array, b: Array, rtol: float = 1e-5) -> bool:
    """Equal up to ``rtol`` of the largest element, and not all zero."""
    if a.shape != b.shape or not np.isfinite(b).all():
        return False
    top = float(abs(b).max(initial=0))
    return top > 0 and bool((abs(a - b) <= rtol * top).all())


def swapped(evidence: dict[int, Evidence]) -> Iterator[Cause]:
    for (i, a), (j, b) in itertools.combinations(evidence.items(), 2):
        if a.x.shape != b.x.shape:
            continue
        crossed = a.explains(b.due) and b.explains(a.due)
        if crossed and not same(a.due(a.cotangents[0]), b.due(b.cotangents[0])):
            yield Cause(
                "swapped_arguments", 0.99, f"the gradients of arguments {i} and {j} are exchanged"
            )


def _zero(e: Evidence) -> Iterator[Cause]:
    if not any(g.any() for g in e.got) and any(e.due(v).any() for v in e.cotangents):
        yield Cause("zero", 0.98, "the gradient is all zeros")


def _sign(e: Evidence) -> Iterator[Cause]:
    if e.explains(lambda v: -e.due(v)):
        yield Cause("sign", 0.99, "the sign is flipped")


def _factor(e: Evidence) -> Iterator[Cause]:
    g, d = np.stack(e.got).ravel(), np.stack([e.due(v) for v in e.cotangents]).ravel()
    big = abs(d) > 1e-6 * abs(d).max(initial=0)
    if not big.any() or (
        not same(g[~big], d[~big] * 0 + g[~big]) and (abs(g[~big]) > 1e-4 * abs(d).max()).any()
    ):
        return
    ratio = g[big] / d[big]
    c = float(np.median(ratio))
    if not np.isfinite(c) or c == 0 or abs(ratio - c).max() > 1e-4 * abs(c):
        return
    if abs(c - 1) < 2e-6:
        return
    if e.values.size == 1 and _power_of(c, float(e.values[0])):
        yield Cause("missing_chain", 0.97, "the derivative of the outer function is missing")
    bad = wrong_places(e)
    if e.kinks and bad.any() and not (bad & ~_tied(e.x)).any():
        yield Cause("tie", 0.98, "wrong only where values tie")
    lengths = {n for a in e.inputs for n in (*a.shape, a.size)} | {
        n for s in e.shapes for n in (*s, int(np.prod(s)))
    }
    for n in sorted(lengths - {0, 1, 2}):
        for value, text in ((float(n), f"{n}"), (1.0 / n, f"1/{n}")):
            if abs(c - value) < 1e-4 * value:
                yield Cause("mean_vs_sum", 0.93, f"off by the factor {text}, the length of an axis")
    yield Cause("factor", 0.95 if abs(c + 1) > 1e-4 else 0.5, f"off by the constant factor {c:.6g}")


def _power_of(c: float, y: float) -> bool:
    """Whether ``c`` is y, y², 1/y… up to a factor of 2."""
    powers = [y, 1 / y if y else np.inf, y * y, np.exp(y)]
    near = any(abs(c - f * p) < 1e-4 * abs(c) for p in powers for f in (0.5, 1.0, 2.0))
    return near and abs(abs(y) - 1) > 1e-3


def _tied(x: Array) -> Array:
    values, counts = np.unique(x, return_counts=True)
    return np.isin(x, values[counts > 1])


def _low_precision(e: Evidence) -> Iterator[Cause]:
    worst = 0.0
    for g, v in zip(e.got, e.cotangents, strict=True):
        d = e.due(v)
        top = abs(d).max(initial=0)
        if top == 0 or not np.isfinite(g).all():
            return
        terms = (abs(v) @ abs(e.jacobian)).reshape(d.shape)
        worst = max(worst, float((abs(g - d) / np.maximum(terms, 1e-30 * top + 1e-300)).max()))
    if 1e-12 < worst < 5e-6:
        yield Cause(
            "low_precision", 0.9, f"right to {worst:.1g} only: float32 inside a float64 rule"
        )


def _cotangent(e: Evidence) -> Iterator[Cause]:
    if e.explains(lambda v: e.due(np.ones_like(v))):
        yield Cause("ones_cotangent", 0.985, "the incoming gradient is ignored")
    for name, reduce in (("sum", np.sum), ("mean", np.mean)):
        if e.jacobian.shape[0] > 1 and e.explains(_through(e, functools.partial(_filled, reduce))):
            yield Cause("ones_cotangent", 0.98, f"the incoming gradient is replaced by its {name}")
    if same(e.got[0], e.got[1]) and not same(e.due(e.cotangents[0]), e.due(e.cotangents[1])):
        yield Cause("ones_cotangent", 0.8, "the gradient does not depend on the incoming one")
    for make, text in ((abs, "|g|"), (_positive, "max(g, 0)")):
        if e.explains(_through(e, make)):
            yield Cause("abs_cotangent", 0.985, f"{text} is used in the place of g")


def _through(e: Evidence, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda v: e.due(change(v))


def _filled(reduce: Callable[[Array], Any], v: Array) -> Array:
    return np.full_like(v, reduce(v))


def _positive(v: Array) -> Array:
    return np.maximum(v, 0)


def _moved(e: Evidence) -> Iterator[Cause]:
    """The right numbers in the wrong places."""
    dues = [e.due(v) for v in e.cotangents]
    shape = e.x.shape
    if e.x.ndim == 2 and shape[0] == shape[1] and shape[0] > 1 and _all(e.got, dues, np.transpose):
        yield Cause("transposed", 0.97, "the gradient is transposed")
    if e.x.ndim > 2:
        for axes in itertools.permutations(range(e.x.ndim)):
            fits = tuple(shape[a] for a in axes) == shape and axes != tuple(range(e.x.ndim))
            if fits and _all(e.got, dues, functools.partial(np.transpose, axes=axes)):
                batch = axes[:-2] == tuple(range(e.x.ndim - 2))
                label = "transposed" if batch else "permutation_not_inverted"
                yield Cause(label, 0.96, f"the axes stand in the order {axes}")
    for axis in range(e.x.ndim):
        if shape[axis] > 1 and _all(e.got, dues, functools.partial(np.flip, axis=axis)):
            yield Cause("permutation_not_inverted", 0.97, f"reversed along axis {axis}")
        for k in range(1, shape[axis]):
            if _all(e.got, dues, functools.partial(np.roll, shift=k, axis=axis)):
                yield Cause("permutation_not_inverted", 0.965, f"shifted by {k} along axis {axis}")
    if all(same(np.sort(g.ravel()), np.sort(d.ravel())) for g, d in zip(e.got, dues, strict=True)):
        yield Cause("permutation_not_inverted", 0.9, "right numbers in the wrong places")


def _all(got: Sequence[Array], due: Sequence[Array], move: Callable[[Array], Array]) -> bool:
    return all(same(g, move(d)) for g, d in zip(got, due, strict=True))


def wrong_places(e: Evidence) -> Array:
    """Where the gradient is wrong for any cotangent."""
    bad = np.zeros(e.x.shape, bool)
    for g, v in zip(e.got, e.cotangents, strict=True):
        d = e.due(v)
        terms = (abs(v) @ abs(e.jacobian)).reshape(d.shape)
        bad |= ~(abs(g - d) <= 1e-8 * terms + 1e-10 * abs(d).max(initial=0))
    return bad


def _places(e: Evidence) -> Iterator[Cause]:
    """Wrong in some places and right in others: at ties, in a region, at one element…"""
    bad = wrong_places(e)
    if not bad.any() or bad.all():
        return
    x = e.x
    tied = _tied(x)
    if tied.any() and not (bad & ~tied).any() and not tied.all():
        yield Cause("tie", 0.94, "wrong only where values tie")
    several = ((e.jacobian != 0).sum(0) > 1).reshape(x.shape)
    if several.any() and not several.all() and np.array_equal(bad, several):
        yield Cause("overwrite", 0.93, "wrong exactly where an element is used more than once")
    if bad.sum() == 1 and x.size >= 8:
        yield Cause(
            "single_element", 0.92, f"wrong at the one element {np.argwhere(bad)[0].tolist()}"
        )
    for name, inside in _regions(x):
        if inside.any() and not inside.all() and np.array_equal(inside, bad):
            yield Cause("region", 0.91, f"wrong only where {name}")
    for axis in range(x.ndim):
        hit = np.unique(np.argwhere(bad)[:, axis])
        whole = np.isin(np.arange(x.shape[axis]), hit)
        if (
            hit.size < x.shape[axis]
            and (bad == np.expand_dims(whole, tuple(a for a in range(x.ndim) if a != axis))).all()
        ):
            yield Cause("region", 0.8, f"wrong only at {hit[:5].tolist()} of axis {axis}")
    low, high = x[bad].min(), x[bad].max()
    if x.size >= 4 and not ((x[~bad] >= low) & (x[~bad] <= high)).any():
        yield Cause("region", 0.85, f"wrong only for values from {low:.4g} to {high:.4g}")
    yield Cause(
        "region",
        0.56 if bad.mean() <= 0.7 else 0.45,
        f"wrong at {int(bad.sum())} of {bad.size} elements",
    )


def _regions(x: Array) -> Iterator[tuple[str, Array]]:
    yield "x < 0", x < 0
    yield "x > 0", x > 0
    yield "x = 0", x == 0
    yield "|x| > 1", abs(x) > 1
    yield "|x| < 1", abs(x) < 1


def _elementwise(e: Evidence) -> Iterator[Cause]:
    """For a diagonal Jacobian the rule's local derivative can be read off and recognised."""
    if e.jacobian.shape[0] != e.x.size or np.count_nonzero(
        e.jacobian - np.diag(np.diag(e.jacobian))
    ):
        return
    v = e.cotangents[0]
    local = e.got[0].ravel() / v
    x, y, d = e.x.ravel(), e.values, np.diag(e.jacobian)
    if same(local, np.ones_like(local)) and not np.isclose(d, 1).any():
        yield Cause("missing_chain", 0.96, "the incoming gradient is passed on as it is")
    if same(local, y) and not same(d, y):
        yield Cause("missing_chain", 0.95, "the derivative of the inner function is missing")
    for seen, used, text in (
        (y, x, "the input where the output"),
        (x, y, "the output where the input"),
    ):
        if x.size > 4:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = np.polynomial.Polynomial.fit(seen, d, 3)
            if same(fit(seen), d, 1e-6) and same(local, fit(used), 1e-4):
                yield Cause("stale_value", 0.96, f"the rule reads {text} is due")


def _weighted(e: Evidence) -> Iterator[Cause]:
    """g = Jᵀ(w·v): a factor for each output, such as the derivative of the outermost function."""
    m = e.jacobian.shape[0]
    if m < 2:
        return
    rows = np.concatenate([(e.jacobian * v[:, None]).T for v in e.cotangents])
    told = np.concatenate([g.ravel() for g in e.got])
    used = (abs(rows).sum(0) > 0) & (np.linalg.norm(rows, axis=0) > 1e-12 * abs(rows).max())
    if not used.any() or not np.isfinite(told).all():
        return
    w = np.ones(m)
    w[used] = np.linalg.lstsq(rows[:, used], told, rcond=None)[0]
    if not same(rows @ w, told, 1e-5) or np.ptp(w[used]) < 1e-3 * abs(w[used]).max():
        return
    y, w = e.values[used], w[used]
    if np.isin(np.round(w, 4), (0.0, 1.0)).all():
        yield from _ignored_outputs(e, used, w)
        return
    for p in (1, -1, 2, -2):
        with np.errstate(all="ignore"):
            c = w / y**p
        if np.isfinite(c).all() and np.ptp(c) < 1e-3 * abs(c).max():
            plain = abs(abs(c[0]) - np.array([0.5, 1.0, 2.0])).min() < 1e-3
            label = "missing_chain" if plain else "wrong_axis"
            yield Cause(label, 0.94, f"each output's share is off by {c[0]:.4g}·y^{p}")
    if y.size > 4:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inverse = np.polynomial.Polynomial.fit(y, 1 / w, 2)
            fits = same(inverse(y), 1 / w, 1e-4)
        if fits:
            yield Cause("missing_chain", 0.94, "the derivative of the outer function is missing")
    yield Cause("missing_chain", 0.46, "each output's share is off by a factor of its own")


def _ignored_outputs(e: Evidence, used: Array, w: Array) -> Iterator[Cause]:
    """Some outputs' cotangents count, the others' are ignored."""
    ignored = np.zeros(used.size, bool)
    ignored[np.flatnonzero(used)[w < 0.5]] = True
    start = 0
    for shape in e.shapes:
        size = int(np.prod(shape))
        part, reached = ignored[start : start + size], used[start : start + size]
        start += size
        if part[reached].all() and reached.any() and len(e.shapes) > 1:
            yield Cause("missing_term", 0.95, "one of the outputs is forgotten")
        block = part.reshape(shape)
        for axis in range(len(shape)):
            others = tuple(a for a in range(len(shape)) if a != axis)
            kept = ~block.all(axis=others) if others else ~block
            if kept.sum() == 1 and shape[axis] > 1 and block.any():
                yield Cause(
                    "no_unbroadcast", 0.95, f"one slice of axis {axis} instead of the sum over it"
                )


def _operators(e: Evidence) -> Iterator[Cause]:
    """The Jacobian itself for its transpose, or the Jacobian at changed inputs."""
    square = e.jacobian.shape[0] == e.jacobian.shape[1]
    crossed = square and e.explains(lambda v: (e.jacobian @ v).reshape(e.x.shape))
    if crossed and not np.allclose(e.jacobian, e.jacobian.T):
        yield Cause("transposed", 0.95, "the operation is applied where its transpose is due")
    if e.redo is None or e.x.size > 64 or e.values.size > SMALL:
        return
    for i, label, changed in _changed(e):
        with np.errstate(all="ignore"):
            other = e.redo({i: changed})
        if same(other, e.jacobian):
            continue
        dues = [(v @ other).reshape(e.x.shape) for v in e.cotangents]
        turned = [np.swapaxes(d, -1, -2) for d in dues] if e.x.ndim >= 2 and i == e.k else dues
        if any(
            all(same(g, d, 1e-4) for g, d in zip(e.got, made, strict=True))
            for made in (dues, turned)
        ):
            yield Cause(label, 0.94, f"argument {i} is used transposed or reversed")


def _changed(e: Evidence) -> Iterator[tuple[int, str, Array]]:
    """Inputs transposed (square ones) or, other than the one that moves, reversed."""
    for i, a in enumerate(e.inputs):
        if a.ndim >= 2 and a.shape[-1] == a.shape[-2] > 1:
            yield i, "transposed", np.swapaxes(a, -1, -2).copy()
        if a.ndim and a.shape[-1] > 1 and i != e.k:
            yield i, "permutation_not_inverted", np.flip(a, -1).copy()


def _pattern(e: Evidence) -> Iterator[Cause]:
    """The rule's own matrix against the Jacobian: what it couples that is not coupled."""
    if e.rule is None or e.rule.shape != e.jacobian.shape:
        return
    top = abs(e.jacobian).max(initial=0)
    coupled, told = abs(e.jacobian) > 1e-7 * top, abs(e.rule) > 1e-7 * abs(e.rule).max(initial=0)
    for source in (e.values, *(a.ravel() for a in e.inputs if a.size == e.values.size)):
        wide = np.broadcast_to(source[:, None], e.rule.shape)
        stand_in = np.where(coupled, wide, 0)
        fits = source.size > 2 and same(np.where(coupled, e.rule, 0), stand_in)
        if fits and not (told & ~coupled).any() and not same(stand_in, e.jacobian):
            yield Cause("stale_value", 0.93, "another value stands in the place of the factor")
    extra = told & ~coupled
    if extra.any() and len(e.shapes) == 1:
        pairs = np.argwhere(extra)[:2000]
        out = np.stack(np.unravel_index(pairs[:, 0], e.shapes[0]), 1) if e.shapes[0] else None
        into = np.stack(np.unravel_index(pairs[:, 1], e.x.shape), 1) if e.x.ndim else None
        if out is not None and into is not None and e.x.ndim > 1:
            yield Cause("wrong_axis", 0.6, "an axis is coupled that should not be")


def _shifted(e: Evidence) -> Iterator[Cause]:
    """The right numbers moved along an axis, with others at the edge."""
    for axis, n in enumerate(e.x.shape):
        for step in range(1, (n + 1) // 2):
            for sign in (1, -1):
                lo, hi = slice(step, None), slice(None, -step)
                a, b = (lo, hi) if sign > 0 else (hi, lo)
                cut = [slice(None)] * e.x.ndim

                def at(part: slice, axis: int = axis, cut: list[slice] = cut) -> tuple[slice, ...]:
                    return (*cut[:axis], part, *cut[axis + 1 :])

                pairs = [
                    (g[at(a)], e.due(v)[at(b)]) for g, v in zip(e.got, e.cotangents, strict=True)
                ]
                if all(same(g, d) and g.size > 1 for g, d in pairs):
                    yield Cause(
                        "permutation_not_inverted",
                        0.95,
                        f"moved by {sign * step} along axis {axis}",
                    )


def _structure(e: Evidence) -> Iterator[Cause]:
    """A part of the right gradient is there, or it does not vary along an axis where it should."""
    v = e.cotangents[0]
    g, d = e.got[0], e.due(v)
    if not np.isfinite(g).all():
        yield Cause("region", 0.5, "NaN or infinite where the derivative is finite")
        return
    for axis in range(e.x.ndim):
        if e.x.shape[axis] > 1:
            flat = np.ptp(g, axis).max() <= 1e-9 * abs(g).max(initial=0)
            varies = np.ptp(d, axis).max() > 1e-3 * abs(d).max(initial=0)
            if flat and varies:
                yield Cause("wrong_axis", 0.55, f"the same along axis {axis}, where it should vary")
    norm = float(np.linalg.norm(g) * np.linalg.norm(d))
    if norm:
        alike = float((g * d).sum()) / norm
        yield Cause(
            "missing_term", 0.3 + 0.2 * max(alike, 0.0), "a term of the sum is missing or too many"
        )


HYPOTHESES: tuple[Callable[[Evidence], Iterator[Cause]], ...] = (
    _zero,
    _sign,
    _factor,
    _low_precision,
    _cotangent,
    _moved,
    _places,
    _elementwise,
    _weighted,
    _operators,
    _pattern,
    _shifted,
    _structure,
)
