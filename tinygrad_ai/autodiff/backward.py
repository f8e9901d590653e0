"""Reverse mode: one walk over the graph, newest node first.

Without ``create_graph`` the rules run on raw arrays and nothing is recorded; with it they run on
values, so that the gradient has a graph and can be differentiated in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

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
from tinygrad_ai.autodiff.primitive import Primitive, elementwise
from tinygrad_ai.backend import NUMPY, as_array, namespaces
from tinygrad_ai.errors import AnomalyError, DTypeError, GraphError, ShapeError

#: Observes every contribution: (node, input position, incoming cotangent, contribution).
Observer = Callable[[Node, int, Any, Any], None]

drop: Primitive = elementwise(
    "drop",
    lambda xp, c, bad: xp.where(bad, xp.asarray(0, dtype=c.dtype), c),
    vjp=(lambda g, bad: drop(g, bad), None),
    why="0·∞ counts as 0 inside a VJP, so the elements marked bad pass nothing on",
)


class Bundle(dict):
    """The cotangent of a function with several outputs: output position -> cotangent."""

    def __add__(self, other: dict[int, Any]) -> Bundle:
        total = Bundle(self)
        for k, g in other.items():
            total[k] = total[k] + g if k in total else g
        return total


def pull_back(
    roots: dict[Node, Any],
    targets: Iterable[Node] | None = None,
    *,
    lift: bool = False,
    record: bool | None = None,
    retain: bool = False,
    observe: Observer | None = None,
) -> dict[Node, Any]:
    """Walk from ``roots`` (node -> cotangent) and return the cotangents of the targets.

    Without targets these are all the leaves. With ``lift`` the rules run on values instead of raw
    arrays and, unless ``record`` says otherwise, the walk itself is recorded; ``retain`` keeps
    what the nodes saved.
    """
    order = newest_first(roots)
    wanted = None if targets is None else leading_to(order, targets)
    ends = set(targets or ())
    pending = dict(roots)
    fresh: set[Node] = set()  # whose pending cotangent shares its memory with nothing
    result: dict[Node, Any] = {}
    recording = lift if record is None else record
    with np.errstate(all="ignore"), enable_grad() if recording else no_grad():
        for node in order:
            g = pending.pop(node, None)
            if g is None:
                continue
            for hook in node.hooks or ():
                g = _hooked(hook, g, node, lift)
                fresh.discard(node)
            if node in ends or (targets is None and node.primitive is None):
                result[node] = _own(g, node in fresh)
            for i, edge in enumerate(node.edges):
                if edge is None or (wanted is not None and edge not in wanted):
                    continue
                if edge in fresh and not lift and observe is None:
                    if node.primitive.into is None or node.line or not pending[edge].ndim:
                        pending[edge] += contribution(node, i, g)
                    else:
                        node.check_kept()
                        node.primitive.into(pending[edge], g, **node.params)
                    continue
                c = contribution(node, i, g, lift)
                if observe is not None:
                    observe(node, i, g, c)
                first = edge not in pending
                pending[edge] = c if first else pending[edge] + c
                if not first or (c is not g and node.primitive.kind != "opaque" and _owns(c)):
                    fresh.add(edge)
            if not retain and node.primitive is not None:
                node.saved = None
    return result


def contribution(node: Node, i: int, g: Any, lift: bool = False) -> Any:
    """What ``node`` passes on to its input ``i`` for the cotangent ``g`` of its output.

    With the dtype and shape of that input: the only place that undoes broadcasting.
    """
    edge = node.edges[i]
    c = guarded(node, i, g, lift)
    if edge.dtype is None:  # a function with several outputs: cotangents come in a Bundle
        return c
    if c.shape != edge.shape and node.primitive.kind in ("elementwise", "contraction"):
        c = unbroadcast(c, edge.shape)
    if c.dtype != edge.dtype:
        c = c.astype(edge.dtype)
    if node.line is not None:
        _check_finite(node, i, c)
    return c


def guarded(node: Node, i: int, g: Any, lift: bool = False) -> Any:
    """The rule of input ``i`` applied to ``g``, with 0 where 0 met ∞.

    An element that is NaN although the cotangent or the local derivative is exactly 0 is 0; where
    more than one element of the cotangent arrives there, all must be 0.
    """
    record = node.primitive
    if record.kernel and not lift:
        made = namespaces.get(type(g), NUMPY.xp).pulled(node, i, g)
        if made is not None:
            return made
    c = record.pull(node, i, g, lift)
    rule = record.rule(i) if record.singular else record.quiet
    if rule is None or (record.singular and not rule.sources) or not _has_nan(c):
        return c
    find = _where_local_is_0 if record.singular else _where_quiet
    given = (rule.function, c, g, *record.arguments(rule, node, i, lift))
    postponed = mode.capture is not None and mode.interpreter is mode.capture  # not inside vmap
    return drop(c, mode.capture.later(find, given) if postponed else find(*given))


def _where_local_is_0(rule: Callable[..., Any], c: Any, g: Any, *read: Any) -> Any:
    """Where ``c = rule(g, *read)`` is NaN although ``g`` or the local derivative is exactly 0."""
    local = rule(drop(g, True) + 1, *read)
    return (c != c) & ((g == 0) | (local == 0))


def _where_quiet(quiet: Callable[..., Any], c: Any, g: Any, *read: Any) -> Any:
    """Where ``c`` is NaN although all that arrives there is exactly 0."""
    return (c != c) & quiet(g, *read)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """``g`` summed over the axes that broadcasting added to, or stretched in, ``shape``."""
    lead = g.ndim - len(shape)
    axes = tuple(k for k in range(g.ndim) if k < lead or (shape[k - lead] == 1 and g.shape[k] != 1))
    dtype = g.dtype
    if dtype == np.float16:  # sums of halves would overflow and lose digits
        return g.astype(np.float32).sum(axis=axes).reshape(shape).astype(dtype)
    return g.sum(axis=axes).reshape(shape)


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Value) else value


def _owns(c: Any) -> bool:
    """Whether the memory of ``c`` is its own: a view has a base."""
    return getattr(_array(c), "base", c) is None


def _own(g: Any, fresh: bool) -> Any:
    """``g`` as an array that shares its memory with nothing."""
    if isinstance(g, Value):
        return g if fresh else g.box(g.array.copy(), g.node)
    if isinstance(g, np.generic):  # NumPy makes scalars of 0-d results
        return np.asarray(g)
    return g if fresh else g.copy()


def _has_nan(c: Any) -> bool:
    """Whether a contribution holds a NaN: one read of it, by a dot product with itself."""
    c = raw(c)
    if mode.capture is not None:  # nobody knows now: the guard becomes part of the program
        return True
    if isinstance(c, np.ndarray) and c.dtype != np.float16:
        flat = c.ravel("K")
        total = flat.dot(flat)
        return bool(total != total)
    return bool((c != c).any())


def _hooked(hook: Callable[[Any], Any], g: Any, node: Node, lift: bool) -> Any:
    """The cotangent after a user's hook, which sees a value and may return another."""
    changed = hook(g if isinstance(g, Value) else Value.result_type.box(g))
    return g if changed is None else _fitting("a hook's result", changed, node, g, lift)


