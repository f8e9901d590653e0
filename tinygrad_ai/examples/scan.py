"""From any picture of a handwritten digit to what MNIST would have made of it."""

from __future__ import annotations

import os
import warnings
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
    is what the border of the picture shows; ink is what differs from it, in colour or in opacity.

    Raises DataError where the file is missing, no picture, or shows no ink, and where Pillow is not
    installed.
    """
    page = _channels(path)
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


def _channels(path: str | os.PathLike[str]) -> Array:
    """The picture as (height, width, 4) in [0, 1]: opacity, and red, green, blue times it."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415 - an optional library, slow to import
    except ImportError:
        raise DataError(
            "pictures need the package Pillow, which is not installed",
            "   help: pip install 'tinygrad_ai[plot]'",
        ) from None
    too_large = Image.DecompressionBombError, Image.DecompressionBombWarning
    reason = "it is not a whole picture"
    try:
        strict = warnings.catch_warnings(action="error", category=too_large[1])
        with strict, Image.open(path) as opened:
            return _floats(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        reason = "it is not a picture"
    except too_large:
        reason = "it is too large a picture"
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason
    raise DataError(f"cannot read {os.fspath(path)}: {reason}")


def _floats(picture: Any) -> Array:
    """The channels of :func:`_channels`. Pillow would clip brightness of more than 8 bits."""
    if picture.mode[0] in "IF":
        grey = np.asarray(picture, dtype=np.float32)
        grey = grey / (65535 if picture.mode[0] == "I" else max(float(np.abs(grey).max()), 1e-30))
        return np.stack([grey, grey, grey, np.ones_like(grey)], axis=-1)
    channels = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    channels[..., :3] *= channels[..., 3:]
    return channels


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
