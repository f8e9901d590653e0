"""check_gradients: is this the derivative of that function?

The rule's gradient for several random, signed cotangents is compared with derivatives from
function values: element by element for small arguments, by some elements and by groups with random
signs for large ones, where a failing group is bisected to the element. Four function values settle
an element that is smooth and right; only what does not agree at once is analysed further.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.errors import ShapeError, ValueRangeError, user_line
from tinygrad_ai.testing.adapters import (
    Adapter,
    CheckError,
    NumpyAdapter,
    adapter_for,
    adapter_named,
    checked_array,
)
from tinygrad_ai.testing.bind import bind
from tinygrad_ai.testing.compare import Case, Known, check_argument, compare
from tinygrad_ai.testing.diagnose import HINTS, diagnose
from tinygrad_ai.testing.domains import domain_of
from tinygrad_ai.testing.report import Coverage, GradReport
from tinygrad_ai.testing.tape import first_wrong

Array = np.ndarray[Any, Any]
RTOL = {8: 2e-9, 4: 5e-4, 2: 2e-2}  #: by item size: what rounding in the rule itself may do


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    adapter: Adapter | str | None = None,
    vjp: Callable[..., Any] | None = None,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    domains: Sequence[Any] | None = None,
    kinks: str = "interval",
    rtol: float | None = None,
    budget: int | None = None,
    seed: int = 0,
) -> GradReport:
    """Check the gradients of ``f`` at ``args``.

    Args:
        f: a function of tensors (nested containers and modules too) to a tensor or several.
        args: the point: tensors of any known framework, NumPy arrays, numbers; integers are kept.
        adapter: the framework, by name or as an object; by default that of the arguments, this
            library for plain arrays.
        vjp: a rule written by hand for a NumPy function, ``vjp(g, *args) -> gradients``.
        order: 2 checks the derivatives of the gradient as well.
        wrt: positions of the arrays to check (among all arrays, in order); all real ones.
        domains: for each array where it may move: None, ``"positive"``, ``(low, high)``,
            ``"symmetric"``, ``"positive_definite"``, ``"simplex"``, ``"index"``.
        kinks: ``"interval"`` (any slope between the one-sided ones is right), ``"skip"`` or
            ``"strict"`` (a kink is a failure).
        rtol: tolerance relative to the sum of the |terms|; by dtype if not given.
        budget: at most about this many evaluations of ``f`` for one argument.
        seed: of the cotangents and directions.

    Returns a report whose verdict is ``"pass"``, ``"fail"`` or ``"inconclusive"``; a crash inside
    ``f``, wrong shapes and the like are findings, not exceptions. Raises CheckError (a ValueError)
    if the call itself makes no sense: complex arguments, no real argument, an unknown adapter.
    """
    report, function, arrays, chosen = _checked(
        f, args, adapter, vjp, order, wrt, domains, kinks, rtol, budget, seed
    )
    if report.verdict == "fail":
        report.notes += [f"hint: {HINTS[c.label]}" for c in report.causes[:1] if c.label in HINTS]
        if chosen.name == "tinygrad_ai" and report.worst and report.worst.kind == "value":
            report.notes += first_wrong(function, arrays, _plainly)
        name = getattr(f, "__qualname__", type(f).__name__)
        report.notes.append(f"again: check_gradients({name}, …, seed={seed}) at {user_line()}")
    return report


def _plainly(f: Callable[..., Any], *arrays: Array) -> GradReport:
    """The bare check of one operation of this library."""
    return _checked(f, arrays, None, None, 1, None, None, "interval", None, None, 0)[0]


def _checked(
    f: Callable[..., Any], args: Sequence[Any], adapter: Any, vjp: Any, order: int, wrt: Any,
    domains: Any, kinks: str, rtol: float | None, budget: int | None, seed: int,
) -> tuple[GradReport, Callable[..., Any], list[Array], Adapter]:  # fmt: skip
    """The report, and what was checked: the function of arrays, the arrays, the adapter."""
    if kinks not in ("interval", "skip", "strict"):
        raise ValueRangeError(f"kinks must be 'interval', 'skip' or 'strict', not {kinks!r}")
    chosen = _adapter(adapter, vjp, args)
    function, arrays = bind(f, args, chosen)
    arrays = [checked_array(a, chosen) for a in arrays]
    moving = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    declared = [domain_of(d) for d in (domains or [None] * len(arrays))]
    if len(declared) != len(arrays):
        raise ShapeError(f"check_gradients: {len(declared)} domains for {len(arrays)} arguments")
    moving = [k for k in (moving if wrt is None else wrt) if declared[k].name != "index"]
    if not moving:
        raise CheckError("no argument can carry a gradient: all are integers, or there is none")
    itemsize = min(arrays[k].dtype.itemsize for k in moving)
    case = Case(
        chosen, function, arrays, moving, declared, kinks, RTOL[itemsize] if rtol is None else rtol,
        np.random.default_rng(seed), GradReport(), chosen.reset(),
    )  # fmt: skip
    case.report.coverage = Coverage(elements=sum(arrays[k].size for k in moving))
    try:
        _check(case, budget)
        if order > 1 and not case.report.findings:
            _second_order(case, seed, budget)
    except CheckError as error:
        case.fail("missing", str(error))
    except Exception as error:
        case.fail("crash", f"the function raised {type(error).__name__}: {error}")
    return _concluded(case), function, arrays, chosen


def assert_gradients(f: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Raise AssertionError with the report's text unless :func:`check_gradients` passes."""
    report = check_gradients(f, *args, **options)
    if report.verdict != "pass":
        raise AssertionError(report.text())


