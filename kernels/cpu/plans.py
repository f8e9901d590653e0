"""How a product is cut up: by a model of registers, ports and caches, never by trying.

The constants of the model were fitted to the times of all tiles of 19 products; what it knows of a
host are its registers and two of its caches. No choice changes the bits of a product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np

from tinygrad_ai.kernels.cpu.simd import host_bytes, host_lanes

PAGE = 4096  # bytes: addresses that far apart share a set of the first cache
LINE = 64  # bytes of a cache line
UNITS = 16  # units of work that feed a few threads
MANY = 128  # rows and columns of C from which copies of operands for the caches' sake pay
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Host:
    """What decides about tiles: registers, of so many lanes of an element's bytes, and caches."""

    lanes: int
    itemsize: int
    registers: int
    first: int
    second: int


class Tile(NamedTuple):
    """Rows and vectors of C that are in registers at a time."""

    rows: int
    vectors: int


@dataclass(frozen=True)
class Plan:
    """``rows`` by ``vectors`` registers of C at a time, over ``depth`` steps of k.

    A unit of work is such a row of tiles, ``panels`` long.
    """

    lanes: int
    rows: int
    vectors: int
    depth: int
    panels: int

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.vectors * self.lanes

    def blocks(self, m: int, n: int) -> tuple[int, int]:
        """Units of work down and across."""
        return -(-m // self.rows), -(-n // (self.width * self.panels))


@cache
def host(dtype: str = "float32") -> Host:
    """This machine; where its caches are not known, 32 KiB and 512 KiB."""
    arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    many = arm or host_bytes() == 64  # AVX-512 has twice as many
    lanes = host_lanes(np.dtype(dtype))
    caches = _cache(1, 32 << 10), _cache(2, 512 << 10)
    return Host(lanes, np.dtype(dtype).itemsize, 32 if many else 16, *caches)


def _cache(level: int, default: int) -> int:
    """Bytes of the data cache of a level, as Linux tells them."""
    try:
        for folder in CACHES.glob("index*"):
            said, kind, size = ((folder / n).read_text().strip() for n in ("level", "type", "size"))
            if int(said) == level and kind != "Instruction":
                return int(size.removesuffix("K")) << 10
    except (OSError, ValueError):
        pass
    return default


def crowded(stride: int, itemsize: int, positions: int) -> bool:
    """Whether rows ``stride`` elements apart begin at so few places of a page, or fewer."""
    return math.gcd(stride * itemsize, PAGE) * positions >= PAGE


def tile_for(m: int, n: int, k: int, machine: Host, most: int | None = None, by: int = 1) -> Tile:
    """The tile with the least time by the model: ``most`` rows at most, a multiple of ``by``."""
    free = machine.registers - 1  # one takes A's element
    columns = max(1, -(-n // machine.lanes))
    tiles = [
        Tile(r, v)
        for v in range(1, min(columns, 8) + 1)
        for r in range(by, min(m, most or m, free) + 1, by)
        if r * v + v <= free
    ]
    if not tiles:  # no rows, or a machine of hardly any registers
        return Tile(1, 1)
    return min(tiles, key=lambda t: (_cycles(t, m, columns, k, machine), -t.rows * t.vectors))


@cache
def planned(batch: int, m: int, n: int, k: int, a: tuple[int, int] | None, machine: Host) -> Plan:
    """The cut of ``batch`` products, where A's strides are ``a``, or it is packed.

    A block of k is no deeper than a quarter of the second cache holds of a panel of B; blocks of
    columns are made where rows alone would leave threads without work.
    """
    most = None
    if a and a[1] == 1 and crowded(a[0], machine.itemsize, 1):
        most = max(4, machine.first // PAGE * 3 // 4)  # these share the ways of a set with B
    rows, vectors = tile_for(m, n, k, machine, most, 1 if a else 4)
    width = vectors * machine.lanes
    depth = max(1, machine.second // 4 // (width * machine.itemsize))
    depth = -(-k // max(1, -(-k // depth)))  # all blocks alike
    across = max(1, -(-n // width))
    parts = min(across, -(-UNITS // max(1, batch * -(-m // rows))))
    return Plan(machine.lanes, rows, vectors, max(1, depth), -(-across // parts))


def _cycles(tile: Tile, m: int, columns: int, k: int, machine: Host) -> float:
    """Estimated cycles of a product with a tile, ``columns`` in registers.

    Two multiply-adds and nearly two loads a cycle, four cycles' latency; a line of B from the
    second cache takes 2.4, one of A from behind it 5. Each different tile is compiled, which counts
    a little.
    """
    (rows, vectors), register = tile, machine.lanes * machine.itemsize
    far = k * vectors * register > machine.first / 2
    away = m * k * machine.itemsize > machine.second
    total, different = 0.0, 0
    for r, down in ((rows, m // rows), (m % rows, 1)):
        for v, across in ((vectors, columns // vectors), (columns % vectors, 1)):
            if r and v and down and across:
                lines = 2.4 * v * register / LINE * far
                step = max(r * v / 2, 0.52 * (r + v), lines, 4.4)
                step += 5 * r * machine.itemsize / LINE * away
                total += down * across * (k * step + 2 * r * v + 12)
                different += 1
    return total + min(0.03 * total, 4000) * different
