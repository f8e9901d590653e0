"""Fused kernels that are alike but for their arrays: what is written for one serves the others.

A network unrolled in time has the same few kernels for every moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygrad_ai.jit.fuse import Fused, Rows
from tinygrad_ai.jit.lower_rows import row_lanes
from tinygrad_ai.jit.program import Equation, Var, identity
from tinygrad_ai.jit.rows import RowProgram

Place = tuple[Var, int]  # an array, and where an operand begins in it


class Alike:
    """What was written for a kernel, for all of its kind."""

    def __init__(self, program: RowProgram, places: Sequence[Place]) -> None:
        """``places`` are those of the kernel that ``program`` was written for, by number."""
        self.program = program
        self.lanes = row_lanes(program)
        self.key = f"{self.lanes} {program.key()}"
        numbers = {place: k for k, place in enumerate(places)}
        offsets = program.offsets
        self.numbers = [numbers[v, offsets.get(k, 0)] for k, v in enumerate(program.operands)]

    def operands(self, places: Sequence[Place]) -> tuple[list[Var], dict[int, int]]:
        """The operands of another kernel, and where they begin."""
        mine = [places[n] for n in self.numbers]
        return [v for v, _ in mine], {k: at for k, (_, at) in enumerate(mine) if at}


class Pattern(NamedTuple):
    """``key`` is the same for kernels alike, ``places`` are what each has for the numbers in it."""

    key: Any
    places: list[Place]

    @classmethod
    def of(cls, fused: Fused, kernel: Rows) -> Pattern:
        """The pattern of a kernel."""
        places: dict[Place, int] = {(fused.flag, 0): 0}

        def read(v: Any) -> Any:
            if not isinstance(v, Var):
                return identity(v)
            view = fused.views[v]
            number = places.setdefault((view.root, view.offset), len(places))
            return number, view.root.aval, view.shape, view.strides

        def made(v: Var) -> Any:
            number = places.setdefault((v, 0), len(places))
            return number, v.aval, kernel.made[v], v in fused.stored

        def line(e: Equation) -> Any:
            inputs, outputs = tuple(map(read, e.inputs)), tuple(map(made, e.outputs))
            return e.operation, e.static, inputs, outputs

        lines = tuple(map(line, kernel.equations))
        return cls((kernel.outer, kernel.columns, kernel.size, lines), list(places))
