"""Pictures: reading a file, and what is done to a picture before, or while, a net learns from it.

A picture is (C, H, W), a batch of them (N, C, H, W). Every function takes Tensors, whose gradients
flow through, and arrays, and gives the same kind and dtype back. The random ones draw from the
generator of ``ta.random``, for every picture of a batch anew.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import Value
from tinygrad_ai.backend import backend_of
from tinygrad_ai.dtypes import real
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError, whole_number
from tinygrad_ai.ops import movement
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.index import take
from tinygrad_ai.ops.products import matmul
from tinygrad_ai.ops.shapes import on_arrays
from tinygrad_ai.tensor import Tensor

Array = np.ndarray[Any, Any]
DIRECTIONS = {"horizontal": -1, "vertical": -2}

# ---------------------------------------------------------------------------------------- files


def load(path: str | os.PathLike[str], grey: bool = False) -> Tensor:
    """The picture in a file as float32 (3, H, W) in [0, 1], red green blue; or ``grey``, (1, H, W).

    Upright as the camera held it, and what is transparent shows white paper. Raises DataError where
    the file is missing, damaged, no picture or too large a one, and where Pillow is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        raise DTypeError(f"image.load: path must be a string or a Path, not {path!r}")
    pixels = channels(path)
    colours = pixels[..., :3] + (1 - pixels[..., 3:])
    if grey:  # ITU-R BT.601, as Pillow's mode L
        colours = (colours @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return Tensor(np.ascontiguousarray(np.moveaxis(colours, -1, 0)))


def channels(path: str | os.PathLike[str]) -> Array:
    """A picture file as float32 (H, W, 4) in [0, 1]: red, green, blue, each times opacity, and it.

    Raises DataError as :func:`load` does.
    """
    Image, ImageOps = pillow()
    too_large = Image.DecompressionBombError, Image.DecompressionBombWarning
    reason = "it is not a whole picture"
    try:
        strict = warnings.catch_warnings(action="error", category=too_large[1])
        with strict, Image.open(path) as opened:
            return _floats(ImageOps.exif_transpose(opened))
    except Image.UnidentifiedImageError:
        reason = "it is not a picture"
    except too_large:
        reason = "it is too large a picture"
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason
    raise DataError(f"cannot read {os.fspath(path)}: {reason}")


def pillow() -> tuple[Any, Any]:
    """Pillow's modules Image and ImageOps; raises DataError where it is not installed."""
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415 - an optional library, slow to import
    except ImportError:
        raise DataError(
            "pictures need the package Pillow, which is not installed",
            "   help: pip install 'tinygrad_ai[plot]'",
        ) from None
    return Image, ImageOps


def _floats(picture: Any) -> Array:
    """The channels of :func:`channels`. Pillow would clip brightness of more than 8 bits."""
    if picture.mode[0] in "IF":
        grey = np.asarray(picture, dtype=np.float32)
        grey = grey / (65535 if picture.mode[0] == "I" else max(float(np.abs(grey).max()), 1e-30))
        return np.stack([grey, grey, grey, np.ones_like(grey)], axis=-1)
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


# --------------------------------------------------------------------------------------- shapes


@on_arrays("image")
def resize(image: Any, size: Any, antialias: bool = True) -> Any:
    """The picture at another ``size``, (H, W) or one number for the shorter side, by bilinear
    interpolation.

    Where it shrinks, ``antialias`` averages over all the pixels that fall together, as Pillow and
    torchvision do; without it, two a side are interpolated and the others lost.

    Raises ShapeError for what is no picture, ValueRangeError for a size below 1, DTypeError for
    whole numbers.
    """
    _check("resize", image, floats=True)
    height, width = image.shape[-2:]
    if np.ndim(size):
        new = _pair("resize", "size", size)
    else:
        short = whole_number("resize", "size", size, least=1)
        new = [max(1, round(side * short / min(height, width))) for side in (height, width)]
    rows, columns = (
        _beside(image, _triangles(old, n, antialias).astype(image.dtype))
        for old, n in zip((height, width), new, strict=True)
    )
    return matmul(matmul(rows, image), columns.T)


def _triangles(old: int, new: int, antialias: bool) -> Array:
    """(new, old): what each old pixel of a line gives to each new one.

    A triangle around the place of the new pixel, one pixel to either side, or one new pixel where
    those are wider; what falls off the edge is given to the others.
    """
    scale = old / new
    reach = max(scale, 1.0) if antialias else 1.0
    places = (np.arange(new) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old) - places[:, None]) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


