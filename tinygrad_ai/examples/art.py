"""Small pictures made of characters."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.train.terminal import Terminal

QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"  # bit 0: upper left, 1: upper right, 2: lower left, 3: lower right
SHADES = " .:-=+*#%@"


def draw(picture: np.ndarray[Any, Any], terminal: Terminal) -> list[str]:
    """``picture``, values in [0, 1] of shape (2 rows, 2 columns), as lines of characters.

    A character shows two by two pixels, or their mean where the encoding has no blocks.
    """
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    cells = picture.reshape(rows, 2, columns, 2).swapaxes(1, 2).reshape(rows, columns, 4)
    if terminal.glyphs(QUADRANTS, "") == QUADRANTS:
        codes, letters = (cells > 0.4) @ [1, 2, 4, 8], QUADRANTS
    else:
        codes, letters = np.rint(cells.mean(axis=-1) * (len(SHADES) - 1)).astype(int), SHADES
    return ["".join(letters[code] for code in row) for row in codes]


def thumbnail(digit: np.ndarray[Any, Any], terminal: Terminal) -> list[str]:
    """A digit (28, 28) as 7 lines of 14 characters."""
    return draw(digit.reshape(14, 2, 28).mean(axis=1), terminal)


def portrait(digit: np.ndarray[Any, Any], terminal: Terminal) -> list[str]:
    """The inner 20 by 20 pixels of a digit (28, 28) as 10 lines of 20 characters."""
    return draw(digit[4:24, 4:24].repeat(2, axis=1), terminal)