def _adapter(adapter: Any, vjp: Any, args: Sequence[Any]) -> Adapter:
    if vjp is not None:
        return NumpyAdapter(vjp)
    if isinstance(adapter, Adapter):
        return adapter
    return adapter_for(args) if adapter is None else adapter_named(adapter)


def _concluded(case: Case) -> GradReport:
    report = case.report
    if report.findings:
        report.verdict = "fail"
        report.margin = max(report.margin, 1.0)
    elif report.coverage.inconclusive:
        report.verdict = "inconclusive"
    return report


def _check(case: Case, budget: int | None) -> None:
    handed = [a.copy() for a in case.arrays]
    case.reset()
    case.adapter.call(case.f, handed)
    if any(
        not np.array_equal(a, b, equal_nan=True) for a, b in zip(handed, case.arrays, strict=True)
    ):
        case.fail("mutation", "the function changes its input")
        diagnose(case, None, {})
        return
    start = case.values(case.arrays)
    again = case.values(case.arrays)
    if not np.array_equal(start, again, equal_nan=True):
        case.fail("random", "two calls with the same input give different values")
        diagnose(case, None, {})
        return
    case.reset()
    shapes = [y.shape for y in case.adapter.call(case.f, [a.copy() for a in case.arrays])]
    cotangents = _cotangents(case, shapes, start)
    gradients = _checked_gradients(case, cotangents)
    if gradients is None:
        diagnose(case, cotangents, {})
        return
    _linearity(case, cotangents, gradients)
    slack = [
        _rounding_of_the_rule(case, vs, g) for vs, g in zip(cotangents, gradients, strict=True)
    ]
    flat = [np.concatenate([v.ravel() for v in vs]) for vs in cotangents]
    known = Known(start, flat, gradients, slack)
    slopes = {k: check_argument(case, k, known, budget) for k in case.wrt}
    if len(case.wrt) > 1:
        for signs in ([1.0], [-1.0, 1.0]):
            every = {
                k: case.domains[k].allowed(
                    case.reach(k) * case.rng.choice(signs, case.arrays[k].shape)
                )
                for k in case.wrt
            }
            compare(case, known, every)
            case.report.coverage.directions += 1
    if case.report.findings:
        diagnose(case, cotangents, slopes)


