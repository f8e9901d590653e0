"""Forward mode: tangents pushed along the recorded graph, by the kind of each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import (
    Bundle,
    Node,
    enable_grad,
    guarded,
    mode,
    newest_first,
    no_grad,
    pull_back,
)
from tinygrad_ai.errors import DTypeError, ShapeError
from tinygrad_ai.ops.elementwise import zero
from tinygrad_ai.ops.movement import broadcast_to
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.reverse import Traced, as_tensor, recorded
from tinygrad_ai.transforms.tree import flatten


def jvp(f: Callable[..., Any], args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of ``f`` at ``args`` and its derivative along ``tangents``: ``(out, out_tangent)``.

    ``tangents`` has the structure and shapes of ``args``. The derivative follows from each
    operation's kind: elementwise by its VJP rule, linear by itself, a contraction by replacing one
    input at a time, anything else by two VJPs (the transpose of the transpose).
    """
    outer = mode.grad
    traced = Traced(args)
    given, _ = flatten(tuple(tangents))
    points = [leaf for leaves in traced.leaves.values() for leaf in leaves]
    if len(given) != len(points):
        raise ShapeError(f"jvp: {len(given)} tangents for {len(points)} arguments")
    pushed: dict[Node, Any] = {}
    for point, tangent in zip(points, map(as_tensor, given), strict=True):
        if not isinstance(point, Tensor) or point.node is None:
            continue
        if not isinstance(tangent, Tensor):
            raise DTypeError(f"jvp: a tangent must be an array, not {type(tangent).__name__}")
        if tangent.shape != point.shape:
            raise ShapeError(f"jvp: tangent of shape {tangent.shape} at a {point.shape} argument")
        pushed[point.node] = tangent.astype(point.dtype)
    with enable_grad():
        out = f(*traced.args)
    leaves, rebuild = flatten(out)
    roots = [t.node for t in leaves if isinstance(t, Tensor) and t.node is not None]
    lift = outer and (
        recorded(roots, list(pushed), outer) or any(t.requires_grad for t in pushed.values())
    )
    values = lift or mode.interpreter is not None
    if not values:
        pushed = {node: t.array for node, t in pushed.items()}
    with np.errstate(all="ignore"), enable_grad() if lift else no_grad():
        push_forward(roots, pushed, values)
    derivatives = [_tangent_of(leaf, pushed) for leaf in leaves]
    results = [leaf if lift or not isinstance(leaf, Tensor) else leaf.detach() for leaf in leaves]
    return rebuild(results), rebuild(derivatives)


def _tangent_of(leaf: Any, pushed: dict[Node, Any]) -> Any:
    if not isinstance(leaf, Tensor):
        return 0.0
    found = pushed.get(leaf.node) if leaf.node is not None else None
    if found is None:
        return Tensor.box(np.zeros(leaf.shape, leaf.dtype))
    return found if isinstance(found, Tensor) else Tensor.box(found)


def push_forward(roots: Sequence[Node], pushed: dict[Node, Any], lift: bool) -> None:
    """Fill ``pushed`` (node -> tangent) from its first entries up to ``roots``."""
    for node in reversed(newest_first(roots)):
        if node not in pushed and node.primitive is not None:
            tangents = [None if e is None else pushed.get(e) for e in node.edges]
            if any(t is not None for t in tangents):
                pushed[node] = _through(node, tangents, lift)


def _through(node: Node, tangents: list[Any], lift: bool) -> Any:
    """The tangent of ``node``'s output; ``tangents[i]`` is None where input i does not move."""
    record = node.primitive
    if isinstance(tangents[0], Bundle):  # one output of several
        return record.forward(None, *tangents, **node.params)
    moving = [i for i, t in enumerate(tangents) if t is not None]
    if record.kind in ("linear", "movement") or record.jvp == "linear":
        total = record(*_linear_inputs(node, tangents, lift), **node.params)
    elif record.kind == "elementwise":
        terms = [guarded(node, i, tangents[i], lift) for i in moving]
        total = sum(terms[1:], terms[0])
    elif record.kind == "contraction":
        terms = [
            record(
                *(
                    tangents[i] if k == i else _residual(node, k, lift)
                    for k in range(len(tangents))
                ),
                **node.params,
            )
            for i in moving
        ]
        total = sum(terms[1:], terms[0])
    else:
        total = _two_vjps(node, {i: tangents[i] for i in moving}, lift)
    if node.dtype is None:
        return total
    if total.shape != node.shape:
        total = broadcast_to(total, node.shape)
    return total if total.dtype == node.dtype else total.astype(node.dtype)


def _residual(node: Node, k: int, lift: bool) -> Any:
    array, origin = node.residual(k)
    return Tensor.box(array, origin) if lift and hasattr(array, "dtype") else array


def _linear_inputs(node: Node, tangents: list[Any], lift: bool) -> list[Any]:
    """The inputs of a linear operation with every real one replaced by its tangent."""
    inputs = []
    for k, tangent in enumerate(tangents):
        edge = node.edges[k]
        if tangent is not None:
            inputs.append(tangent)
        elif edge is not None:
            inputs.append(np.zeros(edge.shape, edge.dtype))
        else:
            array = _residual(node, k, lift)
            moves = hasattr(array, "dtype") and array.dtype.kind == "f"
            inputs.append(zero(array) if moves else array)
    return inputs


def _two_vjps(node: Node, tangents: dict[int, Any], lift: bool) -> Any:
    """g -> vjp(g) is linear; its own VJP, at any g, takes tangents forward."""
    several = node.dtype is None
    outputs = node.params["outputs"] if several else [(node.shape, node.dtype)]
    given = [Tensor(np.zeros(*output), requires_grad=True) for output in outputs]
    starts = [t.node for t in given if t.node is not None]
    total: Any = Bundle({k: np.zeros(*output) for k, output in enumerate(outputs)})
    with enable_grad():
        for i, tangent in tangents.items():
            g = Bundle(enumerate(given)) if several else given[0]
            back = node.primitive.pull(node, i, g, True)
            if isinstance(back, Tensor) and back.node is not None:
                found = pull_back({back.node: tangent}, starts, lift=lift, retain=lift)
                total += {k: found[start] for k, start in enumerate(starts) if start in found}
    return total if several else total[0]
