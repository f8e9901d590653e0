"""Derivatives along a line from function values alone, with honest error estimates.

For every output element the derivative of t -> phi(t) at 0 is estimated by central differences,
extrapolated once (Richardson), and its neighbourhood is classified: smooth; a kink with the
interval between its one-sided slopes; singular (the slopes grow without bound); inconclusive.
Rounding noise is measured, not assumed (Moré and Wild, "Estimating computational noise", 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SMOOTH, KINK, SINGULAR, INCONCLUSIVE = range(4)
EPS = float(np.finfo(np.float64).eps)
FIRST = 1e-3  #: relative step of the quick estimate: eps^(1/5), where order 4 meets rounding
RATIO = 4.0  #: each further step is this much smaller
SCATTER = 3  #: the finest levels whose scatter tells the noise
LEVELS = 18  #: steps of the full analysis, from 0.06 of the scale down to 4e-12


@dataclass(frozen=True)
class Slope:
    """Derivative of every output element: between ``low`` and ``high``, each off by ``error``.

    ``natural`` is the size a slope would have if the output changed by as much as it is large.
    """

    low: Array
    high: Array
    error: Array
    kind: Array
    natural: Array

    @property
    def middle(self) -> Array:
        """The derivative, or the middle of a kink's interval."""
        return (self.low + self.high) / 2


class Line:
    """phi(t) along one direction; ``scale`` is the length over which the input varies."""

    def __init__(
        self, phi: Callable[[float], Array], start: Array, scale: float, limit: float = np.inf
    ) -> None:
        self.phi = phi
        self.start = start
        self.scale = scale
        self.limit = limit  #: the largest step that stays in the domain
        self.calls = 0

    def pair(self, h: float) -> tuple[Array, Array]:
        """phi(h) and phi(-h)."""
        self.calls += 2
        return self.phi(h), self.phi(-h)

    def quick(self) -> tuple[Array, Array]:
        """The extrapolated central difference of four values, and its rounding error."""
        h = min(FIRST * self.scale, 0.5 * self.limit)
        with np.errstate(all="ignore"):
            (a, b), (c, d) = self.pair(h), self.pair(h / RATIO)
            coarse, fine = (a - b) / (2 * h), (c - d) * RATIO / (2 * h)
            size = np.maximum(np.maximum(abs(a), abs(b)), np.maximum(abs(c), abs(d)))
            still = (a == b) & (c == d)  # untouched outputs are the same bits: no rounding there
            return (16 * fine - coarse) / 15, np.where(still, 0.0, 4 * EPS * RATIO * size / h)

    def slope(self) -> Slope:
        """The full analysis: every level from coarse to fine, both sides."""
        top = min(0.06 * max(self.scale, 1.0), 0.5 * self.limit)
        extra = int(np.ceil(np.log(max(top / (0.06 * self.scale), 1.0)) / np.log(RATIO)))
        steps = top * RATIO ** -np.arange(LEVELS + min(extra, LEVELS))
        with np.errstate(all="ignore"):
            pairs = [self.pair(h) for h in steps]
            h = steps.reshape(-1, *[1] * self.start.ndim)
            right = np.stack([a for a, _ in pairs])
            left = np.stack([b for _, b in pairs])
            ahead, behind = (right - self.start) / h, (self.start - left) / h
            noise = self._noise(steps, right, left) / h
            # the input itself is rounded when it is moved
            noise = noise + 2 * EPS * self.scale / h * np.fmax(abs(ahead), abs(behind))
            coarse = np.fmax(abs(ahead[0]), abs(behind[0]))
            natural = np.fmax(
                abs(self.start) / self.scale, np.where(np.isfinite(coarse), coarse, 0)
            )
            slope = _classify(ahead, behind, noise, self.start, natural)
            return _settled(slope, (ahead == 0).all(0) & (behind == 0).all(0), self.start, top)

    def _noise(self, steps: Array, right: Array, left: Array) -> Array:
        """The rounding noise of each output element at each level.

        Third differences at tiny steps on either side, and what the finest levels scatter by: a
        function may be a staircase of rounding whose steps the tiny ones do not cross.
        """
        estimates = []
        for sign in (1.0, -1.0):
            self.calls += 7
            values = np.stack([self.phi(sign * steps[-1] * (1 + k)) for k in range(7)])
            third = np.diff(values, 3, axis=0)
            estimates.append(4 * np.sqrt(np.mean(third**2, axis=0) / 20))  # (3!)²/6! = 1/20
        fine = slice(-SCATTER - 1, None)
        h = steps[fine].reshape(-1, *[1] * self.start.ndim)
        quotients = (right[fine] - left[fine]) / (2 * h)
        scatter = np.sort(abs(np.diff(quotients, axis=0)) * h[1:], axis=0)
        changes = np.concatenate([abs(right - self.start), abs(left - self.start)])
        quantum = np.where(changes > 0, changes, np.inf).min(axis=0)
        stuck = (right[-1] == self.start) & (left[-1] == self.start)
        stuck &= quantum <= 1e3 * EPS * np.maximum(abs(self.start), 1.0)
        estimates = [np.fmin(*estimates), 3 * scatter[-1], np.where(stuck, 2 * quantum, 0.0)]
        measured = np.max([np.where(np.isfinite(e), e, 0) for e in estimates], axis=0)
        size = np.maximum(abs(right), abs(left))
        return np.maximum(measured, 2 * EPS * np.where(np.isfinite(size), size, 0))


