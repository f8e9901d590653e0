"""custom_vjp: a function that brings its own pullback."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Bundle, Node, Value, mode, no_grad, opaque
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.reverse import as_tensor
from tinygrad_ai.transforms.tree import Unchanged, flatten


def _pull(g: Any, i: int, pullback: Any) -> Any:
    return pullback(g)[i]


custom = opaque(
    "custom_vjp",
    lambda xp, *arguments, pullback: arguments,  # the user's function runs in its place
    vjp=_pull,
    why="the function brought its own rule",
)
select = opaque(
    "select",
    lambda xp, bundle, *, position: bundle[position],
    vjp=lambda g, position: Bundle({position: g}),
    why="one output of several; its cotangent waits for the others",
)


class _Pullback:
    """The user's pullback with its results put in order, computed once for each cotangent."""

    def __init__(
        self, function: Callable[[Any], Any], name: str, arguments: int, inputs: Any, outputs: Any
    ) -> None:
        self.function = function
        self.name = name
        self.arguments = arguments
        self.inputs = inputs  #: per input leaf (position in the arguments, shape, dtype)
        self.outputs, self.rebuild = outputs
        self.unchanged: Unchanged
        self.node: weakref.ref[Node]
        self.made: list[weakref.ref[Tensor]]  #: the outputs as ``f`` knows them
        self.last: tuple[Any, list[Any]] | None = None

    def __call__(self, g: Any) -> list[Any]:
        if self.last is None or self.last[0] is not g:
            self.last = (g, self._results(g))
        return self.last[1]

    def _results(self, g: Any) -> list[Any]:
        self.unchanged.check()
        given = [g.get(k) if isinstance(g, Bundle) else g for k in range(len(self.outputs))]
        lifted = mode.grad or any(isinstance(part, Value) for part in given)
        cotangents = []
        for part, leaf in zip(given, self.outputs, strict=True):
            part = np.zeros(leaf[0], leaf[1]) if part is None else part
            cotangents.append(part if isinstance(part, Value) else Tensor.box(part))
        with self._outputs_in_place():
            made = self.function(self.rebuild(cotangents))
        if self.arguments == 1 and not (isinstance(made, tuple) and len(made) == 1):
            made = (made,)
        if not isinstance(made, tuple | list) or len(made) != self.arguments:
            raise ShapeError(
                f"{self.name}: the pullback must return {self.arguments} gradients, one for each "
                "argument (None for one that has none)"
            )
        return [self._leaf(made, n, lifted) for n in range(len(self.inputs))]

    @contextmanager
    def _outputs_in_place(self) -> Iterator[None]:
        """Show the pullback, which may read the outputs, their places in the graph."""
        node = self.node()
        assert node is not None  # it is being pulled back
        outputs = [(k, out) for k, here in enumerate(self.made) if (out := here()) is not None]
        seen = [(k, out) for k, out in outputs if out.node is None]
        for k, out in seen:
            out.node = _place(node, k, out)
        try:
            yield
        finally:
            for _, out in seen:
                out.node = None

    def _leaf(self, made: Any, n: int, lifted: bool) -> Any:
        argument, shape, dtype = self.inputs[n]
        whole = made[argument]
        before = sum(1 for k, _, _ in self.inputs[:n] if k == argument)
        same = sum(1 for k, _, _ in self.inputs if k == argument)
        parts = [None] * same if whole is None else flatten(whole)[0]
        found = parts[before] if before < len(parts) else None
        if found is None:
            found = np.zeros(shape, dtype)
        tensor = as_tensor(found)
        if tuple(tensor.shape) != tuple(shape):
            raise ShapeError(
                f"{self.name}: the pullback returned a gradient of shape {tensor.shape} for "
                f"argument {argument} of shape {tuple(shape)}"
            )
        return tensor if lifted else tensor.array


def custom_vjp(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate ``f``, which returns ``out, pullback``, to be differentiated by its pullback.

    ``pullback(cotangent)`` takes the structure of ``out`` and returns one gradient for each
    argument (a tuple, or the gradient itself for one argument), None where there is none. It may
    read ``f``'s arguments and output; written with tensors, it can be differentiated again.

    Raises ShapeError if the pullback's results do not fit the arguments.
    """

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        trees = [flatten(arg) for arg in args]
        tensors = [[as_tensor(leaf) for leaf in leaves] for leaves, _ in trees]
        with no_grad():
            made = f(*(build(leaves) for leaves, (_, build) in zip(tensors, trees, strict=True)))
        if not (isinstance(made, tuple) and len(made) == 2 and callable(made[1])):
            raise ShapeError(f"{f.__name__} must return (out, pullback)")
        out, pullback = made
        flat = [(k, t) for k, leaves in enumerate(tensors) for t in leaves if isinstance(t, Tensor)]
        if not (mode.grad and any(t.requires_grad for _, t in flat)):
            return out
        outputs, rebuild = flatten(out)
        outputs = [as_tensor(leaf) for leaf in outputs]
        shapes = [(t.shape, t.dtype) for t in outputs]
        sources = [(k, t.shape, t.dtype) for k, t in flat]
        pull = _Pullback(pullback, f.__name__, len(args), sources, (shapes, rebuild))
        edges = tuple(t.node for _, t in flat)
        single = len(outputs) == 1
        shape, dtype = shapes[0] if single else ((), None)
        node = Node(custom, edges, {"pullback": pull, "outputs": shapes}, {}, shape, dtype)
        pull.unchanged = Unchanged(f.__name__, ([t for _, t in flat], outputs))
        pull.node, pull.made = weakref.ref(node), [weakref.ref(t) for t in outputs]
        return rebuild(
            [Tensor.box(t.array, _place(node, k, t), t.version) for k, t in enumerate(outputs)]
        )

    return wrapped


def _place(node: Node, k: int, out: Tensor) -> Node:
    """The node of output ``k`` of the call that ``node`` stands for."""
    if node.dtype is not None:
        return node
    return Node(select, (node,), {"position": k}, {}, out.shape, out.dtype)
