"""checkpoint: forget what a function saved for backward, and compute it again when it is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tinygrad_ai import random
from tinygrad_ai.autodiff import Node, enable_grad, mode
from tinygrad_ai.errors import GraphError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.tree import Unchanged


class _Region:
    """One call of a checkpointed function: what is needed to run it again."""

    def __init__(self, f: Callable[..., Any], args: Any, keywords: Any) -> None:
        self.given = Unchanged("checkpoint", (f, args, keywords))
        self.call = functools.partial(f, *args, **keywords)
        self.state = random.generator().state_dict()
        self.count = 0
        self.again: dict[int, Any] = {}

    def forget(self, node: Node) -> None:
        """Have node number ``count`` of the region fetch what it saved when it is asked."""
        node.saved = functools.partial(self.fetch, self.count)
        self.count += 1

    def fetch(self, k: int) -> Any:
        """What node ``k`` saved, from a second run of the region."""
        if k not in self.again:
            self._run_again()
        return self.again.pop(k)

    def _run_again(self) -> None:
        self.given.check()
        collected: list[Any] = []
        assigned: list[tuple[Tensor, Tensor, int]] = []
        generator = random.generator()
        present, outer = generator.state_dict(), (mode.on_record, mode.on_assign)
        generator.load_state_dict(self.state)
        mode.on_record = lambda node: collected.append(node.saved)
        mode.on_assign = lambda t: assigned.append((t, t.copy(), t.version[0]))
        try:
            with enable_grad():
                self.call()
        finally:
            mode.on_record, mode.on_assign = outer
            generator.load_state_dict(present)
            for tensor, before, version in reversed(assigned):  # as the first run left them
                tensor[...] = before
                tensor.version[0] = version
        if len(collected) != self.count:
            raise GraphError(
                f"checkpoint: the second run recorded {len(collected)} operations, the first "
                f"{self.count}",
                "   help: the function must do the same when it is called again",
            )
        self.again = dict(enumerate(collected))


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` with its intermediate values dropped and computed again in backward.

    Trades a second forward pass for memory. Random numbers are drawn again as they were, and what
    the second run assigns to tensors (running statistics) is taken back. ``f`` must do the same
    when it is called again (raises GraphError if it visibly does not, and if an argument was
    changed in place); tensors it closes over get their gradients as usual.
    """

    @functools.wraps(f)
    def forgetful(*args: Any, **keywords: Any) -> Any:
        if not mode.grad:
            return f(*args, **keywords)
        region = _Region(f, args, keywords)
        outer, mode.on_record = mode.on_record, region.forget
        try:
            return f(*args, **keywords)
        finally:
            mode.on_record = outer

    return forgetful
