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
SIGNED = "RdBu"  # red below 0, blue above: apart for every common colour blindness
LETTER, LINE = 0.068, 92  # inches a letter, letters a line, in a picture of words
MARKED = 30  # epochs; above it, points would run into each other
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
                marker = "o" if len(epochs) <= MARKED else None
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
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
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


def pictures(
    rows: Sequence[np.ndarray[Any, Any]],
    path: str | os.PathLike[str],
    names: Sequence[str] | None = None,
) -> None:
    """Rows of grey pictures (N, H, W), values in [0, 1], light on dark; ``names`` of the rows.

    Raises DataError and ValueRangeError as :func:`confusion` does.
    """
    count, height, width = rows[0].shape
    names = [""] * len(rows) if names is None else names
    figure = _figure(0.45 * count, len(rows) * (0.3 + 0.45 * height / width), path)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, row, name in zip(panels, rows, names, strict=True):
        _plain(axes)
        line = np.pad(row, ((0, 0), (1, 1), (1, 1))).swapaxes(0, 1).reshape(height + 2, -1)
        axes.imshow(line, cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(name, color=INK, loc="left", fontsize=10)
    _write(figure, path)


def latent(
    codes: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], path: str | os.PathLike[str]
) -> None:
    """Codes (N, K) on the two axes along which they vary most (PCA), coloured by label (N,).

    A label stands at the median of its points. Raises DataError and ValueRangeError as
    :func:`confusion` does.
    """
    centred = codes - codes.mean(axis=0)
    variance, axes_of = np.linalg.eigh(np.cov(centred.astype(float), rowvar=False))
    points, share = centred @ axes_of[:, :-3:-1], variance[:-3:-1] / max(variance.sum(), 1e-30)
    figure = _figure(6.4, 6.0, path)
    axes = figure.subplots()
    _plain(axes)
    for k, label in enumerate(np.unique(labels)):
        x, y = points[labels == label].T
        axes.scatter(x, y, s=5, color=f"C{k % 10}", linewidths=0, alpha=0.7)
    for k, label in enumerate(np.unique(labels)):
        middle = np.median(points[labels == label], axis=0)
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": f"C{k % 10}"}
        axes.annotate(str(label), middle, color=INK, ha="center", va="center", bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"first principal component, {share[0]:.0%} of the variance", color=FAINT)
    axes.set_ylabel(f"second, {share[1]:.0%}", color=FAINT)
    _write(figure, path)


def compared(
    lines: Mapping[str, Sequence[float]], title: str, path: str | os.PathLike[str]
) -> None:
    """One number of several runs over their epochs in one panel, each line with its name.

    Raises DataError and ValueRangeError as :func:`confusion` does.
    """
    figure = _figure(5.6, 3.6, path)
    axes = figure.subplots()
    _plain(axes)
    for name, values in lines.items():
        marker = "o" if len(values) <= MARKED else None
        axes.plot(range(1, len(values) + 1), values, label=name, marker=marker, markersize=3.5)
    axes.set_title(title, color=INK, loc="left", fontsize=12)
    axes.set_xlabel("epoch", color=FAINT)
    axes.grid(axis="y", color=GRID)
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, labelcolor=INK)
    _write(figure, path)


