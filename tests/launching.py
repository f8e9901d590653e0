"""Kernels run on arrays between canaries, their units of work divided in any way."""

from itertools import pairwise

import numpy as np

from tinygrad_ai.kernels.cpu.machine import Native

TOLERANCE = {"float32": {"rtol": 1e-4, "atol": 2e-4}, "float64": {"rtol": 1e-11, "atol": 1e-11}}
GUARD = 16


def launched(text, operands, units, scratch=0, splits=()):
    """Run a kernel over the units, divided at ``splits``, the last part first.

    Scratch memory begins as garbage.
    """
    room = np.full(scratch + 64, 0x7F, np.uint8)
    skip = -room.__array_interface__["data"][0] % 64
    given_ = [*operands, room[skip:]]
    kernel = Native(text, "kernel", 4)
    ends = [0, *splits, units]
    for begin, end in reversed(list(pairwise(ends))):
        if begin < end:
            kernel.launch(given_, begin, end)


def guarded(shape, dtype):
    """Memory between canaries, and the array in it."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, 7.0, dtype)
    return memory, memory[GUARD : GUARD + size]


def check(memory, shape, wanted, dtype):
    assert (memory[:GUARD] == 7).all() and (memory[-GUARD:] == 7).all(), "written outside"
    found = memory[GUARD:-GUARD].reshape(shape)
    np.testing.assert_allclose(found, wanted, **TOLERANCE[dtype])
    return found.copy()
