"""The command ``tinygrad-ai``."""

from tinygrad_ai.cli.main import main

__all__ = ["main"]