@on_arrays("image")
def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
    """``height`` by ``width`` pixels of the picture, from row ``top`` and column ``left`` on.

    Raises ShapeError for what is no picture, ValueRangeError for a size below 1 and for a part that
    does not lie within.
    """
    _check("crop", image)
    whole_number("crop", "height", height, least=1)
    whole_number("crop", "width", width, least=1)
    whole_number("crop", "top", top, least=0)
    whole_number("crop", "left", left, least=0)
    if top + height > image.shape[-2] or left + width > image.shape[-1]:
        raise ValueRangeError(
            f"crop: rows {top} to {top + height} and columns {left} to {left + width} are not all "
            f"within a picture of {tuple(image.shape)}"
        )
    return image[..., top : top + height, left : left + width]


@on_arrays("image")
def flip(image: Any, direction: str = "horizontal") -> Any:
    """The picture mirrored: left and right change places, or, "vertical", top and bottom.

    Raises ShapeError for what is no picture, ValueRangeError for another ``direction``.
    """
    _check("flip", image)
    if direction not in DIRECTIONS:
        raise ValueRangeError(f"flip: {direction!r} is none of {', '.join(DIRECTIONS)}")
    return movement.flip(image, DIRECTIONS[direction])


@on_arrays("image")
def rotate(image: Any, degrees: float, fill: float = 0.0) -> Any:
    """The picture turned anticlockwise about its middle, its size kept, by bilinear interpolation.

    What comes from outside the picture is ``fill``. Raises ShapeError for what is no picture,
    ValueRangeError for an angle that is not finite, DTypeError for whole numbers.
    """
    _check("rotate", image, floats=True)
    angle = math.radians(_finite("rotate: degrees", degrees))
    height, width = image.shape[-2:]
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = (y - height / 2).ravel(), (x - width / 2).ravel()
    source_x = math.cos(angle) * x - math.sin(angle) * y + width / 2
    source_y = math.sin(angle) * x + math.cos(angle) * y + height / 2
    inside = _within(source_y, height) & _within(source_x, width)
    flat = image.reshape(*image.shape[:-2], height * width)
    turned = 0.0
    around = product(_neighbours(source_y - 0.5, height), _neighbours(source_x - 0.5, width))
    for (row, row_share), (column, column_share) in around:
        share = _beside(image, (row_share * column_share).astype(image.dtype))
        turned = turned + take(flat, row * width + column, -1) * share
    turned = where(_beside(image, inside), turned, _finite("rotate: fill", fill))
    return turned.reshape(image.shape)


def _within(places: Array, size: int) -> Array:
    """Whether places lie on a line of ``size`` pixels, its end excluded as Pillow does."""
    rounding = 1e-9
    return (places >= -rounding) & (places < size - rounding)


def _neighbours(places: Array, size: int) -> list[tuple[Array, Array]]:
    """The two pixels of a line on either side of each place, and their shares in it."""
    low = np.floor(places)
    share = places - low
    return [
        (np.clip(low + step, 0, size - 1).astype(np.int64), part)
        for step, part in ((0, 1 - share), (1, share))
    ]


@on_arrays("image")
def normalize(image: Any, mean: Any, std: Any) -> Any:
    """``(image - mean) / std``, numbers or one a channel, of shape (C,).

    Raises ShapeError for what is no picture and another number of channels, ValueRangeError unless
    ``std`` is positive, DTypeError for a picture of whole numbers.
    """
    _check("normalize", image, floats=True)
    values = {}
    for name, given in (("mean", mean), ("std", std)):
        array = np.asarray(given, dtype=image.dtype)
        if array.shape not in ((), (image.shape[-3],)):
            raise ShapeError(
                f"normalize: {name} of shape {array.shape} is not one number a channel of "
                f"{tuple(image.shape)}"
            )
        if not np.isfinite(array).all() or (name == "std" and not (array > 0).all()):
            raise ValueRangeError(f"normalize: {name} must be finite, std above 0, not {given}")
        values[name] = _beside(image, array.reshape(-1, 1, 1))
    return (image - values["mean"]) / values["std"]


