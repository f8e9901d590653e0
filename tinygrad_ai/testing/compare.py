"""One direction at a time: the rule's gradient against the slope of function values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_ai.testing.adapters import Adapter
from tinygrad_ai.testing.differences import INCONCLUSIVE, KINK, SINGULAR, Line, Slope
from tinygrad_ai.testing.domains import Domain
from tinygrad_ai.testing.report import Finding, GradReport

Array = np.ndarray[Any, Any]
ONE_BY_ONE = 256  #: arguments up to this size are checked element by element
QUICK = 5e-9  #: agreement that float32 inside a rule cannot reach by chance
SAMPLED, GROUPS = 48, 32  #: of larger ones: elements, and groups of all elements


@dataclass
class Case:
    """One function at one point, asked through an adapter."""

    adapter: Adapter
    f: Callable[..., Any]
    arrays: list[Array]
    wrt: list[int]
    domains: list[Domain]
    kinks: str
    rtol: float
    rng: np.random.Generator
    report: GradReport
    reset: Callable[[], None]
    reaches: dict[int, Array] = field(default_factory=dict)

    @property
    def eps(self) -> float:
        """The rounding unit of the coarsest argument that is checked."""
        return max(float(np.finfo(self.arrays[k].dtype).eps) for k in self.wrt)

    @functools.cached_property
    def exact_arrays(self) -> list[Array]:
        """The arrays with every real one in float64."""
        return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in self.arrays]

    def reach(self, k: int) -> Array:
        """:func:`reach_of` argument ``k``, computed once."""
        if k not in self.reaches:
            self.reaches[k] = reach_of(self.exact_arrays[k])
        return self.reaches[k]

    def values(self, arrays: Sequence[Array]) -> Array:
        """All outputs in one float64 vector."""
        self.report.coverage.calls += 1
        self.reset()
        with np.errstate(all="ignore"):
            found = self.adapter.call(self.f, arrays)
        flat = [np.asarray(y, np.float64).reshape(-1) for y in found]
        return flat[0].copy() if len(flat) == 1 else np.concatenate(flat)

    def gradients(self, cotangents: Sequence[Array], arrays: Any = None) -> list[Any]:
        """The rule's gradients, by argument."""
        self.reset()
        given = self.arrays if arrays is None else arrays
        with np.errstate(all="ignore"):
            return self.adapter.vjp(
                self.f, [a.copy() for a in given], [v.copy() for v in cotangents]
            )

    def fail(self, kind: str, text: str, **where: Any) -> None:
        self.report.findings.append(Finding(kind, text, **where))


@dataclass(frozen=True)
class Known:
    """What is the same for every direction."""

    start: Array  #: the outputs at the point
    cotangents: list[Array]  #: flattened
    gradients: list[list[Array]]  #: by cotangent, by argument
    slack: list[dict[int, Array]]  #: rounding of the rule, by cotangent, by argument


