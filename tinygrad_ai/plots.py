"""Pictures of training, drawn with matplotlib when there is something to draw."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai.errors import DataError, ValueRangeError
from tinygrad_ai.files import atomic_write

INK, FAINT, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
TRAIN, VALIDATION = "#2563eb", "#ea580c"  # apart for every common colour blindness
LABELLED = 20  # classes; above it, numbers in the cells would be too small to read


def available() -> bool:
    """Whether matplotlib is installed; it is not imported to find out."""
    return importlib.util.find_spec("matplotlib") is not None


def curves(
    epochs: Sequence[int], history: Mapping[str, Sequence[float]], path: str | os.PathLike[str]
) -> None:
    """One panel a quantity, training and validation together, over the epochs.

    Raises DataError where matplotlib is missing or the file cannot be written, ValueRangeError for
    a suffix that stands for no picture.
    """
    names = [name for name in history if not name.startswith("val_")]
    figure = _figure(4.6 * len(names), 3.6, path)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _plain(axes)
        for label, column, colour in (
            ("training", name, TRAIN),
            ("validation", f"val_{name}", VALIDATION),
        ):
            if column in history:
                marker = "o" if len(epochs) <= 30 else None
                axes.plot(
                    epochs,
                    history[column],
                    color=colour,
                    label=label,
                    marker=marker,
                    markersize=3.5,
                )
        axes.set_title(name.replace("_", " "), color=INK, loc="left", fontsize=12)
        axes.set_xlabel("epoch", color=FAINT)
        axes.grid(axis="y", color=GRID)
        axes.locator_params(axis="x", integer=True)
        if f"val_{name}" in history:
            axes.legend(frameon=False, labelcolor=INK)
    _write(figure, path)


def confusion(
    matrix: np.ndarray[Any, Any], path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> None:
    """A confusion matrix (C, C), true classes in rows: counts, coloured by the share of the row.

    Raises DataError where matplotlib is missing or the file cannot be written, ValueRangeError for
    a suffix that stands for no picture.
    """
    size = len(matrix)
    names = [str(i) for i in range(size)] if names is None else names
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = _figure(2.2 + 0.45 * size, 1.8 + 0.45 * size, path)
    axes = figure.subplots()
    _plain(axes)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # √: a share of 1 % can be seen
    axes.set_xticks(range(size), names, color=INK)
    axes.set_yticks(range(size), names, color=INK)
    axes.set_xlabel("predicted", color=FAINT)
    axes.set_ylabel("true", color=FAINT)
    right = np.trace(matrix) / max(matrix.sum(), 1)
    axes.set_title(f"{right:.2%} of {matrix.sum():,} right", color=INK, loc="left", fontsize=12)
    if size <= LABELLED:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[row, column] > 0.4 else INK
                axes.text(
                    column, row, f"{count}", color=colour, ha="center", va="center", fontsize=9
                )
    _write(figure, path)


def _figure(width: float, height: float, path: str | os.PathLike[str]) -> Any:
    """A figure, in inches, that can be written to ``path``."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional library, slow to import
    except ImportError:
        raise DataError(
            "pictures need the package matplotlib, which is not installed",
            "   help: pip install 'tinygrad_ai[plot]'",
        ) from None
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    formats = sorted(figure.canvas.get_supported_filetypes())
    if (suffix := Path(path).suffix).lower().removeprefix(".") not in formats:
        kind = f"pictures of the kind {suffix!r}" if suffix else "a picture without a suffix"
        raise ValueRangeError(
            f"cannot draw {kind}: {os.fspath(path)}",
            f"   there are {', '.join(formats)}",
        )
    return figure


def _plain(axes: Any) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=FAINT, length=0)
    axes.set_axisbelow(True)


def _write(figure: Any, path: str | os.PathLike[str]) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
