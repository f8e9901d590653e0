"""Nobody is timed who computes something else: values, gradients and updates against float64."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.adapters import numpy_hand
from benchmarks.workloads import EPS, LEARNING_RATE, Arrays, Case, Workload

#: of an array's largest element: what float32 may lose over a hundred time steps and products of a
#: thousand terms; a wrong formula loses more
TOLERANCE = 2e-4
#: of a value some updates later: the signs of tiny gradients differ
LATER = 5e-3
#: of the learning rate: a weight near 1 holds an update of 1e-3 to 1e-4 of it
UPDATE = 1e-2
CALLS = 4  #: that are judged; compilers replay at the third at the latest


@dataclass(frozen=True)
class Outcome:
    """What one call gave: its value, gradients, and the weights after the update."""

    value: np.ndarray[Any, Any]
    gradients: Arrays = field(default_factory=dict)
    weights: Arrays = field(default_factory=dict)


def outcome(contender: Any) -> tuple[Outcome, float]:
    """The outcome of the next call, and its seconds."""
    start = time.perf_counter()
    result = contender.call()
    contender.wait(result)
    seconds = time.perf_counter() - start
    copied = [
        {name: np.array(a) for name, a in arrays.items()}
        for arrays in (contender.gradients(), contender.weights())
    ]
    return Outcome(np.array(contender.value(result)), *copied), seconds


def reference(w: Workload, case: Case) -> list[Outcome]:
    """The first calls in float64, with gradients derived by hand."""
    model = {"add_tracked": "add"}.get(w.model, w.model)
    hand = numpy_hand.Hand(Workload(w.name, w.title, w.kind, model, w.sizes, w.loss), case, float)
    return [outcome(hand)[0] for _ in range(CALLS)]


def objections(found: Outcome, truth: Outcome, before: Arrays) -> list[str]:
    """What is wrong with a first call, in words; nothing if nothing is.

    Adam's first update is ±learning rate wherever a gradient is not tiny, and a tiny gradient's
    sign is rounding: so the update is compared with what Adam makes of the gradient that was found.
    """
    wrong = _difference("the value", found.value, truth.value)
    missing = truth.gradients.keys() - found.gradients.keys()
    wrong += [f"no gradient of {name}" for name in sorted(missing)]
    for name in truth.gradients.keys() - missing:
        wrong += _difference(
            f"the gradient of {name}", found.gradients[name], truth.gradients[name]
        )
    for name in truth.weights.keys() - missing:
        g = found.gradients[name].astype(float)
        update = LEARNING_RATE * g / (np.abs(g) + EPS)
        made = before[name].astype(float) - found.weights[name]
        wrong += _difference(f"the update of {name}", made, update, UPDATE)
    return wrong


def later_objections(found: Outcome, truth: Outcome) -> list[str]:
    """What is wrong with the value of a later call."""
    return _difference("a later value", found.value, truth.value, LATER)


def _difference(what: str, found: Any, truth: Any, tolerance: float = TOLERANCE) -> list[str]:
    if found.shape != truth.shape:
        return [f"{what} has shape {found.shape}, not {truth.shape}"]
    largest = float(np.abs(truth).max(initial=0))
    off = float(np.abs(found - truth).max(initial=0))
    if not off <= tolerance * largest + 1e-9:
        return [f"{what} is off by {off:.2g} where the largest is {largest:.2g}"]
    return []
