"""Where on our own tape it goes wrong: every operation that a call runs, checked by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive, mode, newest_first
from tinygrad_ai.errors import user_line
from tinygrad_ai.explain.formula import vjp_formula
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.report import GradReport
from tinygrad_ai.transforms.tree import flatten

Array = np.ndarray[Any, Any]
LARGEST = 2000  #: operations on more elements than this are not tried


@dataclass(frozen=True)
class _Call:
    """One operation that ran: with which inputs, and on which line of the user's."""

    primitive: Primitive
    inputs: Sequence[Any]
    params: dict[str, Any]
    line: str

    def moving(self) -> list[int]:
        """The inputs that gradients flow to."""
        return [
            k
            for k, x in enumerate(self.inputs)
            if isinstance(x, np.ndarray) and x.dtype.kind == "f" and self.primitive.rule(k)
        ]

    def __call__(self, *values: Any) -> Any:
        full = list(self.inputs)
        for k, value in zip(self.moving(), values, strict=True):
            full[k] = value
        return self.primitive(*full, **self.params)


def first_wrong(
    f: Callable[..., Any], arrays: Sequence[Array], check: Callable[..., GradReport]
) -> list[str]:
    """What to say of the first operation of ``f(*arrays)`` whose own rule is wrong.

    If none is, and ``f`` ran functions with rules of their own (custom_vjp), these are named.
    """
    calls, names = _recorded(f, arrays)
    for call in calls:
        at = call.moving()
        size = sum(call.inputs[k].size for k in at)
        if not at or not 0 < size <= LARGEST:
            continue
        report = check(call, *(call.inputs[k] for k in at))
        worst = report.worst
        if report.verdict == "fail" and worst is not None:
            k = at[worst.argument or 0]
            return [
                f"first wrong operation: {call.primitive.name}, called at {call.line}",
                f"its rule for input {k}: {vjp_formula(call.primitive, k)}",
            ]
    return [f"every operation is right by itself; look at the rule of {n}" for n in names]


def _recorded(f: Callable[..., Any], arrays: Sequence[Array]) -> tuple[list[_Call], list[str]]:
    """The operations of one call, in order, and the custom_vjp functions in its graph."""
    calls: list[_Call] = []
    outer = mode.interpreter

    def note(primitive: Primitive, args: Any, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
        calls.append(_Call(primitive, list(inputs), params, user_line()))
        if outer is not None:
            return outer(primitive, args, inputs, params)
        return primitive.evaluate(inputs, params)

    mode.interpreter = note
    try:
        out = f(*(Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays))
    finally:
        mode.interpreter = outer
    nodes = newest_first(
        t.node for t in flatten(out)[0] if isinstance(t, Tensor) and t.node is not None
    )
    pulls = [n.params.get("pullback") for n in nodes if n.primitive is not None]
    return calls, sorted({str(pull.name) for pull in pulls if pull is not None})
