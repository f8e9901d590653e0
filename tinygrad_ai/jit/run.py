"""How a program is executed: for now by NumPy, equation by equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.jit.program import Program, Var


class Interpreted:
    """A program evaluated by NumPy, as eager mode does."""

    def __init__(self, program: Program, in_place: Sequence[bool], check: bool = False) -> None:
        self.program = program
        self.in_place = in_place
        self.check = check

    def __call__(self, arrays: Sequence[Any], targets: Sequence[Any]) -> list[Any] | None:
        """The outputs, those with targets written to them; None where ``check`` finds a NaN."""
        values: dict[Var, Any] = {
            i.var: a for i, a in zip(self.program.inputs, arrays, strict=True)
        }
        for e in self.program.equations:
            inputs = [values[v] if isinstance(v, Var) else v for v in e.inputs]
            values.update(zip(e.outputs, e.evaluate(inputs), strict=True))
        found = [values[v] for v in self.program.outputs]
        if self.check and any(f.dtype.kind == "f" and bool(np.isnan(f).any()) for f in found):
            return None
        found = [np.array(f) for f in found]
        for target, value in zip(targets, found, strict=True):
            if target is not None:
                np.copyto(target, value)
        return found

    def report(self) -> str:
        """What runs."""
        return f"{len(self.program.equations)} operations by NumPy"

    def source(self) -> str:
        """There is no code of our own."""
        return ""


execution = Interpreted
