"""Products to which something is added: a bias, a residual, the sum so far.

The product's kernel adds it to each tile before that is written, so the addition costs nothing but
a read, and no kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.jit.views import AFFINE, View
from tinygrad_ai.ops.elementwise import add
from tinygrad_ai.ops.lowering import Contract
from tinygrad_ai.ops.movement import reshape_
from tinygrad_ai.ops.products import linear_, matmul_

FEW = 4  # so many times smaller than the product, an array may be made for the sake of it


class Plus:
    """The operation: ``product`` of the first two inputs, of ``shape``, plus the third one.

    The result has the shape ``whole``, of as many elements.
    """

    kind = "contraction"

    def __init__(self, product: Any, shape: tuple[int, ...], whole: tuple[int, ...]) -> None:
        self.product, self.shape, self.whole = product, shape, whole
        self.name = f"{product.name}+add"
        operands, result = product.lower.of().split("->")
        self.lower = Contract(f"{operands},{result}->{result}")

    def evaluate(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result, by NumPy."""
        a, b, more = arrays
        return self.product.evaluate([a, b], {}).reshape(self.whole) + more


def with_sums_in_products(program: Program) -> Program:
    """``program`` in which products add what they can."""
    uses = program.consumers()
    handed = set(program.outputs)
    makers: dict[Var, Equation] = {}
    views: dict[Var, View] = {}
    equations = []
    for e in program.equations:
        if e.operation in AFFINE:
            (x,), (out,) = e.inputs, e.outputs
            seen = views.get(x, View.whole(x)).moved(e)
            if seen is not None:
                views[out] = seen
        elif e.operation is add and len(list(e.reads())) == 2:
            for product, other in (e.inputs, e.inputs[::-1]):
                way = _way(product, makers)
                if any(len(uses[v]) > 1 or v in handed for v in way):
                    continue
                q = makers.get(way[-1])
                if q is not None and _fits(q, other, e.outputs[0], makers, views):
                    plus = Plus(q.operation, q.outputs[0].shape, e.outputs[0].shape)
                    e = Equation(plus, (*q.inputs, other), {}, e.outputs, e.part_of)
                    break
        makers.update(dict.fromkeys(e.outputs, e))
        equations.append(e)
    return Program(program.inputs, equations, program.outputs)


def _way(v: Var, makers: Mapping[Var, Equation]) -> list[Var]:
    """``v``, what it is a reshape of, and so on."""
    way = [v]
    while (e := makers.get(way[-1])) is not None and e.operation is reshape_:
        way += e.reads()
    return way


def _fits(
    q: Equation, other: Var, out: Var, makers: Mapping[Var, Equation], views: Mapping[Var, View]
) -> bool:
    """Whether ``q`` is a product, seen as ``out``, whose kernel can add ``other``.

    Not where that is made by a loop into which the addition fits as well.
    """
    (made,) = q.outputs
    kinds = {v.dtype for v in (*q.reads(), other, out)}
    if q.operation not in (matmul_, linear_) or len(kinds) > 1 or made.size != out.size:
        return False
    root = views.get(other, View.whole(other))
    maker = makers.get(root.root)
    loops = maker is not None and maker.operation.kind in ("elementwise", "reduction")
    if loops and FEW * root.root.size > out.size:
        return False
    seen = root.broadcast(out.shape).reshaped(made.shape)
    if seen is None or min(seen.strides) < 0:
        return False
    return made.shape[-1] == 1 or seen.strides[-1] == 1
