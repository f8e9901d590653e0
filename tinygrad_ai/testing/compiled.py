"""Functions of this library's tensors behind the adapter protocol, compiled by ``jit``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from tinygrad_ai.jit import Step, jit
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.adapters import (
    Arrays,
    Function,
    TinygradAdapter,
    outputs,
    register_adapter,
)

KEPT = 64  #: compiled functions that are remembered


class CompiledAdapter(TinygradAdapter):
    """This library through ``jit``: values, and gradients computed inside the compiled function.

    With ``threads`` every kernel, however small, is divided among so many.
    """

    name = "compiled"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._steps = lru_cache(KEPT)(self._compiled)

    def owns(self, value: Any) -> bool:
        return False

    def with_threads(self, threads: int) -> CompiledAdapter:
        """The same for another number of threads."""
        return CompiledAdapter(threads)

    def call(self, f: Function, arrays: Sequence[Any]) -> Arrays:
        with shared_by(self.threads):
            return outputs(self._steps(f, False)(*map(Tensor, arrays)), self.numpy)

    def vjp(self, f: Function, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        inputs = self.inputs(arrays)
        with shared_by(self.threads):
            found = self._steps(f, True)(inputs, list(map(Tensor, cotangents)))
        return [None if g is None else g.numpy() for g in found]

    def _compiled(self, f: Function, backward: bool) -> Step:
        def gradients(inputs: list[Tensor], cotangents: list[Tensor]) -> list[Tensor | None]:
            return self.pulled(f, inputs, cotangents)

        return jit(gradients if backward else f)


@contextmanager
def shared_by(threads: int | None) -> Iterator[None]:
    """Every launch compiled inside is divided among ``threads``; None changes nothing."""
    if threads is None:
        yield
        return
    from tinygrad_ai.jit import launches  # noqa: PLC0415 - LLVM loads slowly

    name = "TINYGRAD_AI_NUM_THREADS"
    before = launches.MOST_ALONE, os.environ.get(name)
    launches.MOST_ALONE, os.environ[name] = -1, str(threads)
    try:
        yield
    finally:
        launches.MOST_ALONE = before[0]
        os.environ.pop(name)
        if before[1] is not None:
            os.environ[name] = before[1]


register_adapter(CompiledAdapter())
