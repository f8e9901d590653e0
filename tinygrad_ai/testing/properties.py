"""What every correct gradient rule has in common, as properties for any adapter.

Each is a function ``check(adapter, f, arrays, rng) -> bool``: ``adapter`` has ``call`` and ``vjp``
(see :mod:`tinygrad_ai.testing.adapters`), ``f`` is a function of the framework's arrays that
returns one or several of them, ``arrays`` its inputs as NumPy arrays, ``rng`` a NumPy generator.
It raises AssertionError, with the numbers, where the property is violated; it returns True where it
held and False where it says nothing about this call (no floating-point output, say).
:data:`PROPERTIES` lists all of them by name.

Two properties call ``f`` within another function; an adapter whose ``vjp`` knows only one
function (a pair written by hand) says so with ``composes = False``, and they say nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinygrad_ai.testing.adapters import Adapter
from tinygrad_ai.testing.checker import check_gradients
from tinygrad_ai.testing.measures import (
    Array,
    Arrays,
    derivative,
    gradients,
    moved,
    same,
    signed,
    sloped,
    smooth_outputs,
)
from tinygrad_ai.testing.samples import LAYOUTS
from tinygrad_ai.transforms.tree import flatten

Rng = np.random.Generator
Property = Callable[[Adapter, Any, Arrays, Rng], bool]
PROPERTIES: dict[str, Property] = {}


def _property(check: Property) -> Property:
    PROPERTIES[check.__name__] = check
    return check


def _of_outputs(check: Callable[[Adapter, Any, Arrays, Arrays, Rng], bool]) -> Property:
    """A property that is told the outputs; it says nothing where ``smooth_outputs`` are none."""

    @_property
    @wraps(check)
    def asked(adapter: Adapter, f: Any, arrays: Arrays, rng: Rng) -> bool:
        outputs = smooth_outputs(adapter, f, arrays)
        return outputs is not None and check(adapter, f, arrays, outputs, rng)

    return asked


# ------------------------------------------------------------------------- against the numbers


@_of_outputs
def oracle(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """The gradient is the derivative that differences show; kinks allow their interval.

    False where the checker is inconclusive.
    """
    report = check_gradients(f, *arrays, adapter=adapter, seed=int(rng.integers(2**31)))
    if report.verdict == "fail":
        raise AssertionError(report.text())
    return report.verdict == "pass"


@_of_outputs
def hessian_symmetric(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """⟨w, H u⟩ = ⟨u, H w⟩: else what ``vjp`` gives is the gradient of no function."""
    v = [signed(rng, y) for y in outputs]
    at = [arrays[k] for k in sloped(arrays)]
    u, w = ([signed(rng, x) for x in at] for _ in range(2))

    def product(left: Arrays, right: Arrays) -> tuple[float, float]:
        def along(t: float) -> float:
            g = gradients(adapter, f, moved(arrays, right, t), v)
            return float(sum(np.sum(a * b) for a, b in zip(left, g, strict=True)))

        return derivative(along)

    (one, e), (other, d) = product(u, w), product(w, u)
    scale = 1 + abs(one) + abs(other)
    if e + d > 1e-3 * scale:
        return False
    assert abs(one - other) <= 10 * (e + d) + 1e-6 * scale, (
        f"the Hessian is not symmetric: ⟨u, H w⟩ = {one!r}, ⟨w, H u⟩ = {other!r}"
    )
    return True


# ------------------------------------------------------------------------- in the cotangent


@_of_outputs
def linear(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """vjp(2u - v) = 2 vjp(u) - vjp(v)."""
    u, v = ([signed(rng, y) for y in outputs] for _ in range(2))
    both = [np.asarray(2 * a - b, dtype=a.dtype) for a, b in zip(u, v, strict=True)]
    one, other = (gradients(adapter, f, arrays, w) for w in (u, v))
    expected = [2 * a - b for a, b in zip(one, other, strict=True)]
    same(
        "the gradient is not linear in the cotangent", gradients(adapter, f, arrays, both), expected
    )
    return True


@_of_outputs
def zero(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """A zero cotangent gives exact zeros."""
    for g in gradients(adapter, f, arrays, [np.zeros_like(y) for y in outputs]):
        assert not g.any(), f"a zero cotangent gives {g!r}"
    return True


@_of_outputs
def twice(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """The same call gives the same bits again, and two backward passes add up to twice.

    The second half is asked of adapters with ``accumulated(f, arrays, cotangents)``: what ``.grad``
    holds after two passes through one graph.
    """
    v = [signed(rng, y) for y in outputs]
    first, second = (gradients(adapter, f, arrays, v) for _ in range(2))
    for g, h in zip(first, second, strict=True):
        assert np.array_equal(g, h, equal_nan=True), f"the second call gives {h!r}, not {g!r}"
    if hasattr(adapter, "accumulated"):
        found = [adapter.accumulated(f, arrays, v)[k] for k in sloped(arrays)]
        pairs = [(a, 2 * b) for a, b in zip(found, first, strict=True) if a is not None]
        same("two backward passes do not add up", [a for a, _ in pairs], [b for _, b in pairs])
    return True


# -------------------------------------------------------------------------- in composition


@_of_outputs
def fan_out(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """A value used twice gets the sum of both gradients: f(x) and f(x), and f(x, x)."""
    if not adapter.composes:
        return False
    u, v = ([signed(rng, y) for y in outputs] for _ in range(2))

    def forked(*xs: Any) -> list[Any]:
        return flatten(f(*xs))[0] + flatten(f(*xs))[0]

    one, other = (gradients(adapter, f, arrays, w) for w in (u, v))
    expected = [a + b for a, b in zip(one, other, strict=True)]
    same("fan-out does not add", gradients(adapter, forked, arrays, [*u, *v]), expected)
    moving = sloped(arrays)
    if len(arrays) == 2 == len(moving) and arrays[0].shape == arrays[1].shape:
        x = [arrays[0]]
        at = [x[0], x[0]]
        w = [signed(rng, np.asarray(y)) for y in adapter.call(f, at)]
        whole = gradients(adapter, lambda x: f(x, x), x, w)
        left, right = gradients(adapter, f, at, w)
        same("f(x, x) does not add", whole, [left + right])
    return True


@_of_outputs
def chain(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """The gradient of f(2x)² is 2·vjp of f with the cotangent times 2·f."""
    if not adapter.composes:
        return False
    moving = set(sloped(arrays))
    halves = [x / 2 if k in moving else x for k, x in enumerate(arrays)]
    halves = [np.asarray(h, dtype=x.dtype) for h, x in zip(halves, arrays, strict=True)]

    def inside(*xs: Any) -> list[Any]:
        ys = f(*(2 * x if k in moving else x for k, x in enumerate(xs)))
        return [y * y for y in flatten(ys)[0]]

    v = [signed(rng, y) for y in outputs]
    outer = [np.asarray(2 * y * w, dtype=y.dtype) for y, w in zip(outputs, v, strict=True)]
    expected = [2 * g for g in gradients(adapter, f, arrays, outer)]
    same("the chain rule fails", gradients(adapter, inside, halves, v), expected)
    return True


# ------------------------------------------------------------------- in shapes and layouts


@_of_outputs
def broadcast(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """Broadcasting inputs = expanding them and summing the gradients over the copies.

    It speaks of calls in which some input is broadcast and expanding changes no value.
    """
    try:
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        return False
    if all(x.shape == shape for x in arrays):
        return False
    if any(y.shape != shape for y in outputs):
        return False
    wide = [np.broadcast_to(x, shape).copy() for x in arrays]
    v = [signed(rng, y) for y in outputs]
    same("broadcast values", adapter.call(f, wide), outputs)
    expected = [
        _summed(g, arrays[k].shape)
        for k, g in zip(sloped(arrays), gradients(adapter, f, wide, v), strict=True)
    ]
    same("the gradient of a broadcast input", gradients(adapter, f, arrays, v), expected)
    return True


def _summed(g: Array, shape: tuple[int, ...]) -> Array:
    lead = g.ndim - len(shape)
    stretched = [lead + k for k, n in enumerate(shape) if n == 1]
    return np.asarray(g.sum(axis=(*range(lead), *stretched)).reshape(shape))


@_property
def layout(adapter: Adapter, f: Any, arrays: Arrays, rng: Rng) -> bool:
    """Transposed, reversed, stepped and read-only inputs and cotangents change nothing."""
    plain = [np.array(x, order="C") for x in arrays]
    values = smooth_outputs(adapter, f, plain)
    if values is None:
        return False
    v = [signed(rng, y) for y in values]
    expected = gradients(adapter, f, plain, v)
    for name, lay in LAYOUTS.items():
        other = [lay(x) for x in plain]
        same(f"values of {name} inputs", adapter.call(f, other), values)
        found = gradients(adapter, f, other, [lay(w) for w in v])
        same(f"gradients of {name} inputs", found, expected)
    return True


@_property
def zero_size(adapter: Adapter, f: Any, arrays: Arrays, rng: Rng) -> bool:
    """Where the leading axis has size 0 every gradient has the shape and dtype of its input.

    The first input is cut to nothing, and the others where they align with it; a function that
    refuses such inputs is not asked.
    """
    moving = sloped(arrays)
    if not moving or not arrays[moving[0]].ndim:
        return False
    shape = arrays[moving[0]].shape
    empty = [_cut(x, -len(shape), shape[0]) for x in arrays]
    try:
        outputs = adapter.call(f, empty)
    except Exception:  # what f says to shapes it does not take is its own affair
        return False
    found = gradients(adapter, f, empty, [signed(rng, y) for y in outputs])
    for g, k in zip(found, moving, strict=True):
        assert (g.shape, g.dtype) == (empty[k].shape, empty[k].dtype), (
            f"the gradient of a {empty[k].dtype} input of shape {empty[k].shape} is "
            f"{g.dtype} with shape {g.shape}"
        )
    return True


def _cut(x: Array, axis: int, size: int) -> Array:
    if x.ndim < -axis or x.shape[axis] != size:
        return x
    key: tuple[Any, ...] = (..., slice(0), *(slice(None),) * (-axis - 1))
    return x[key]


@_of_outputs
def batch(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """Of a stack of inputs, value and gradient are the stacks of the single ones.

    Asked of ``adapter.batched(f)`` (a function over the leading axis of all inputs) where there is
    one, else of ``f`` itself if its values of the stack are the stack of its values.
    """
    moving = set(sloped(arrays))
    other = [
        np.asarray(x * rng.uniform(0.95, 1, x.shape), x.dtype) if k in moving else x
        for k, x in enumerate(arrays)
    ]
    stacked = [np.stack(pair) for pair in zip(arrays, other, strict=True)]
    singles = [outputs, adapter.call(f, other)]
    expected = [np.stack(pair) for pair in zip(*singles, strict=True)]
    wide = f
    if hasattr(adapter, "batched"):
        wide = adapter.batched(f)
        values = adapter.call(wide, stacked)
    else:
        try:
            values = adapter.call(f, stacked)
            same("values", values, expected)
        except Exception:  # f does not map over leading axes, and does not claim to
            return False
    same("values of a batch", values, expected)
    v = [signed(rng, y) for y in expected]
    parts = [
        gradients(adapter, f, point, [w[k] for w in v]) for k, point in enumerate((arrays, other))
    ]
    same(
        "gradients of a batch",
        gradients(adapter, wide, stacked, v),
        [np.stack(pair) for pair in zip(*parts, strict=True)],
    )
    return True


# ------------------------------------------------------------------------ dtypes and memory


@_of_outputs
def dtype_shape(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """A gradient has the dtype and the shape of its input, in float64, 32 and, if it runs, 16."""
    moving = set(sloped(arrays))
    for dtype in (np.float64, np.float32, np.float16):
        narrow = [x.astype(dtype) if k in moving else x for k, x in enumerate(arrays)]
        try:
            outputs = [np.asarray(y) for y in adapter.call(f, narrow)]
        except Exception:
            if dtype != np.float16:  # LAPACK and others know no halves
                raise
            continue
        for k, g in enumerate(adapter.vjp(f, narrow, [signed(rng, y) for y in outputs])):
            if k in moving and g is not None:
                assert g.shape == narrow[k].shape, (
                    f"input {k} has shape {narrow[k].shape}, its gradient {g.shape}"
                )
                assert g.dtype == dtype, f"input {k} is {np.dtype(dtype)}, its gradient {g.dtype}"
    return True


@_of_outputs
def precision(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """The float32 gradient is the float64 gradient at the same point, to float32's precision."""
    moving = set(sloped(arrays))
    narrow = [x.astype(np.float32) if k in moving else x for k, x in enumerate(arrays)]
    wide = [x.astype(np.float64) if k in moving else x for k, x in enumerate(narrow)]
    v = [signed(rng, np.asarray(y, dtype=np.float32)) for y in adapter.call(f, narrow)]
    exact = gradients(adapter, f, wide, [w.astype(np.float64) for w in v])
    expected = [g.astype(np.float32) for g in exact]
    same("the float32 gradient", gradients(adapter, f, narrow, v), expected)
    return True


