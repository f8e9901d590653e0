"""What the checker found: verdict, worst element, causes, coverage; as text, JSON and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai.errors import DataError
from tinygrad_ai.files import atomic_write


@dataclass(frozen=True)
class Cause:
    """A hypothesis that explains what is wrong: its label, how well it fits (0 to 1), in words."""

    label: str
    score: float
    text: str


@dataclass(frozen=True)
class Finding:
    """One disagreement: where, what the rule gave, and the interval in which it should lie."""

    kind: str  #: value, shape, dtype, mutation, aliasing, random, nonlinear, zero, missing, second
    text: str
    argument: int | None = None
    index: tuple[int, ...] | None = None
    analytic: float | None = None
    low: float | None = None
    high: float | None = None
    ulps: float | None = None


@dataclass
class Coverage:
    """What was looked at: how many coordinates and directions, and how they were classified."""

    elements: int = 0  #: input elements that can carry a gradient
    coordinates: int = 0  #: of these, checked one by one
    directions: int = 0  #: random and group directions
    kinks: int = 0
    singular: int = 0
    inconclusive: int = 0
    calls: int = 0  #: evaluations of the function


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: NaN and infinities as words."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(float(value))
    return int(value) if isinstance(value, np.integer) else value


@dataclass
class GradReport:
    """The answer of :func:`check_gradients`; true if the verdict is ``"pass"``."""

    verdict: str = "pass"
    findings: list[Finding] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    margin: float = 0.0  #: the worst error as a multiple of its tolerance; above 1 fails
    notes: list[str] = field(default_factory=list)  #: formula, first wrong node, how to reproduce
    errors: dict[int, Any] = field(default_factory=dict)  #: argument -> |error| by element

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    @property
    def worst(self) -> Finding | None:
        """The finding with the largest error (one that is not about values comes first)."""
        order = sorted(self.findings, key=lambda f: (f.kind == "value", -(f.ulps or 0)))
        return order[0] if order else None

    def text(self) -> str:
        """The report for a terminal."""
        c = self.coverage
        lines = [f"gradient check: {self.verdict.upper()}  (margin {self.margin:.2g})"]
        if self.worst is not None:
            lines.append("  " + self.worst.text)
        lines += [f"  cause: {cause.text}  [{cause.score:.2f}]" for cause in self.causes[:3]]
        lines += [f"  {note}" for note in self.notes]
        lines.append(
            f"  looked at {c.coordinates} of {c.elements} elements one by one, {c.directions} "
            f"directions, {c.calls} calls; {c.kinks} at kinks, {c.singular} singular, "
            f"{c.inconclusive} inconclusive"
        )
        return "\n".join(lines)

    def to_json(self) -> str:
        """The report as one JSON object."""
        body = {
            "verdict": self.verdict,
            "margin": self.margin,
            "findings": [asdict(f) for f in self.findings],
            "causes": [asdict(c) for c in self.causes],
            "coverage": asdict(self.coverage),
            "notes": self.notes,
        }
        return json.dumps(_plain(body), allow_nan=False)

    def picture(self, path: str | Path, argument: int | None = None) -> None:
        """Write the error over a two-dimensional argument as a PNG (matplotlib, extra ``plot``).

        Raises DataError if there is no argument with two dimensions or no matplotlib.
        """
        shown = [k for k, e in self.errors.items() if e.ndim == 2 and argument in (None, k)]
        if not shown:
            raise DataError("the picture needs an argument with two dimensions that was checked")
        try:
            from matplotlib.figure import Figure  # noqa: PLC0415  (an extra)
        except ImportError:
            raise DataError(
                "pictures need matplotlib", "   help: pip install 'tinygrad_ai[plot]'"
            ) from None
        errors = np.asarray(self.errors[shown[0]], dtype=float)
        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(np.log10(np.maximum(errors, 1e-17)), cmap="magma")
        figure.colorbar(image, label="log₁₀ of the relative error")
        axes.set_title(f"argument {shown[0]}: {self.verdict}")
        with atomic_write(Path(path)) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
