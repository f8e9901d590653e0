"""The compiler: a function of tensors captured once and replayed as fused kernels."""

from tinygrad_ai.jit.step import Step, jit

__all__ = ["Step", "jit"]