def check_argument(case: Case, k: int, known: Known, budget: int | None) -> dict[int, Array]:
    """Compare argument ``k``; the numeric derivatives found on the way, by element."""
    x = case.arrays[k]
    case.report.errors[k] = np.zeros(x.shape)
    slopes: dict[int, Array] = {}
    if not x.size:
        return slopes
    few = x.size <= (ONE_BY_ONE if budget is None else max(1, budget // 6))
    for j in range(x.size) if few else case.rng.permutation(x.size)[:SAMPLED].tolist():
        u = case.domains[k].coordinate(x.shape, j)
        middle = compare(case, known, {k: u}, (k, *np.unravel_index(j, x.shape)))
        case.report.coverage.coordinates += 1
        if middle is not None:
            slopes[j] = middle
    for u, members in _directions(case, k, few):
        if case.report.findings:
            break  # what is wrong is known to the element
        case.report.coverage.directions += 1
        if members is None:
            compare(case, known, {k: u})
        elif not _agree(case, known, {k: u}):
            _bisect(case, known, k, u, members)
    return slopes


def reach_of(x: Array) -> Array:
    """How far each element may move to be felt: its size; a typical one where it is 0."""
    size = np.where(np.isfinite(x), abs(x.astype(float)), 0.0)
    nonzero = size[size > 0]
    return np.where(size > 0, size, float(np.median(nonzero)) if nonzero.size else 1.0)


def _directions(case: Case, k: int, few: bool) -> Iterator[tuple[Array, Array | None]]:
    """For a large argument groups of its elements; then all up, and random signs."""
    x = case.arrays[k]
    domain, reach = case.domains[k], case.reach(k)
    if not few:
        for members in np.array_split(case.rng.permutation(x.size), GROUPS):
            u = np.zeros(x.size)
            u[members] = reach.reshape(-1)[members] * case.rng.choice([-1.0, 1.0], members.size)
            yield domain.allowed(u.reshape(x.shape)), members
    yield domain.allowed(reach), None
    yield domain.allowed(reach * case.rng.choice([-1.0, 1.0], x.shape)), None


def _agree(case: Case, known: Known, move: dict[int, Array]) -> bool:
    """Whether the rule and the quick estimate agree along ``move``."""
    line = _line(case, known, move)
    return line.limit == 0 or _at_once(case, known, line, *_told(known, move)) is not None


def _bisect(case: Case, known: Known, k: int, u: Array, members: Array) -> None:
    """Halve a group that does not agree until one element is left, and look at that closely.

    If that element is right after all (a kink, or rounding), the group is looked at as a whole.
    """
    while members.size > 1:
        half = members[: members.size // 2]
        part = np.zeros(u.size)
        part[half] = u.reshape(-1)[half]
        agreed = _agree(case, known, {k: part.reshape(u.shape)})
        members = members[members.size // 2 :] if agreed else half
    j = int(members[0])
    before = len(case.report.findings)
    one = case.domains[k].coordinate(u.shape, j)
    compare(case, known, {k: one}, (k, *np.unravel_index(j, u.shape)))
    if len(case.report.findings) == before:
        compare(case, known, {k: u})


def compare(
    case: Case, known: Known, move: dict[int, Array], place: tuple[Any, ...] | None = None
) -> Array | None:
    """One direction: the rule's ⟨g, u⟩ against ⟨v, J u⟩; returns the numeric J u if it is known.

    ``move`` maps arguments to their directions; ``place`` names the argument and element of a
    direction that is one coordinate.
    """
    line = _line(case, known, move)
    if line.limit == 0:
        return None
    told, sizes = _told(known, move)
    at_once = _at_once(case, known, line, told, sizes)
    if at_once is not None:
        return at_once
    slope = line.slope()
    for n, (v, a, size) in enumerate(zip(known.cotangents, told, sizes, strict=True)):
        loose = 16 * sum(float(np.sum(known.slack[n][k] * abs(u))) for k, u in move.items())
        if _judge(case, slope, v, a, 0.0 if place else size, loose, place):
            break
    return slope.middle if (slope.kind != INCONCLUSIVE).all() else None


def _told(known: Known, move: dict[int, Array]) -> tuple[list[float], list[float]]:
    """⟨g, u⟩ and Σ|g·u| of the rule's gradients, by cotangent."""
    parts = [[g[k] * u for k, u in move.items()] for g in known.gradients]
    told = [sum(float(p.sum()) for p in row) for row in parts]
    return told, [sum(float(abs(p).sum()) for p in row) for row in parts]


def _at_once(
    case: Case, known: Known, line: Line, told: list[float], sizes: list[float]
) -> Array | None:
    """The quick estimate of J u if the rule agrees with it for every cotangent, else None."""
    rough, rounding = line.quick()
    if case.kinks == "strict" or not np.isfinite(rough).all():
        return None
    for v, a, size in zip(known.cotangents, told, sizes, strict=True):
        due = v * rough
        terms = max(float(abs(due).sum()), size)
        agreed = 0.25 * case.rtol * terms + min(float(abs(v) @ rounding), QUICK * terms)
        if not abs(a - float(due.sum())) <= agreed:
            return None
    return rough


def _line(case: Case, known: Known, move: dict[int, Array]) -> Line:
    """phi(t) along ``move``, in float64; one unit of scale moves something by its own size."""
    base = case.exact_arrays

    def phi(t: float) -> Array:
        return case.values([a + t * move[k] if k in move else a for k, a in enumerate(base)])

    exact = all(a.dtype == b.dtype for a, b in zip(base, case.arrays, strict=True))
    with np.errstate(over="ignore"):  # the reach of a denormal
        speed = max(float((abs(u) / case.reach(k)).max(initial=0.0)) for k, u in move.items())
    limit = min(case.domains[k].limit(base[k], u) for k, u in move.items())
    return Line(
        phi, known.start if exact else case.values(base), 1 / min(max(speed, 1e-300), 1e300), limit
    )


def _judge(
    case: Case, slope: Slope, v: Array, a: float, size: float, loose: float, place: Any
) -> bool:
    """Pass, fail or leave open one direction and cotangent; whether that settles the direction."""
    coverage = case.report.coverage
    active = v != 0
    kinds = slope.kind[active]
    if (kinds == SINGULAR).any():
        coverage.singular += 1
        return True
    if (kinds == KINK).any() and case.kinks == "skip":
        coverage.kinks += 1
        return True
    with np.errstate(all="ignore"):
        ends = np.where(active, v * slope.low, 0.0), np.where(active, v * slope.high, 0.0)
        low, high = float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum())
        felt = float(np.maximum(abs(ends[0]), abs(ends[1])).sum())
        terms = max(felt, size)
        doubt = float(np.where(active, abs(v) * slope.error, 0.0).sum())
        usual = float(np.where(active, abs(v) * slope.natural, 0.0).sum())
    if (kinds == INCONCLUSIVE).any() or not np.isfinite(low + high + doubt):
        coverage.inconclusive += 1
        return True
    coverage.kinks += int((kinds == KINK).any())
    tolerance = 8 * doubt + case.rtol * terms + loose + 50 * case.eps * usual
    off = max(low - a, a - high, 0.0) if np.isfinite(a) else np.inf
    if (kinds == KINK).any() and case.kinks == "strict":
        off = np.inf
    relative = off / max(terms, doubt, 1e-300)
    if place:
        errors = case.report.errors[place[0]]
        errors[place[1:]] = max(errors[place[1:]], relative)
    case.report.margin = max(case.report.margin, off / max(tolerance, 1e-300) if off else 0.0)
    unsure = felt > 0 and doubt > 1e-2 * terms and doubt > 1e-6 * usual
    if unsure and off < 100 * doubt:
        coverage.inconclusive += 1
        return True
    if off <= tolerance:
        return False
    _report_value(case, a, low, high, relative, place)
    return True


def _report_value(
    case: Case, a: float, low: float, high: float, relative: float, place: Any
) -> None:
    where = f"argument {place[0]}" if place else "all arguments together, along a direction"
    index = tuple(int(i) for i in place[1:]) if place else None
    at = f" at [{', '.join(map(str, index))}]" if index else ""
    interval = f"{low:.10g}" if low == high else f"between {low:.10g} and {high:.10g}"
    ulps = min(relative / case.eps, 1e300)
    case.fail(
        "value",
        f"{where}{at}: the rule gives {a:.10g}, it should be {interval} "
        f"({ulps:.3g} ulps of the terms)",
        argument=place[0] if place else None,
        index=index,
        analytic=a,
        low=low,
        high=high,
        ulps=ulps,
    )
