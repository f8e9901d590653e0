"""The programs of ``tinygrad-ai train``, by name."""

from tinygrad_ai.examples import mnist_mlp
from tinygrad_ai.examples.program import Program, Run, Settings

__all__ = ["PROGRAMS", "Program", "Run", "Settings"]

PROGRAMS: dict[str, Program] = {program.name: program for program in [*mnist_mlp.PROGRAMS]}
