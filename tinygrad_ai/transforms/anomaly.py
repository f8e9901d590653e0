"""detect_anomaly: stop at the first operation that makes a NaN or an infinity."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Node, Primitive, mode
from tinygrad_ai.errors import AnomalyError, user_line


def _finite(x: Any) -> bool:
    while hasattr(x, "array"):
        x = x.array
    if isinstance(x, bool | int):
        return True
    if getattr(getattr(x, "dtype", None), "kind", "f") != "f":
        return True
    return bool((abs(x) < np.inf).all()) if hasattr(x, "dtype") else bool(np.isfinite(x))


class detect_anomaly(ContextDecorator):
    """Within it, raise AnomalyError at the first operation that makes a NaN or an infinity.

    In the forward pass that is an operation whose inputs were all finite; in backward, a rule
    whose contribution is not finite. The message has the operation and the user's line.
    """

    def __enter__(self) -> None:
        self.before = mode.interpreter, mode.on_record
        mode.interpreter, mode.on_record = self._evaluate, self._note_line

    def __exit__(self, *exc: object) -> None:
        mode.interpreter, mode.on_record = self.before

    def _note_line(self, node: Node) -> None:
        node.line = user_line()
        if self.before[1] is not None:
            self.before[1](node)

    def _evaluate(
        self, primitive: Primitive, args: Sequence[Any], arrays: list[Any], params: dict[str, Any]
    ) -> Any:
        outer = self.before[0]
        if outer is not None:
            out = outer(primitive, args, arrays, params)
        else:
            out = primitive.evaluate(arrays, params)
        if hasattr(out, "dtype") and not _finite(out) and all(_finite(a) for a in arrays):
            raise AnomalyError(
                f"{primitive.name} made a NaN or an infinity", f"   called at {user_line()}"
            )
        return out
