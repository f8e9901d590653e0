"""The graph: values, the nodes that made them, and the order in which to walk it.

A :class:`Value` is an array and, if a gradient can flow to it, the :class:`Node` that made it.
Nodes know the nodes before them, never the values after them: no reference points forward, so a
dropped graph is freed at once, without the garbage collector. A node keeps only what the rules of
its primitive read; everything is keyed by node, so a value can be boxed anew around its node.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from itertools import count
from typing import Any, ClassVar

import numpy as np

from tinygrad_ai.dtypes import is_float
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError


class _Mode(threading.local):
    """What is switched on in this thread."""

    grad = True  #: record nodes
    interpreter: Callable[..., Any] | None = None  #: evaluates primitives instead of the backend
    capture: Any = None  #: notes effects (assignments, draws, updates) instead of doing them
    one_of_many = False  #: inside vmap, where a value stands for one example of a batch
    on_record: Callable[[Node], None] | None = None  #: sees each node as it is made
    on_assign: Callable[[Any], None] | None = None  #: sees each tensor before it is assigned to


mode = _Mode()
_numbers = count()


class Node:
    """One application of a primitive, or a leaf (``primitive is None``).

    ``edges[i]`` is the node of input i, or None where no gradient is wanted; ``saved`` maps the
    position of an input (-1: the output) to ``(array, version cell, version)``. Nodes are numbered
    as they are made, so a larger number never stands before a smaller one.
    """

    __slots__ = (
        "__weakref__",
        "dtype",
        "edges",
        "hooks",
        "leaf",
        "line",
        "number",
        "params",
        "primitive",
        "saved",
        "shape",
    )

    def __init__(
        self, primitive: Any, edges: tuple, params: dict, saved: Any, shape: tuple, dtype: Any
    ) -> None:
        self.primitive = primitive
        self.edges = edges
        self.params = params
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self.number = next(_numbers)
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.leaf: weakref.ref[Value] | None = None
        self.line: str | None = None

    def check_kept(self) -> None:
        """Raise GraphError if a walk over the graph has freed this node; make ``saved`` a dict."""
        if self.saved is None:
            raise GraphError(
                f"{self.primitive.name}: the graph was freed by an earlier backward",
                "   help: call the first backward with retain_graph=True to run it again",
            )
        if not isinstance(self.saved, dict):
            self.saved = self.saved()  # a checkpoint computes it now

    def residual(self, k: int) -> tuple[Any, Any]:
        """Array and node of residual ``k`` (an input's position, or -1 for the output).

        Raises GraphError if the graph was freed or the array changed since it was saved.
        """
        self.check_kept()
        array, cell, version = self.saved[k]
        if cell is not None and cell[0] != version:
            name = "its output" if k < 0 else f"its input {k}"
            raise GraphError(
                f"{self.primitive.name}: {name} was changed in place after the forward pass "
                f"(version {cell[0]}, saved at version {version})",
                "   help: change a copy instead, or run the forward pass again",
            )
        return array, (self if k < 0 else self.edges[k])


class Value:
    """An array with a place in the graph: the base of Tensor, and all that autodiff knows of it."""

    __slots__ = ("__weakref__", "_grad", "array", "name", "node", "version")

    #: The class in which results are boxed; Tensor names itself here.
    result_type: ClassVar[type[Value]]
    array: Any
    node: Node | None
    version: list[int]  #: bumped by changes in place; views share the cell
    _grad: Value | None
    name: str | None

    @classmethod
    def box(cls, array: Any, node: Node | None = None, version: list[int] | None = None) -> Any:
        """A result around ``array``, without a copy."""
        value = object.__new__(cls.result_type)
        # NumPy makes scalars of 0-d results
        value.array = np.asarray(array) if isinstance(array, np.generic) else array
        value.node = node
        value.version = [0] if version is None else version
        value._grad = None
        value.name = None
        return value

    @property
    def grad(self) -> Any:
        """The gradient that backward has left here, or None; settable to a value of this shape."""
        if mode.capture is not None:
            mode.capture.note_read(self)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and not isinstance(value, Value):
            raise DTypeError(f"grad must be a tensor or None, not {type(value).__name__}")
        if value is not None and value.array.shape != self.array.shape:
            raise ShapeError(f"grad has shape {value.array.shape}, its tensor {self.array.shape}")
        if value is None and mode.capture is not None:
            mode.capture.cleared.add(id(self))
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are tracked for this value; settable on leaves."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not self.is_leaf:
            raise GraphError(
                "requires_grad can be set only on leaves, not on the result of an operation",
                "   help: x.detach() is a leaf with the same values",
            )
        if wanted and not is_float(self.array.dtype):
            raise DTypeError(
                f"only floating-point tensors can require gradients, this one is "
                f"{self.array.dtype}",
                "   help: x.astype('float32') can",
            )
        if wanted and self.node is None:
            self.node = Node(None, (), {}, None, self.array.shape, self.array.dtype)
            self.node.leaf = weakref.ref(self)
        elif not wanted:
            self.node = None

    @property
    def is_leaf(self) -> bool:
        """Whether the value was made by the user rather than by a recorded operation."""
        return self.node is None or self.node.primitive is None


def raw(value: Any) -> Any:
    """The array of a backend at the bottom: below a value, and below a batch of vmap."""
    while hasattr(value, "array"):
        value = value.array
    return value


def owner(array: Any) -> Any:
    """The array whose memory this is: itself, or the one it is a view of."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


class _SetGrad(ContextDecorator):
    """Base of no_grad and enable_grad: a context manager that is a decorator too."""

    wanted: bool

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.grad)
        mode.grad = self.wanted

    def __exit__(self, *exc: object) -> None:
        mode.grad = self.before.pop()


class no_grad(_SetGrad):
    """Within it, operations are not recorded; ``@no_grad()`` works on functions."""

    wanted = False


class enable_grad(_SetGrad):
    """Within it, operations are recorded again, inside no_grad too."""

    wanted = True


def newest_first(roots: Iterable[Node]) -> list[Node]:
    """All nodes reachable from ``roots``, each before the nodes it depends on."""
    stack = list(roots)
    seen = set(stack)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=lambda node: -node.number)


def leading_to(order: list[Node], targets: Iterable[Node]) -> set[Node]:
    """The nodes of ``order`` (newest first) from which a target can be reached, targets too."""
    found = set(targets)
    for node in reversed(order):
        if any(edge in found for edge in node.edges):
            found.add(node)
    return found