# --------------------------------------------------------------------------------------- chance


@on_arrays("image")
def random_crop(image: Any, size: Any, padding: int = 0) -> Any:
    """A part of ``size``, (H, W) or one number for both, from anywhere in the picture.

    ``padding`` pixels of 0 are put around it first. Errors as for :func:`crop`.
    """
    _check("random_crop", image)
    height, width = _pair("random_crop", "size", size if np.ndim(size) else (size, size))
    edge = whole_number("random_crop", "padding", padding, least=0)
    lead = [(0, 0)] * (image.ndim - 2)
    padded = movement.pad(image, [*lead, (edge, edge), (edge, edge)]) if edge else image
    room = padded.shape[-2] - height, padded.shape[-1] - width
    if min(room) < 0:
        raise ValueRangeError(
            f"random_crop: {height} by {width} pixels do not fit into {tuple(padded.shape)}"
        )

    def one(picture: Any) -> Any:
        top, left = (int(random.generator().integers(0, rest + 1, 1)[0]) for rest in room)
        return crop(picture, top, left, height, width)

    return _each(padded, one)


@on_arrays("image")
def random_flip(image: Any, p: float = 0.5, direction: str = "horizontal") -> Any:
    """The picture, mirrored as :func:`flip` does with probability ``p``."""
    mirrored = flip(image, direction)
    shape = (*image.shape[:-3], 1, 1, 1)
    chosen = random.bernoulli(p, shape, dtype=np.bool_).numpy()
    return where(_beside(image, chosen), mirrored, image)


@on_arrays("image")
def random_rotate(image: Any, degrees: float, fill: float = 0.0) -> Any:
    """The picture, turned as :func:`rotate` does by an angle from -``degrees`` to ``degrees``."""
    _check("random_rotate", image, floats=True)
    most = _finite("random_rotate: degrees", degrees)

    def one(picture: Any) -> Any:
        return rotate(picture, most * (2 * random.generator().uniform(1, np.float64)[0] - 1), fill)

    return _each(image, one)


def _each(image: Any, function: Callable[[Any], Any]) -> Any:
    """``function`` of every picture of a batch, or of the one there is."""
    if image.ndim == 3:
        return function(image)
    return movement.stack([function(picture) for picture in movement.unstack(image)])


# ------------------------------------------------------------------------------------ arguments


def _check(caller: str, image: Any, floats: bool = False) -> None:
    shape = tuple(image.shape)
    if len(shape) not in (3, 4):
        raise ShapeError(
            f"{caller}: a picture is (C, H, W) or (N, C, H, W), not {shape}",
            f"   help: image[None] makes it {(1, *shape)}" if len(shape) == 2 else "",
        )
    if 0 in shape:
        raise ShapeError(f"{caller}: there is no pixel in a picture of {shape}")
    if floats and image.dtype.kind != "f":
        raise DTypeError(
            f"{caller}: a picture must hold floating-point numbers, not {image.dtype}",
            "   help: divide bytes by 255",
        )


def _pair(caller: str, name: str, size: Any) -> list[int]:
    if np.shape(size) != (2,):
        raise ShapeError(f"{caller}: {name} is a number or (height, width), not {size!r}")
    return [whole_number(caller, name, n, least=1) for n in size]


def _finite(what: str, value: Any) -> float:
    number = real(value, what)
    if not math.isfinite(number):
        raise ValueRangeError(f"{what} must be finite, not {number}")
    return number


def _beside(image: Any, constant: Array) -> Any:
    """``constant`` where the pixels of ``image`` live."""
    array = image.array if isinstance(image, Value) else image
    return backend_of(array).asarray(constant)
