"""Small things to work with at once: eight plays of Shakespeare, five photographs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tinygrad_ai.data import store
from tinygrad_ai.data.image import pillow
from tinygrad_ai.errors import ValueRangeError

PLAY = re.compile(r"^.+\n\nby William Shakespeare$", re.MULTILINE)
SPLITS = ("train", "validation", "all")


def shakespeare(split: str = "train") -> str:
    """Eight plays as one string of 76 distinct characters; "all" has 1,036,491 of them.

    "validation" is the last tenth of each play, "train" the rest: the tail of the whole text would
    be a play that training never saw. Raises ValueRangeError for another ``split``.
    """
    if split not in SPLITS:
        raise ValueRangeError(f"shakespeare: split {split!r} is none of {', '.join(SPLITS)}")
    path = store.BUNDLED / "shakespeare_8plays.txt.gz"
    text = store.read(path, lambda p: store.unpack(p.read_bytes()).decode("utf-8"))
    if split == "all":
        return text
    starts = [play.start() for play in PLAY.finditer(text)]
    parts = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        cut = end - (end - start) // 10
        parts.append(text[start:cut] if split == "train" else text[cut:end])
    return "".join(parts)


def photo(name: str = "chelsea") -> np.ndarray[Any, Any]:
    """A photograph as uint8 of shape (height, width, 3), red green blue, 320 pixels wide.

    Names: astronaut, chelsea (a cat), coffee, hubble_deep_field, rocket. Raises ValueRangeError for
    another name, DataError where Pillow is not installed.
    """
    names = sorted(path.stem for path in store.BUNDLED.glob("*.jpg"))
    if name not in names:
        raise ValueRangeError(f"photo: no picture {name!r}; there are {', '.join(names)}")
    Image, _ = pillow()
    with Image.open(store.BUNDLED / f"{name}.jpg") as picture:
        return np.array(picture.convert("RGB"))
