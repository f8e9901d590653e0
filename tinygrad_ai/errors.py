"""The errors users see: one clear headline in ``str(e)``, the rest (picture, rule, fix) as notes.

Every class is also one of Python's own kinds, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

import copy
import sys
import warnings
from operator import index
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

PACKAGE = str(Path(__file__).parent)
KERNELS = str(Path(__file__).parent.parent / "kernels")
NUMPY = str(Path(np.__file__).parent)
COPY = copy.__file__


class TinygradError(Exception):
    """Base of the package's errors; ``notes`` are printed below the headline by Python itself."""

    def __init__(self, headline: str, *notes: str) -> None:
        super().__init__(headline)
        for note in notes:
            if note:
                self.add_note(note)


class ShapeError(TinygradError, ValueError):
    """Shapes or axes that do not fit together."""


class ValueRangeError(TinygradError, ValueError):
    """A value outside what the function accepts: a label out of range, NaN in data…"""


class IndexRangeError(TinygradError, IndexError):
    """An index outside its axis."""


class DTypeError(TinygradError, TypeError):
    """A dtype or a Python type that the operation cannot take."""


class GraphError(TinygradError, RuntimeError):
    """The graph cannot answer: freed, changed in place, or never recorded."""


class AnomalyError(TinygradError, RuntimeError):
    """Raised by :class:`detect_anomaly`: an operation made a NaN or an infinity."""


class DeviceError(TinygradError, RuntimeError):
    """A device that is not there, or arrays of two devices in one operation."""


class DataError(TinygradError, RuntimeError):
    """A data or model file that is missing, damaged or of another kind."""


def whole_number(caller: str, name: str, value: Any, least: int) -> int:
    """``value`` as an int; raises DTypeError for no whole number, ValueRangeError below ``least``.

    NumPy's integers are whole numbers; booleans, and floats without a fraction, are not.
    """
    wanted = f"{caller}: {name} must be a whole number of at least {least}, not {value!r}"
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise DTypeError(wanted)
    if number < least:
        raise ValueRangeError(wanted)
    return number


def user_frame() -> FrameType | None:
    """The innermost frame outside this package, NumPy and ``copy``: the user's own line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(
        (PACKAGE, KERNELS, NUMPY, COPY)
    ):
        frame = frame.f_back
    return frame


def user_line() -> str:
    """``file.py:41`` of the user's line, or an empty string."""
    frame = user_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def user_name(value: object) -> str | None:
    """The name by which the user's frame knows ``value`` (or the Tensor around it), if any."""
    frame = user_frame()
    if frame is None or not hasattr(value, "dtype"):  # None and small numbers have many names
        return None
    for scope in (frame.f_locals, frame.f_globals):
        for name, bound in scope.items():
            same = bound is value or getattr(bound, "array", None) is value
            if same and not name.startswith("_"):
                return name
    return None


def warn_user(message: str) -> None:
    """A UserWarning at the user's own line; Python's filters show it once for each line."""
    frame = user_frame()
    if frame is None:
        warnings.warn(message, stacklevel=2)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(
        message, UserWarning, frame.f_code.co_filename, frame.f_lineno, registry=registry
    )
