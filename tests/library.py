"""This library behind the adapter protocol, without a copy between the test's arrays and the rules.

So the rules meet the memory layouts of the test, and what they would change or share is seen.
"""

from typing import Any

import numpy as np

from tinygrad_ai.autodiff import pull_back
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.adapters import Adapter, outputs
from tinygrad_ai.transforms import vmap
from tinygrad_ai.transforms.tree import flatten


class Library(Adapter):
    name = "tinygrad_ai"

    def call(self, f: Any, arrays: Any) -> Any:
        return outputs(f(*map(Tensor.box, arrays)), np.asarray)

    def _graph(self, f: Any, arrays: Any) -> Any:
        inputs = [Tensor.box(a) for a in arrays]
        for t in inputs:
            t.requires_grad = t.dtype.kind == "f"
        leaves = [y for y in flatten(f(*inputs))[0] if isinstance(y, Tensor)]
        return inputs, [y for y in leaves if y.dtype.kind == "f"]

    def vjp(self, f: Any, arrays: Any, cotangents: Any) -> Any:
        inputs, leaves = self._graph(f, arrays)
        roots: dict[Any, Any] = {}
        for y, v in zip(leaves, cotangents, strict=True):
            if y.node is not None:
                roots[y.node] = roots[y.node] + v if y.node in roots else v
        found = pull_back(roots, [t.node for t in inputs if t.node is not None])
        return [found.get(t.node) for t in inputs]

    def accumulated(self, f: Any, arrays: Any, cotangents: Any) -> Any:
        inputs, leaves = self._graph(f, arrays)
        for _ in range(2):
            for y, v in zip(leaves, cotangents, strict=True):
                if y.requires_grad:
                    y.backward(v, retain_graph=True)
        return [None if t.grad is None else t.grad.numpy() for t in inputs]

    def batched(self, f: Any) -> Any:
        return vmap(f)


LIBRARY = Library()
