"""torch.compile with max-autotune around model and loss; the update is fused Adam.

Recurrent layers are torch's own kernels in either case: dynamo does not look into them.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.adapters import torch_eager
from benchmarks.adapters.base import Contender, Unsupported
from benchmarks.workloads import Case, Workload


class Adapter(torch_eager.Adapter):
    """torch.compile."""

    def compiled(self, f: Any) -> Any:
        return torch.compile(f, mode="max-autotune", dynamic=False)

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.kind == "operation":
            raise Unsupported("compiling one operation is not what it is for")
        torch._dynamo.reset()  # graphs of other workloads would count against its limit
        return super().contender(w, case)
