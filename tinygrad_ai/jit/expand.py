"""Composite operations replaced by the simpler ones they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import mode
from tinygrad_ai.jit.capture import Capture
from tinygrad_ai.jit.forms import Form, other_form
from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.tensor import Tensor


def expanded(program: Program, makers: Mapping[Var, Equation] | None = None) -> Program:
    """``program`` with composites, and what has a better form, written out.

    ``makers`` say what made the variables that the program reads, where that is known.
    """
    inputs = list(program.inputs)
    equations: list[Equation] = []
    known = dict(makers or {})
    replaced: dict[Var, Any] = {}
    for e in program.equations:
        form = _form(e, known)
        if form is None:
            equations.append(e)
            known.update(dict.fromkeys(e.outputs, e))
            continue
        given = [replaced.get(v, v) if isinstance(v, Var) else v for v in form.inputs]
        capture = Capture({})
        out = _captured(capture, form.body, given, e.params)
        inputs += capture.inputs
        body_equations = expanded(Program([], capture.equations, [out]), known).equations
        equations += (
            Equation(b.operation, b.inputs, b.params, b.outputs, e.name) for b in body_equations
        )
        known |= {v: b for b in body_equations for v in b.outputs}
        replaced[e.outputs[0]] = out
    whole = program.rewritten(replaced, equations)
    return Program(inputs, whole.equations, whole.outputs)


def _form(e: Equation, makers: Mapping[Var, Equation]) -> Form | None:
    """How ``e`` is written out; halves and arrays without elements are left to NumPy."""
    if not e.outputs or any(v.dtype == np.float16 or not v.size for v in (*e.reads(), *e.outputs)):
        return None
    lower = getattr(e.operation, "lower", None)
    if isinstance(lower, Composite):
        return Form(lower.body, e.inputs)
    return other_form(e, makers)


def _captured(
    capture: Capture, body: Callable[..., Any], given: list[Any], params: dict[str, Any]
) -> Var:
    outer = mode.interpreter, mode.capture
    mode.interpreter = mode.capture = capture
    try:
        boxed = [Tensor.box(v) if isinstance(v, Var) else v for v in given]
        return body(*boxed, **params).array
    finally:
        mode.interpreter, mode.capture = outer