def _check_finite(node: Node, i: int, c: Any) -> None:
    array = _array(c)
    if not bool((abs(array) < np.inf).all()):
        raise AnomalyError(
            f"backward of {node.primitive.name} made a NaN or an infinity for its input {i}",
            f"   the operation was called at {node.line}",
        )


def backward(
    root: Value, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Accumulate d root / d leaf into ``.grad`` of every leaf (see ``Tensor.backward``)."""
    if mode.one_of_many:
        raise GraphError(
            "backward inside vmap: its leaves are outside and cannot hold a gradient per example",
            "   help: vmap(grad(f)) gives each example its gradient",
        )
    if root.node is None:
        raise GraphError(
            "backward: this value does not depend on anything that requires gradients",
            "   help: create a leaf with Tensor(data, requires_grad=True), and compute outside "
            "no_grad()",
            "   help: what a jit function returns carries no graph: call backward inside it",
        )
    lift = create_graph or mode.capture is not None
    g = start_cotangent(root, gradient, lift)
    retain = retain_graph or create_graph
    found = pull_back({root.node: g}, lift=lift, record=create_graph, retain=retain)
    for node, total in found.items():
        leaf = node.leaf() if node.leaf is not None else None
        if leaf is not None:
            accumulate(leaf, total)


def start_cotangent(root: Value, gradient: Any, lift: bool) -> Any:
    """The cotangent of ``root`` to start from: ones for a scalar, else what the caller gave."""
    node = root.node
    assert node is not None
    if gradient is None:
        if root.array.size != 1:
            raise GraphError(
                f"backward from a tensor of shape {root.array.shape} needs the gradient to start "
                "from",
                "   help: reduce it to a scalar first, e.g. loss.mean().backward(), or pass "
                "gradient= of the same shape",
            )
        xp = namespaces.get(type(root.array), NUMPY.xp)
        gradient = xp.ones(root.array.shape, dtype=root.array.dtype)
    return _fitting("gradient", gradient, node, root.array, lift)


def _fitting(name: str, g: Any, node: Node, like: Any, lift: bool) -> Any:
    """What a user gave as the cotangent of ``node``: checked, in its dtype, a value with ``lift``.

    Numbers become an array beside ``like``.
    """
    if not hasattr(g, "dtype"):
        g = as_array("backward", name, g, [like])
    if tuple(g.shape) != node.shape:
        raise ShapeError(
            f"backward: {name} has shape {tuple(g.shape)}, the tensor has shape {node.shape}"
        )
    if g.dtype.kind not in "fiu":
        raise DTypeError(f"backward: {name} has dtype {g.dtype}, it must be real")
    g = g if lift else _array(g)
    g = g if g.dtype == node.dtype else g.astype(node.dtype)
    return Value.result_type.box(g) if lift and not isinstance(g, Value) else g


def accumulate(leaf: Value, total: Any) -> None:
    """Add a finished gradient to ``leaf.grad``, sharing memory with nothing."""
    if isinstance(total, Value):
        if mode.capture is not None:
            mode.capture.note_read(leaf, adding=True)
        before: Any = leaf._grad
        with enable_grad():
            leaf.grad = total if before is None else before + total
    elif leaf.grad is not None:
        # The version cell stays while gradients add up: optimisers see by it what was not cleared.
        leaf.grad = leaf.result_type.box(leaf.grad.array + total, None, leaf.grad.version)
    else:
        leaf.grad = leaf.result_type.box(total)
