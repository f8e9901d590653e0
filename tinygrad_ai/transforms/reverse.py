"""Functions to gradients: vjp, grad, value_and_grad.

A gradient is itself recorded exactly if something besides the arguments is being differentiated
(an enclosing transformation, or a leaf the function reads), so they nest to any depth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import (
    Node,
    enable_grad,
    mode,
    newest_first,
    pull_back,
    start_cotangent,
)
from tinygrad_ai.dtypes import is_float
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError
from tinygrad_ai.ops.movement import slice_
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.tree import flatten, is_module


def as_tensor(leaf: Any) -> Any:
    """``leaf`` as a Tensor: itself, or a boxed copy of a number or an array."""
    return leaf if isinstance(leaf, Tensor) or not _is_number(leaf) else Tensor(leaf)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float) or hasattr(leaf, "dtype")


def check_differentiable(leaf: Any) -> None:
    """Raise DTypeError for an argument that has no gradient."""
    if not (is_module(leaf) or (isinstance(leaf, Tensor) and is_float(leaf.dtype))):
        kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
        raise DTypeError(
            f"only floating-point arguments have gradients, this one is {kind}",
            "   help: pass a float, or choose other arguments with argnums=",
        )


class Traced:
    """Arguments with leaves of their own: what the function sees, and what is asked for."""

    def __init__(self, args: Sequence[Any], wanted: Sequence[int] | None = None) -> None:
        self.args = list(args)
        self.leaves: dict[int, list[Any]] = {}
        self.rebuild: dict[int, Callable[[list[Any]], Any]] = {}
        for k in range(len(args)) if wanted is None else wanted:
            found, rebuild = flatten(args[k])
            fresh = [leaf if is_module(leaf) else self._fresh(leaf, wanted) for leaf in found]
            self.args[k], self.leaves[k], self.rebuild[k] = rebuild(fresh), fresh, rebuild

    @staticmethod
    def _fresh(leaf: Any, wanted: Sequence[int] | None) -> Any:
        """The same values around a node of its own, behind which the old one still stands."""
        tensor = as_tensor(leaf)
        if not isinstance(tensor, Tensor) or not is_float(tensor.dtype):
            if wanted is not None:
                check_differentiable(tensor)
            return leaf
        if tensor.requires_grad:
            with enable_grad():
                return slice_(tensor, key=())
        fresh = Tensor.box(tensor.array, None, tensor.version)
        fresh.requires_grad = True
        return fresh

    def nodes(self) -> list[Node]:
        """The nodes to differentiate with respect to."""
        found = []
        for leaves in self.leaves.values():
            for leaf in leaves:
                tensors = leaf.parameters() if is_module(leaf) else [leaf]
                found += [t.node for t in tensors if isinstance(t, Tensor) and t.node is not None]
        return found

    def gather(self, found: dict[Node, Any]) -> list[Any]:
        """For each traced argument its tree of gradients; zeros where nothing arrived."""

        def of(tensor: Any) -> Any:
            if not isinstance(tensor, Tensor) or tensor.node is None:
                return None
            g = found.get(tensor.node)
            g = np.zeros(tensor.shape, tensor.dtype) if g is None else g
            return g if isinstance(g, Tensor) else Tensor.box(g)

        trees = []
        for k, leaves in self.leaves.items():
            made = [
                {name: of(p) for name, p in leaf.named_parameters()}
                if is_module(leaf)
                else of(leaf)
                for leaf in leaves
            ]
            trees.append(self.rebuild[k](made))
        return trees


def recorded(roots: Sequence[Node], targets: Sequence[Node], outer: bool) -> bool:
    """Whether a walk from ``roots`` to ``targets`` must be recorded in its turn."""
    own = set(targets)
    return outer and any(node.primitive is None and node not in own for node in newest_first(roots))


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The value of ``f`` and its pullback, which may be called any number of times.

    Args:
        f: takes and returns nested tuples, lists and dicts of tensors, numbers and modules.
        args: the point; Tensors, arrays or Python numbers.

    Returns:
        ``out, pullback``; ``pullback(cotangent)`` takes the structure of ``out`` and returns the
        gradient with respect to the argument, or a tuple of them if there are several.
    """
    outer = mode.grad
    traced = Traced(args)
    with enable_grad():
        out = f(*traced.args)
    leaves, rebuild = flatten(out)
    targets = traced.nodes()
    roots = [t.node for t in leaves if isinstance(t, Tensor) and t.node is not None]
    lift = recorded(roots, targets, outer)

    def pullback(cotangent: Any) -> Any:
        given, _ = flatten(cotangent)
        if len(given) != len(leaves):
            raise ShapeError(f"pullback: {len(given)} cotangents for {len(leaves)} outputs")
        record = mode.grad and (lift or any(_tracked(g) for g in given))
        values = record or mode.interpreter is not None
        start: dict[Node, Any] = {}
        for leaf, g in zip(leaves, given, strict=True):
            if isinstance(leaf, Tensor) and leaf.node is not None:
                first = start_cotangent(leaf, as_tensor(g), values)
                start[leaf.node] = start[leaf.node] + first if leaf.node in start else first
        found = pull_back(start, targets, lift=values, record=record, retain=True)
        trees = traced.gather(found)
        return trees[0] if len(args) == 1 else tuple(trees)

    return rebuild([_released(leaf, lift) for leaf in leaves]), pullback