def _settled(slope: Slope, untouched: Array, start: Array, top: float) -> Slope:
    """Outputs that are the same bits at every step: slope 0, up to what rounding can hide."""
    hidden = EPS * (np.maximum(abs(start), 1.0) if untouched.all() else abs(start)) / top
    return Slope(
        np.where(untouched, 0.0, slope.low),
        np.where(untouched, 0.0, slope.high),
        np.where(untouched, hidden, slope.error),
        np.where(untouched & np.isfinite(start), SMOOTH, slope.kind),
        slope.natural,
    )


def _classify(right: Array, left: Array, noise: Array, start: Array, natural: Array) -> Slope:
    """From one-sided quotients at every level (axis 0, coarse to fine) to a slope."""
    central, central_error = _best((right + left) / 2, noise, order=2)
    p, p_error = _best(right, 2 * noise, order=1)
    q, q_error = _best(left, 2 * noise, order=1)
    size = np.fmax(abs(p), abs(q))
    doubt = 8 * (p_error + q_error) + 1e-6 * size
    flat = ((abs(right) <= 30 * noise) & (abs(left) <= 30 * noise)).all(0)  # nothing but rounding
    one_slope = (abs(p - q) <= doubt) & (abs(central - (p + q) / 2) <= doubt + 8 * central_error)
    smooth = np.isfinite(start) & np.isfinite(central_error) & (one_slope | flat)
    sides = (p_error + q_error <= 1e-2 * abs(p - q)) & np.isfinite(p + q)
    growth = np.fmax(abs(right), abs(left))
    steady = growth > 100 * noise  # what grows is the function, not the rounding
    grows = (growth[-1] > 8 * growth[-6]) & steady[-1]
    singular = ~np.isfinite(start) | ~np.isfinite(growth).any(0) | grows
    kind = np.select([smooth, sides & ~singular, singular], [SMOOTH, KINK, SINGULAR], INCONCLUSIVE)
    low = np.where(kind == SMOOTH, central, np.fmin(p, q))
    high = np.where(kind == SMOOTH, central, np.fmax(p, q))
    error = np.where(kind == SMOOTH, central_error, p_error + q_error)
    return Slope(low, high, np.where(np.isfinite(error), error, np.inf), kind, natural)


def _best(quotients: Array, noise: Array, order: int) -> tuple[Array, Array]:
    """The extrapolation of the level whose error estimate is smallest, and that estimate.

    Levels that finer ones contradict do not count: seen from afar a staircase is a straight line.
    """
    weight = RATIO**order
    extrapolated = ((weight * quotients[1:] - quotients[:-1]) / (weight - 1))[1:]
    change = abs(np.diff(extrapolated, axis=0, prepend=np.nan))
    change[0] = abs(extrapolated[0] - quotients[1])
    rounding = 2 * noise[2:]
    error = np.where(np.isfinite(change + rounding), change + rounding, np.inf)
    known = np.isfinite(extrapolated)
    floor = np.where(known, extrapolated - 6 * rounding, -np.inf)
    ceiling = np.where(known, extrapolated + 6 * rounding, np.inf)
    none = np.full_like(extrapolated[:1], np.inf)
    above = np.concatenate([np.maximum.accumulate(floor[::-1])[::-1][1:], -none])
    below = np.concatenate([np.minimum.accumulate(ceiling[::-1])[::-1][1:], none])
    upheld = (extrapolated + 4 * error >= above) & (extrapolated - 4 * error <= below)
    k = np.expand_dims(np.argmin(np.where(upheld, error, np.inf), axis=0), 0)
    value = np.take_along_axis(extrapolated, k, 0)[0]
    return value, np.take_along_axis(np.where(upheld, error, np.inf), k, 0)[0]