def _cotangents(case: Case, shapes: Sequence[tuple[int, ...]], start: Array) -> list[list[Array]]:
    """Three sets: signed; signed and scaled to the outputs; signed with every other exactly 0."""
    size = abs(np.where(np.isfinite(start), start, 0.0))
    level = float(np.median(size[size > 0])) if size.any() else 1.0
    weight = np.clip(level / np.where(size > 0, size, level), 1e-6, 1e6)
    sets = []
    for n in range(3):
        flat = case.rng.uniform(0.5, 1.5, start.size) * case.rng.choice([-1.0, 1.0], start.size)
        if n == 1:
            flat = flat * weight
        if n == 2 and start.size > 1:
            flat[case.rng.permutation(start.size)[::2]] = 0.0
        parts = np.split(flat, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
        dtype = np.float64 if case.arrays[case.wrt[0]].dtype == np.float64 else None
        sets.append([
            p.reshape(s).astype(dtype or case.arrays[case.wrt[0]].dtype)
            for p, s in zip(parts, shapes, strict=True)
        ])  # fmt: skip
    return sets


def _checked_gradients(case: Case, cotangents: list[list[Array]]) -> list[list[Array]] | None:
    """The rule's gradients for every set of cotangents, or None where their form is wrong."""
    found: list[list[Array]] = []
    for vs in cotangents:
        before = [a.copy() for a in case.arrays], [v.copy() for v in vs]
        given = [a.copy() for a in case.arrays], [v.copy() for v in vs]
        case.reset()
        with np.errstate(all="ignore"):
            made = case.adapter.vjp(case.f, *given)
        for now, then, what in ((given[0], before[0], "input"), (given[1], before[1], "cotangent")):
            if any(
                not np.array_equal(a, b, equal_nan=True) for a, b in zip(now, then, strict=True)
            ):
                case.fail("mutation", f"the rule changes its {what}")
                return None
        row = []
        for k, g in enumerate(made):
            a = case.arrays[k]
            g = np.zeros_like(a) if g is None else np.asarray(g)
            if k in case.wrt and g.shape != a.shape:
                case.fail(
                    "shape", f"argument {k} has shape {a.shape}, its gradient {g.shape}", argument=k
                )
                return None
            if k in case.wrt and g.dtype != a.dtype:
                case.fail("dtype", f"argument {k} is {a.dtype}, its gradient {g.dtype}", argument=k)
                return None
            row.append(g)
        if not found:
            _separate(case, row, given[0])
            first = row
        found.append([g.copy() for g in row])
    if any(not np.array_equal(first[k], found[0][k], equal_nan=True) for k in case.wrt):
        case.fail("aliasing", "a later backward pass changes a gradient that was returned before")
    repeated = case.gradients(cotangents[0])
    for k in case.wrt:
        g = np.zeros_like(case.arrays[k]) if repeated[k] is None else np.asarray(repeated[k])
        if not np.array_equal(g, found[0][k], equal_nan=True):
            case.fail(
                "random",
                f"two backward passes give different gradients for argument {k}",
                argument=k,
            )
            return None
    return found


def _separate(case: Case, row: list[Array], inputs: list[Array]) -> None:
    """Whether the gradients share memory with one another or with the inputs."""
    own = [row[k] for k in case.wrt if row[k].size]
    pairs = [*itertools.combinations(own, 2), *itertools.product(own, inputs)]
    if any(np.may_share_memory(a, b) and np.shares_memory(a, b) for a, b in pairs):
        case.fail("aliasing", "gradients share memory with one another or with an input")


def _linearity(case: Case, cotangents: list[list[Array]], gradients: list[list[Array]]) -> None:
    """vjp(2u - v) = 2 vjp(u) - vjp(v), and exact zeros for a zero cotangent."""
    u, v = cotangents[0], cotangents[2]
    mixed = case.gradients([2 * a - b for a, b in zip(u, v, strict=True)])
    zero = case.gradients([a * 0 for a in u])
    for k in case.wrt:
        a, b = gradients[0][k].astype(float), gradients[2][k].astype(float)
        expected, size = 2 * a - b, 2 * abs(a) + abs(b)
        got = np.zeros_like(expected) if mixed[k] is None else np.asarray(mixed[k], float)
        top = size.max(initial=0, where=np.isfinite(size))
        with np.errstate(invalid="ignore"):
            bad = abs(got - expected) > 1e3 * case.rtol * (size + 1e-3 * top)
        if (bad & np.isfinite(expected)).any():
            case.fail(
                "nonlinear",
                f"the gradient of argument {k} is not linear in the cotangent",
                argument=k,
            )
        if zero[k] is not None and np.asarray(zero[k]).any():
            where = np.asarray(zero[k])
            what = "NaN" if np.isnan(where).any() else "non-zero values"
            case.fail("zero", f"a zero cotangent gives {what} for argument {k}", argument=k)


def _rounding_of_the_rule(case: Case, vs: list[Array], row: list[Array]) -> dict[int, Array]:
    """How far the gradient moves when every input moves by one unit in the last place."""
    moved = [
        np.nextafter(a, np.where(case.rng.random(a.shape) < 0.5, np.inf, -np.inf).astype(a.dtype))
        if k in case.wrt and case.domains[k].name in ("real", "positive", "interval")
        else a
        for k, a in enumerate(case.arrays)
    ]
    try:
        found = case.gradients(vs, moved)
    except Exception:  # just outside the domain: nothing learned
        return {k: np.zeros(case.arrays[k].shape) for k in case.wrt}
    slack = {}
    for k in case.wrt:
        g = row[k] if found[k] is None else np.asarray(found[k])
        with np.errstate(all="ignore"):
            change = abs(g.astype(float) - row[k].astype(float))
        usual = np.isfinite(change) & (change < 1e-3 * abs(row[k]))  # more is a kink, not rounding
        slack[k] = np.where(usual, change, 0.0)
    return slack


def _second_order(case: Case, seed: int, budget: int | None) -> None:
    """The gradient itself, a function of the inputs and of the cotangent, checked in its turn."""
    n = len(case.arrays)
    back = case.adapter.pullback(case.f, n)
    shapes = [y.shape for y in case.adapter.call(case.f, [a.copy() for a in case.arrays])]
    vs = [case.rng.uniform(0.5, 1.5, s) * case.rng.choice([-1.0, 1.0], s) for s in shapes]
    inner = check_gradients(
        back,
        *case.arrays,
        *vs,
        adapter=case.adapter,
        kinks=case.kinks,
        budget=budget,
        seed=seed + 1,
    )
    for finding in inner.findings:
        case.fail("second", "second order: " + finding.text, index=finding.index, ulps=finding.ulps)
    case.report.causes += inner.causes
    case.report.coverage.inconclusive += inner.coverage.inconclusive
    case.report.coverage.calls += inner.coverage.calls
