"""The compiler: a function of tensors captured once and replayed as fused kernels.

The package can be called: ``ta.jit(f)`` is ``tinygrad_ai.jit.jit(f)``, whether the name was first
bound by an import of one of its modules or by the public face.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tinygrad_ai.backend import native
from tinygrad_ai.jit.eager import backward_kernels, forward_kernels
from tinygrad_ai.jit.step import Step, jit

__all__ = ["Step", "jit"]
native.compilers = forward_kernels, backward_kernels  # eager calls have kernels from here on


class _Jit(ModuleType):
    """A package that is called like its function."""

    def __call__(self, function: Callable[..., Any] | None = None, *, debug: bool = False) -> Any:
        return jit(function, debug=debug)


_Jit.__call__.__doc__ = jit.__doc__
sys.modules[__name__].__class__ = _Jit
