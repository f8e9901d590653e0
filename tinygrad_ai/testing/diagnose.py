"""Why is it wrong: hypotheses that would explain the rule's gradient, each tried on the numbers.

A hypothesis predicts from the numeric Jacobian what a rule with that slip would return; the one
whose prediction is met best comes first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.testing.hypotheses import HYPOTHESES, SMALL, Evidence, swapped, wrong_places
from tinygrad_ai.testing.report import Cause

Array = np.ndarray[Any, Any]


HINTS = {
    "sign": "look for a minus that was lost or written twice",
    "factor": "look for a constant that is missing, or was not differentiated",
    "mean_vs_sum": "a mean divides its gradient by the number of elements, a sum does not",
    "missing_term": "an input that is used in several places collects a term from each",
    "transposed": "the rule needs the transpose: g @ b.T and a.T @ g for a @ b",
    "no_unbroadcast": "sum the gradient over the axes along which the input was broadcast",
    "swapped_arguments": "return the gradients in the order of the arguments",
    "permutation_not_inverted": "bring the gradient back with the inverse of what was moved",
    "overwrite": "add contributions to the same element up (np.add.at), do not assign them",
    "ones_cotangent": "multiply by the incoming gradient, element by element",
    "abs_cotangent": "use the incoming gradient with its sign",
    "zero": "something cuts the graph: detach, no_grad, or an array made anew",
    "stale_value": "check whether the rule needs the input or the output, and before what change",
    "missing_chain": "multiply by the derivative of the function outside or inside",
    "region": "compare the conditions of the rule with those of the function",
    "tie": "share the gradient among equal elements; it must add up to the whole",
    "low_precision": "keep the rule's constants and buffers in the dtype of its input",
    "wrong_axis": "check the axis of every sum, mean and softmax in the rule",
    "single_element": "check the ends of the loop and the edges of the array",
    "nonlinear_in_g": "a gradient is linear in the incoming one: no abs, max or rounding of g",
    "wrong_dtype_or_shape": "give the gradient the shape and dtype of its input",
    "mutates_input": "copy before you write: the caller still needs the array",
    "aliasing": "return arrays of their own, not a buffer that is used again",
    "random": "draw random numbers in the forward pass once, and keep them for the backward",
}


def diagnose(case: Any, cotangents: Any, slopes: dict[int, dict[int, Array]]) -> None:
    """Fill ``case.report.causes``, best first."""
    found: dict[str, Cause] = {}
    for cause in _causes(case, cotangents, slopes):
        if cause.label not in found or found[cause.label].score < cause.score:
            found[cause.label] = cause
    case.report.causes = sorted(found.values(), key=lambda c: -c.score)


def _causes(case: Any, cotangents: Any, slopes: dict[int, dict[int, Array]]) -> Iterator[Cause]:
    findings = case.report.findings
    for finding in findings:
        if finding.kind == "random":
            yield Cause("random", 1.0, "the result is not the same every time")
        elif finding.kind == "mutation":
            yield Cause("mutates_input", 1.0, finding.text)
        elif finding.kind == "aliasing":
            alone = all(f.kind == "aliasing" for f in findings)
            yield Cause("aliasing", 1.0 if alone else 0.8, finding.text)
        elif finding.kind in ("shape", "dtype"):
            yield from _form(case, finding)
    if cotangents is None or any(f.kind in ("shape", "dtype") for f in findings):
        return
    evidence = _evidence(case, cotangents, slopes)
    yield from swapped(evidence)
    if not evidence and any(f.index is not None for f in findings):
        yield Cause("single_element", 0.6, "a single element among many is wrong")
    nonlinear = any(f.kind in ("nonlinear", "zero") for f in findings)
    wrong = {f.argument for f in findings if f.kind in ("value", "nonlinear", "zero")}
    if wrong == {None} and case.report.coverage.kinks:
        yield Cause("tie", 0.97, "each gradient is a subgradient, but all together are not")
    for k, e in evidence.items():
        if (k in wrong or None in wrong) and wrong_places(e).any():
            for hypothesis in HYPOTHESES:
                yield from hypothesis(e)
    if nonlinear:
        yield Cause("nonlinear_in_g", 0.75, "the rule is not linear in the incoming gradient")


def _form(case: Any, finding: Any) -> Iterator[Cause]:
    """The gradient has another shape or dtype than its argument."""
    x = case.arrays[finding.argument]
    if finding.kind == "shape":
        shape = finding.text.rsplit(" ", 1)[0]
        outs = [y.shape for y in case.adapter.call(case.f, [a.copy() for a in case.arrays])]
        others = {a.shape for a in case.arrays} | set(outs)
        got = eval(finding.text[finding.text.rindex("its gradient ") + 13 :])
        stretched = len(got) >= x.ndim and got != x.shape and (got in others or len(got) > x.ndim)
        if stretched and _broadcasts(x.shape, got):
            yield Cause("no_unbroadcast", 1.0, f"not summed over the broadcast axes: {shape}")
            return
        if got == x.shape[::-1]:
            yield Cause("transposed", 0.9, "the gradient is transposed")
    yield Cause("wrong_dtype_or_shape", 0.8, finding.text)


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(small, large) == large
    except ValueError:
        return False


def _evidence(
    case: Any, cotangents: Any, slopes: dict[int, dict[int, Array]]
) -> dict[int, Evidence]:
    """For every argument of which the whole numeric Jacobian is known."""
    flat = [np.concatenate([v.ravel() for v in vs]).astype(float) for vs in cotangents]
    rows = [
        [None if g is None else np.array(g, float) for g in case.gradients(vs)] for vs in cotangents
    ]
    values = case.values(case.arrays)
    shapes = [v.shape for v in cotangents[0]]
    inputs = [np.asarray(a, float) for a in case.arrays]
    found = {}
    for k, by_element in slopes.items():
        x = inputs[k]
        if len(by_element) < x.size or not x.size:
            continue
        jacobian = np.stack([by_element[j] for j in range(x.size)], axis=1)
        got = [np.zeros(x.shape) if (g := r[k]) is None else g for r in rows]
        found[k] = Evidence(
            x, got, jacobian, flat, shapes, inputs, values, k=k,
            rule=_matrix(case, k, shapes), redo=functools.partial(_jacobian_at, case, k),
            kinks=case.report.coverage.kinks > 0,
        )  # fmt: skip
    return found


def _matrix(case: Any, k: int, shapes: Sequence[tuple[int, ...]]) -> Array | None:
    """The rule's gradient for every unit cotangent."""
    sizes = [int(np.prod(s)) for s in shapes]
    nonlinear = any(f.kind in ("nonlinear", "random", "aliasing") for f in case.report.findings)
    if nonlinear or sum(sizes) > SMALL:
        return None
    rows = []
    for i in range(sum(sizes)):
        unit = np.zeros(sum(sizes))
        unit[i] = 1.0
        parts = np.split(unit, np.cumsum(sizes)[:-1])
        dtype = case.arrays[case.wrt[0]].dtype
        made = case.gradients(
            [p.reshape(s).astype(dtype) for p, s in zip(parts, shapes, strict=True)]
        )
        g = made[k]
        rows.append(np.zeros(case.arrays[k].size) if g is None else np.array(g, float).ravel())
    return np.stack(rows) if rows else None


def _jacobian_at(case: Any, k: int, changed: dict[int, Array]) -> Array:
    """The numeric Jacobian of argument ``k`` where other inputs are as in ``changed``."""
    arrays = [
        changed.get(i, a).astype(float) if a.dtype.kind == "f" else a
        for i, a in enumerate(case.arrays)
    ]
    columns = []
    for j in range(arrays[k].size):
        h = 1e-5 * max(1.0, abs(arrays[k].flat[j]))
        ends = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[k].flat[j] += sign * h
            ends.append(case.values(moved))
        columns.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(columns, axis=1)