def shares(
    image: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """A grey picture (H, W), light on dark, beside the shares (H, W) of its pixels in a score.

    Blue pixels speak for it, red ones against it; the outline of the picture is drawn over them.
    Raises DataError and ValueRangeError as :func:`confusion` does.
    """
    figure = _figure(5.4, 2.6, path)
    left, right = figure.subplots(1, 2)
    largest = np.abs(values).max(initial=0) or 1.0
    left.imshow(image, cmap="gray")
    drawn = right.imshow(values, cmap=SIGNED, vmin=-largest, vmax=largest)
    if np.ptp(image):
        right.contour(image, [(image.min() + image.max()) / 2], colors=FAINT, linewidths=0.8)
    for axes in (left, right):
        _plain(axes)
        axes.set_xticks([])
        axes.set_yticks([])
    bar = figure.colorbar(drawn, ax=right, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=FAINT, length=0, labelsize=8)
    left.set_title(title, color=INK, loc="left", fontsize=11)
    _write(figure, path)


def words(
    texts: Sequence[tuple[str, Sequence[str], np.ndarray[Any, Any]]], path: str | os.PathLike[str]
) -> None:
    """Texts, each ``(title, words, shares)``: blue words speak for the score, red ones against it.

    A colour is full at the largest share of its text. Raises DataError and ValueRangeError as
    :func:`confusion` does.
    """
    lines: list[list[tuple[int, str, float]]] = []  # of a line: column, word, colour in [-1, 1]
    titles: dict[int, str] = {}
    for title, listed, values in texts:
        titles[len(lines)] = title
        largest = np.abs(values).max(initial=0) or 1.0
        column = 0
        line: list[tuple[int, str, float]] = []
        for word, value in zip(listed, np.asarray(values) / largest, strict=True):
            if column and column + len(word) > LINE:
                lines, column, line = [*lines, line], 0, []
            line.append((column, word, float(value)))
            column += len(word) + 1
        lines += [line, []]
    rows = len(lines) + len(titles)
    figure = _figure(0.2 + LETTER * LINE, 0.2 + 0.23 * rows, path)
    axes = figure.subplots()
    axes.set(xlim=(0, LINE), ylim=(rows, 0))
    axes.axis("off")
    colours, y = _signed(), 0.5
    for number, line in enumerate(lines):
        if number in titles:
            axes.text(0, y, titles[number], color=INK, fontsize=9, weight="bold", va="center")
            y += 1
        for column, word, value in line:
            box = {"boxstyle": "square,pad=0.12", "linewidth": 0}
            box["facecolor"] = colours((1 + value) / 2)
            pen = "white" if abs(value) > 0.7 else INK
            font = {"family": "monospace", "fontsize": 8, "va": "center"}
            axes.text(column, y, _literal(word), color=pen, bbox=box, **font)
        y += 1
    _write(figure, path)


def attention(
    weights: np.ndarray[Any, Any],
    rows: Sequence[str],
    columns: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Attention (R, C): row i shows which of the ``columns`` the word ``rows[i]`` looks at.

    Raises DataError and ValueRangeError as :func:`confusion` does.
    """
    figure = _figure(1.6 + 0.21 * len(columns), 1.2 + 0.21 * len(rows), path)
    axes = figure.subplots()
    _plain(axes)
    drawn = axes.imshow(weights, cmap="Blues", vmin=0)
    names = [_literal(word) for word in columns]
    axes.set_xticks(range(len(columns)), names, color=INK, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), [_literal(word) for word in rows], color=INK, fontsize=8)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=FAINT, length=0, labelsize=8)
    _write(figure, path)


def search(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
    path: str | os.PathLike[str],
) -> None:
    """Loss against learning rate, the latter in its logarithm, with a line at the ``suggestion``.

    Raises DataError and ValueRangeError as :func:`confusion` does.
    """
    figure = _figure(5.6, 3.6, path)
    axes = figure.subplots()
    _plain(axes)
    axes.semilogx(rates, losses, color=GRID)
    axes.semilogx(rates, smoothed, color=TRAIN)
    if suggestion is not None:
        axes.axvline(suggestion, color=VALIDATION, linewidth=1)
    axes.set_title("loss", color=INK, loc="left", fontsize=12)
    axes.set_xlabel("learning rate", color=FAINT)
    axes.grid(axis="y", color=GRID)
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


def _literal(text: str) -> str:
    """``text`` without the dollar signs between which matplotlib would read formulas."""
    return text.replace("$", "\\$")


def _signed() -> Any:
    from matplotlib import colormaps  # noqa: PLC0415 - an optional library, slow to import

    return colormaps[SIGNED]
