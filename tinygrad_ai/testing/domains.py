"""Where an argument may move: directions that stay inside its domain, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.errors import ValueRangeError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Domain:
    """A declared domain: ``"real"``, ``"positive"``, ``"symmetric"``, ``"positive_definite"``,
    ``"simplex"``, ``"index"`` or an interval ``(low, high)``."""

    name: str = "real"
    low: float = -np.inf
    high: float = np.inf

    def coordinate(self, shape: tuple[int, ...], j: int) -> Array:
        """The direction that moves element ``j`` (and what must move with it)."""
        u = np.zeros(shape)
        u.reshape(-1)[j] = 1.0
        return self.allowed(u)

    def allowed(self, u: Array) -> Array:
        """``u`` projected on the directions that stay in the domain."""
        if self.name in ("symmetric", "positive_definite"):
            return (u + np.swapaxes(u, -1, -2)) / 2
        if self.name == "simplex":
            return u - u.mean(axis=-1, keepdims=True)
        return u

    def limit(self, x: Array, u: Array) -> float:
        """The largest t for which x ± t·u stays in an interval."""
        if not (np.isfinite(self.low) or np.isfinite(self.high)) and self.name != "simplex":
            return np.inf
        low, high = (0.0, 1.0) if self.name == "simplex" else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.minimum(x - low, high - x) / abs(u)
        room = room[(u != 0) & np.isfinite(room)]
        return float(room.min(initial=np.inf))


def domain_of(declared: Any) -> Domain:
    """A domain from what the user wrote; raises ValueRangeError for a word that is none."""
    if declared is None:
        return Domain()
    if isinstance(declared, Domain):
        return declared
    if isinstance(declared, tuple):
        return Domain("interval", float(declared[0]), float(declared[1]))
    names = ("real", "positive", "symmetric", "positive_definite", "simplex", "index")
    if declared not in names:
        raise ValueRangeError(
            f"domain {declared!r} is unknown; there are {', '.join(names)} and (low, high)"
        )
    return Domain(declared, 0.0) if declared == "positive" else Domain(declared)
