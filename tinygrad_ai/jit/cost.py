"""What an equation costs in arithmetic, whatever kernel does it: floating-point operations.

A sum of products counts two for each pair that is multiplied and added; an elementwise operation
one for each element made, whether it is an addition or an exponential; an optimiser's rule as many
as it has operations; a reduction one for each element read; what only moves elements none.
"""

from __future__ import annotations

import math

from tinygrad_ai.backend.scalar import Expr, order
from tinygrad_ai.jit.program import Equation
from tinygrad_ai.jit.update import Update
from tinygrad_ai.ops.lowering import Contract, IndexMap

#: result and weight among the inputs and the output
CONVOLUTIONS = {"conv": (2, 1), "conv_input_grad": (0, 1), "conv_weight_grad": (1, 2)}
COPIES = {"concatenate", "slices", "unslice"}
NO_WORK = {"symbol", "const", "astype"}  # of a rule


def flops(e: Equation) -> int:
    """The floating-point operations of an equation."""
    made = sum(v.size for v in e.outputs)
    kind, lower = e.operation.kind, getattr(e.operation, "lower", None)
    if kind == "contraction":
        shape, summed = contraction(e)
        return 2 * math.prod(shape) * summed
    if kind == "movement" or isinstance(lower, IndexMap) or e.name in COPIES:
        return 0
    if isinstance(e.operation, Update):
        return e.outputs[0].size * _operations(e)
    return sum(v.size for v in e.reads()) if kind == "reduction" else made


def contraction(e: Equation) -> tuple[tuple[int, ...], int]:
    """The loops of a contraction: a shape of places, and how many products belong to each.

    For a convolution and its gradients the places are those of the convolution's result.
    """
    arrays = *e.reads(), *e.outputs
    if e.name in CONVOLUTIONS:
        result, weight = (arrays[k].shape for k in CONVOLUTIONS[e.name])
        return result, math.prod(weight[-len(e.params["stride"]) - 1 :])
    lower = e.operation.lower
    spec = lower.of(**e.params) if isinstance(lower, Contract) else e.params["spec"]
    terms, kept = spec.split("->")
    extents = {
        letter: n
        for term, v in zip(terms.split(","), e.reads(), strict=True)
        for letter, n in zip(reversed(term), reversed(v.shape), strict=False)  # batch axes lead
    }
    return e.outputs[0].shape, math.prod(n for k, n in extents.items() if k not in kept)


def _operations(e: Equation) -> int:
    """How many operations an update does for each element."""
    given = (Expr("symbol", (), v.dtype, k) for k, v in enumerate(e.reads()))
    return sum(x.op not in NO_WORK for x in order(e.operation.scalar(*given)))
