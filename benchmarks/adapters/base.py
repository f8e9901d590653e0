"""What the harness asks of a framework."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads import Arrays, Case, Workload


class Unsupported(Exception):
    """The framework has no such thing; the message says what is missing."""


class Contender:
    """A workload made ready in one framework.

    :meth:`call` is what is timed. What it started may still be running; :meth:`wait` ends that.
    """

    def call(self) -> Any:
        """One step, or one evaluation."""
        raise NotImplementedError

    def wait(self, result: Any) -> None:
        """Until ``result`` of a call is there."""

    def value(self, result: Any) -> np.ndarray[Any, Any]:
        """The loss, or the function's value, of that call."""
        return np.asarray(result)

    def gradients(self) -> Arrays:
        """Of all weights, in the last call; empty for an operation."""
        return {}

    def weights(self) -> Arrays:
        """What the optimiser made of the weights; empty where nothing is trained."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What else is worth a report."""
        return {}


class Framework:
    """``contender(workload, case)`` makes a workload ready; ``version`` is the framework's."""

    version: str = ""

    def contender(self, w: Workload, case: Case) -> Contender:
        """Raises Unsupported where the framework cannot."""
        raise NotImplementedError
