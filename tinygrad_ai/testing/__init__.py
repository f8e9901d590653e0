"""What tests of operations start from."""

from tinygrad_ai.testing.samples import sample_call

__all__ = ["sample_call"]
