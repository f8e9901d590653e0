"""IDX, the format of the MNIST files: two zero bytes, a type, a rank, the sizes, the values.

Source: http://yann.lecun.com/exdb/mnist/ ("The IDX file format"); all numbers are big-endian.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinygrad_ai.errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse(content: bytes) -> np.ndarray[Any, Any]:
    """The array in ``content``, of its own shape and dtype, in native byte order, read-only.

    Raises DataError, without a file's name, where the bytes are not one whole IDX array.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise DataError(f"no IDX data: it starts with {content[:4].hex(' ') or 'nothing'}")
    dtype, rank = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"IDX header cut short: {len(content)} bytes of {start}")
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist())
    expected = start + prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise DataError(
            f"IDX data of shape {shape} needs {expected} bytes, here are {len(content)}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)
