"""From any picture of a handwritten digit to what MNIST would have made of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tinygrad_ai.data.image import channels, pillow
from tinygrad_ai.errors import DataError

Array = np.ndarray[Any, Any]
SIDE, BOX = 28, 20  # of the result, and of the square that the ink is scaled into
PAPER = 0.25  # of the darkest ink: what is fainter belongs to the paper


def scan(path: str | os.PathLike[str]) -> Array:
    """The digit in a picture file as float32 (28, 28) in [0, 1], light on dark.

    As LeCun et al. made MNIST (1998): the ink, whatever its colour and size, is scaled into 20 by
    20 pixels with its proportions kept, and placed with its centre of mass in the middle. The paper
    is what the border of the picture shows; ink is what differs from it, in colour or in opacity.

    Raises DataError where the file is missing, no picture, or shows no ink, and where Pillow is not
    installed.
    """
    page = channels(path)
    border = np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])
    away = page - np.median(border, axis=0)
    ink = np.sqrt(np.square(away).sum(axis=-1) / 3).astype(np.float32)  # 1 from white to black
    if ink.max() < 0.1:
        raise DataError(f"{os.fspath(path)} shows no digit: it has one colour all over")
    ink = ink / ink.max()
    ink[ink < PAPER] = 0
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(_fitted(cut))


def _fitted(ink: Array) -> Array:
    """``ink`` scaled so that its longer side has 20 pixels."""
    Image, _ = pillow()
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
