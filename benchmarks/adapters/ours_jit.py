"""tinygrad_ai, compiled: ``jit`` around the whole step."""

from __future__ import annotations

import collections
from typing import Any

import tinygrad_ai.jit.native  # noqa: F401 - the compiler, so that it counts among the imports
from benchmarks.adapters import ours_eager
from benchmarks.adapters.base import Contender, Unsupported
from benchmarks.roofline import cost
from benchmarks.workloads import Case, Workload
from tinygrad_ai.jit import jit


def facts(contender: Any) -> dict[str, Any]:
    """FLOPs and bytes of the captured program, and what is not native code."""
    from tinygrad_ai.jit.launches import Call  # noqa: PLC0415 - LLVM, which a first call loads

    step = contender.step
    (plan,) = (p for plans in step.plans.values() for p in plans[:1])
    launches = plan.execution.launches
    calls = [work for work in launches if isinstance(work, Call)]
    left = collections.Counter(f"{call.name}: {call.reason}" for call in calls)
    flops, moved = cost(plan.optimized)
    return {"flops": flops, "bytes": moved, "launches": len(launches), "numpy": dict(left)}


class Training(ours_eager.Training):
    """A compiled step."""

    facts = facts


class Function(ours_eager.Function):
    """A compiled function with its gradients."""

    facts = facts


class Adapter(ours_eager.Adapter):
    """tinygrad_ai with jit."""

    def compiled(self, f: Any) -> Any:
        return jit(f)

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.kind == "operation":
            raise Unsupported("compiling one operation is not what it is for")
        made = Training if w.kind == "training" else Function
        return made(w, case, self.compiled)
