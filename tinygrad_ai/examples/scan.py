"""From any picture of a handwritten digit to what MNIST would have made of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tinygrad_ai.errors import DataError

Array = np.ndarray[Any, Any]
SIDE, BOX = 28, 20  # of the result, and of the square that the ink is scaled into
PAPER = 0.25  # of the darkest ink: what is fainter belongs to the paper


def scan(path: str | os.PathLike[str]) -> Array:
    """The digit in a picture file as float32 (28, 28) in [0, 1], light on dark.

    As LeCun et al. made MNIST (1998): the ink, whatever its colour and size, is scaled into 20 by
    20 pixels with its proportions kept, and placed with its centre of mass in the middle. The paper
    is what the border of the picture shows, light or dark.

    Raises DataError where the file is missing, no picture, or shows no ink, and where Pillow is not
    installed.
    """
    grey = _grey(path)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(border))
    if ink.max() < 0.1:
        raise DataError(f"{os.fspath(path)} shows no digit: it has one colour all over")
    ink = ink / ink.max()
    ink[ink < PAPER] = 0
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(_fitted(cut))


def _grey(path: str | os.PathLike[str]) -> Array:
    """The picture's brightness in [0, 1], transparent parts as white paper."""
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415 - an optional library, slow to import
    except ImportError:
        raise DataError(
            "pictures need the package Pillow, which is not installed",
            "   help: pip install 'tinygrad_ai[plot]'",
        ) from None
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole picture"
        raise DataError(f"cannot read {os.fspath(path)}: {reason}") from None
    paper = Image.new("RGBA", picture.size, "white")
    grey = Image.alpha_composite(paper, picture).convert("L")
    return np.asarray(grey, dtype=np.float32) / 255


def _fitted(ink: Array) -> Array:
    """``ink`` scaled so that its longer side has 20 pixels."""
    from PIL import Image  # noqa: PLC0415 - an optional library, slow to import

    height, width = (max(1, round(side * BOX / max(ink.shape))) for side in ink.shape)
    scaled = Image.fromarray(ink).resize((width, height), Image.Resampling.BOX)
    array = np.asarray(scaled)
    return array / array.max()


def _centred(ink: Array) -> Array:
    """``ink`` on 28 by 28 pixels, its centre of mass at pixel (14, 14), as in all of MNIST."""
    page = np.zeros((SIDE, SIDE), dtype=np.float32)
    corner = []
    for axis, side in enumerate(ink.shape):
        profile = ink.sum(axis=1 - axis)
        middle = float(profile @ np.arange(side) / profile.sum())
        corner.append(int(np.clip(round(SIDE / 2 - middle), 0, SIDE - side)))
    top, left = corner
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page
