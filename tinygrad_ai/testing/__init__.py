"""Gradient truth: a checker for any framework, properties, mutants, corner cases, drills.

Needs NumPy alone; ``strategies`` and ``programs`` need Hypothesis and are imported when used.
"""

import importlib
from typing import Any

from tinygrad_ai.testing.adapters import Adapter, CheckError, adapter_named, register_adapter
from tinygrad_ai.testing.checker import assert_gradients, check_gradients
from tinygrad_ai.testing.compiled import CompiledAdapter
from tinygrad_ai.testing.corner_cases import CORNER_CASES, run_corner_cases
from tinygrad_ai.testing.drills import drill
from tinygrad_ai.testing.mutation import MutationScore, mutation_score
from tinygrad_ai.testing.records import check_record
from tinygrad_ai.testing.report import Cause, GradReport
from tinygrad_ai.testing.samples import sample_call

_LATER = ("properties", "programs", "strategies")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CORNER_CASES",
    "Adapter",
    "Cause",
    "CheckError",
    "CompiledAdapter",
    "GradReport",
    "MutationScore",
    "adapter_named",
    "assert_gradients",
    "check_gradients",
    "check_record",
    "drill",
    "mutation_score",
    "register_adapter",
    "run_corner_cases",
    "sample_call",
]