@_property
def no_mutation(adapter: Adapter, f: Any, arrays: Arrays, rng: Rng) -> bool:
    """Neither the call nor its gradient changes inputs or cotangents."""
    given = [np.array(x) for x in arrays]
    outputs = smooth_outputs(adapter, f, given)
    if outputs is None:
        return False
    v = [signed(rng, y) for y in outputs]
    kept = [w.copy() for w in v]
    adapter.vjp(f, given, v)
    for what, after, before in (("input", given, arrays), ("cotangent", v, kept)):
        for k, (x, y) in enumerate(zip(after, before, strict=True)):
            assert np.array_equal(x, y, equal_nan=x.dtype.kind == "f"), (
                f"{what} {k} was changed: {x!r} instead of {y!r}"
            )
    return True


@_of_outputs
def no_alias(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """Gradients share no memory with one another, with the inputs or with the cotangents."""
    given = [np.array(x) for x in arrays]
    v = [signed(rng, y) for y in outputs]
    known = [(f"input {k}", x) for k, x in enumerate(given)]
    known += [(f"cotangent {k}", w) for k, w in enumerate(v)]
    for k, g in enumerate(adapter.vjp(f, given, v)):
        if g is not None and given[k].dtype.kind == "f":
            for name, x in known:
                assert not np.shares_memory(g, x), f"gradient {k} shares memory with {name}"
            known.append((f"gradient {k}", g))
    return True


# ----------------------------------------------------------------------------------- compiled


@_of_outputs
def compiled(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """Compiled, ``f`` has the values and gradients that it has eagerly.

    Asked of adapters with ``compiled``, the adapter of the same functions compiled.
    """
    if not hasattr(adapter, "compiled"):
        return False
    v = [signed(rng, y) for y in outputs]
    same("compiled values", adapter.compiled.call(f, arrays), outputs)
    found = gradients(adapter.compiled, f, arrays, v)
    same("compiled gradients", found, gradients(adapter, f, arrays, v))
    return True


@_of_outputs
def threads(adapter: Adapter, f: Any, arrays: Arrays, outputs: Arrays, rng: Rng) -> bool:
    """A compiled function gives the same bits on one, two and three threads."""
    if not hasattr(adapter, "compiled"):
        return False
    v = [signed(rng, y) for y in outputs]
    found = []
    for count in (1, 2, 3):
        shared = adapter.compiled.with_threads(count)
        found.append([*shared.call(f, arrays), *gradients(shared, f, arrays, v)])
    for count, other in enumerate(found[1:], 2):
        for k, (x, y) in enumerate(zip(found[0], other, strict=True)):
            equal = x.tobytes() == y.tobytes()
            assert equal, f"array {k} has other bits on {count} threads: {y!r}, not {x!r}"
    return True
