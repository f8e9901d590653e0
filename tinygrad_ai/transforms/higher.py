"""Whole derivatives: jacobian, hessian, and the Hessian times a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.errors import DTypeError
from tinygrad_ai.ops.movement import reshape
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.forward import jvp
from tinygrad_ai.transforms.reverse import (
    argument_numbers,
    as_tensor,
    check_differentiable,
    grad,
    vjp,
)
from tinygrad_ai.transforms.tree import flatten
from tinygrad_ai.transforms.vmap import vmap


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns all derivatives of ``f``'s output with respect to its arguments.

    For an output of shape S and an argument of shape T the Jacobian has shape S + T; nested
    outputs and arguments give nested Jacobians, outputs outside. All rows are pulled back at once,
    as a batch. Raises DTypeError for an argument without gradients and an output that is no tensor.
    """

    def jacobian_of(*args: Any) -> Any:
        numbers = argument_numbers(argnums, len(args))
        for leaf in flatten([args[k] for k in numbers])[0]:
            check_differentiable(as_tensor(leaf))

        def chosen(*points: Any) -> Any:
            full = list(args)
            for k, point in zip(numbers, points, strict=True):
                full[k] = point
            return f(*full)

        out, pullback = vjp(chosen, *(args[k] for k in numbers))
        leaves, rebuild = flatten(out)
        leaves = [as_tensor(leaf) for leaf in leaves]
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise DTypeError(
                    f"jacobian of a function that returns {type(leaf).__name__}; it must return "
                    "tensors"
                )

        def rows(position: int, leaf: Any) -> Any:
            basis = np.eye(leaf.size, dtype=leaf.dtype).reshape(leaf.size, *leaf.shape)
            zeros = [np.zeros(other.shape, other.dtype) for other in leaves]

            def row(unit: Any) -> Any:
                return pullback(rebuild([*zeros[:position], unit, *zeros[position + 1 :]]))

            found, build = flatten(vmap(row)(Tensor.box(basis)))
            shaped = build([reshape(r, (*leaf.shape, *r.shape[1:])) for r in found])
            return shaped

        whole = rebuild([rows(k, leaf) for k, leaf in enumerate(leaves)])
        return whole if isinstance(argnums, int) or len(numbers) > 1 else (whole,)

    return jacobian_of


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of the scalar function ``f``.

    For an argument of shape T the Hessian has shape T + T.
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """The Hessian of the scalar function ``f`` at ``x`` times ``v``, without the Hessian.

    ``x`` (any nested structure) is ``f``'s only argument and ``v`` has its structure; the cost is
    a few times that of ``f``: the derivative of the gradient along ``v`` (Pearlmutter, 1994).
    """
    return jvp(grad(f), (x,), (v,))[1]