def _tracked(g: Any) -> bool:
    return isinstance(g, Tensor) and g.requires_grad


def _released(leaf: Any, lift: bool) -> Any:
    """An output without the function's own graph, unless an outer one goes on from it."""
    return leaf if lift or not isinstance(leaf, Tensor) else leaf.detach()


def argument_numbers(argnums: int | Sequence[int], n: int) -> list[int]:
    """``argnums`` of a call with ``n`` positional arguments, counted from 0.

    Raises ShapeError where there is no such argument, or one is named twice.
    """
    listed: Sequence[Any] = argnums if isinstance(argnums, tuple | list) else [argnums]
    if not all(isinstance(k, int) for k in listed):
        raise DTypeError(f"argnums must be an integer or a tuple of them, not {argnums!r}")
    if any(not -n <= k < n for k in listed):
        raise ShapeError(f"argnums {argnums} of a call with {n} positional arguments")
    numbers = [k % n for k in listed]
    if len(set(numbers)) < len(numbers):
        raise ShapeError(f"argnums {argnums} names an argument twice")
    return numbers


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns ``f``'s value and its gradient: ``(value, grad)``.

    Args:
        f: a function to a scalar tensor.
        argnums: which arguments to differentiate with respect to; a tuple gives a tuple of
            gradients. A module argument gives a dict of gradients by parameter name.

    Raises GraphError if ``f`` does not return a scalar, DTypeError for an integer argument.
    """

    @functools.wraps(f)
    def with_grad(*args: Any, **keywords: Any) -> tuple[Any, Any]:
        outer = mode.grad
        traced = Traced(args, argument_numbers(argnums, len(args)))
        with enable_grad():
            value = f(*traced.args, **keywords)
        if not isinstance(value, Tensor) or value.size != 1:
            made = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise GraphError(
                f"grad of a function that returns {made}; it must return a scalar tensor",
                "   help: reduce it with .sum() or .mean(), or use jacobian or vjp",
            )
        found: dict[Node, Any] = {}
        lift = False
        if value.node is not None:
            targets = traced.nodes()
            lift = recorded([value.node], targets, outer)
            values = lift or mode.interpreter is not None
            start = start_cotangent(value, None, values)
            found = pull_back({value.node: start}, targets, lift=values, record=lift, retain=values)
        trees = traced.gather(found)
        return _released(value, lift), trees[0] if isinstance(argnums, int) else tuple(trees)

    return with_grad


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function ``f`` (see value_and_grad)."""
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **keywords: Any) -> Any:
        return both(*args, **keywords)[1]

    return gradient


def stop_gradient(x: Any) -> Any:
    """``x`` as a constant: its value, through which no gradient flows."""
    return x.detach() if isinstance(x, Tensor) else x
