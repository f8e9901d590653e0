"""The programs of ``tinygrad-ai train`` in torch: the same models, hyperparameters and data.

A twin takes the program's Settings and returns the measures that the program's test gives. Numbers
of the program are read from it, so that a change there is a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from tinygrad_ai.examples import Settings

MODULES = ("digits", "dates", "reviews", "chars")
Twin = Callable[[Settings], dict[str, float]]


def twin(program: str) -> Twin:
    """The twin of ``program``; torch is imported here. Raises KeyError where there is none."""
    for name in MODULES:
        twins: dict[str, Twin] = import_module(f"{__name__}.{name}").TWINS
        if program in twins:
            return twins[program]
    raise KeyError(f"no twin of {program!r}")
