"""Reverse mode from scratch: the record, the graph and the walk back over it."""

from tinygrad_ai.autodiff.backward import (
    Bundle,
    backward,
    contribution,
    guarded,
    pull_back,
    start_cotangent,
    unbroadcast,
)
from tinygrad_ai.autodiff.graph import (
    Node,
    Value,
    enable_grad,
    leading_to,
    mode,
    newest_first,
    no_grad,
    raw,
)
from tinygrad_ai.autodiff.primitive import (
    POSITIVE,
    REAL,
    Primitive,
    contraction,
    elementwise,
    linear,
    movement,
    opaque,
    reduction,
)

__all__ = [
    "POSITIVE",
    "REAL",
    "Bundle",
    "Node",
    "Primitive",
    "Value",
    "backward",
    "contraction",
    "contribution",
    "elementwise",
    "enable_grad",
    "guarded",
    "leading_to",
    "linear",
    "mode",
    "movement",
    "newest_first",
    "no_grad",
    "opaque",
    "pull_back",
    "raw",
    "reduction",
    "start_cotangent",
    "unbroadcast",
]
