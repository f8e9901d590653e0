"""A second sampler of calls, which shares neither distribution nor stream with ``samples``.

Heavy tails, zeros, ones and ties among the values, other shapes: what tells a mutant that is
equivalent from one that the usual samples merely miss.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.ops.index import ARRAY
from tinygrad_ai.testing.samples import BITS, CONDITIONS

Geometry = Callable[["HeavyTails"], Any]
SPECIAL = np.array([0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 40.0, -40.0])


class HeavyTails:
    """Stands in for a Generator in the ``sample`` of a record: same calls, other numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rng, name)

    def standard_normal(self, size: Any = ()) -> Any:
        """Student's t with 3 degrees of freedom, with special values and ties mixed in."""
        x = np.asarray(self.rng.standard_t(3, size))
        x = np.where(self.rng.random(x.shape) < 0.15, self.rng.choice(SPECIAL, x.shape), x)
        tied = self.rng.permutation(x.ravel()).reshape(x.shape)
        return np.where(self.rng.random(x.shape) < 0.1, tied, x)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = ()) -> Any:
        """Mostly near both ends."""
        return low + (high - low) * np.asarray(self.rng.beta(0.5, 0.5, size))


def independent_call(
    record: Primitive, rng: np.random.Generator
) -> tuple[list[Any], dict[str, Any]]:
    """A valid call of ``record``; values may lie on its kinks and at the ends of its domain."""
    heavy = HeavyTails(rng)
    if record.name in GEOMETRIES:
        inputs, params = GEOMETRIES[record.name](heavy)
        return [np.asarray(x) for x in inputs], params
    shape = _shape(heavy)
    if record.kind == "elementwise":
        _, params = record.sample(heavy) if record.sample is not None else ((), {})
        values = [_values(record, k, _thinned(shape, rng), heavy) for k in range(record.arity)]
        return values, params
    if record.sample is not None:
        inputs, params = record.sample(heavy)
        return [np.asarray(x) for x in inputs], params
    shape = shape or (5,)
    axis = int(rng.integers(len(shape)))
    chosen: dict[str, Any] = {
        "axis": tuple(sorted({axis, int(rng.integers(len(shape)))}))
        if record.kind == "reduction"
        else axis,
        "keepdims": bool(rng.random() < 0.5),
        "ddof": int(rng.integers(2)),
    }
    wanted = inspect.signature(record.forward).parameters
    return [heavy.standard_normal(shape)], {k: v for k, v in chosen.items() if k in wanted}


def _shape(heavy: HeavyTails, least: int = 0, most: int = 3) -> tuple[int, ...]:
    return tuple(int(n) for n in heavy.rng.integers(1, 6, heavy.rng.integers(least, most + 1)))


def _thinned(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    """A shape that broadcasts into ``shape``."""
    thin = tuple(1 if rng.random() < 0.2 else n for n in shape)
    return thin[int(rng.integers(len(thin) + 1)) if rng.random() < 0.3 else 0 :]


def _values(record: Primitive, k: int, shape: tuple[int, ...], heavy: HeavyTails) -> Any:
    if record.name in BITS or (record.name in CONDITIONS and (record.name != "where" or k == 0)):
        return heavy.rng.random(shape) < 0.3
    low, high = record.domain[k]
    if not np.isfinite(low):
        return heavy.standard_normal(shape)
    if not np.isfinite(high):
        x = low + heavy.rng.lognormal(0, 1.5, shape)
        return np.where(heavy.rng.random(shape) < 0.1, max(low, 0.0), x)
    return heavy.uniform(low, high, shape)


# ---------------------------------------------- geometries of the operations with parameters


def _between(heavy: HeavyTails, low: int, high: int) -> int:
    return int(heavy.rng.integers(low, high + 1))


def _one(params: Any, least: int = 0) -> Geometry:
    """A random array with ``params(heavy, shape)``."""

    def made(heavy: HeavyTails) -> Any:
        shape = _shape(heavy, least)
        return (heavy.standard_normal(shape),), params(heavy, shape)

    return made


def _axis(heavy: HeavyTails, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"axis": int(heavy.rng.integers(len(shape)))}


def _axes(heavy: HeavyTails, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k for k in range(len(shape)) if heavy.rng.random() < 0.5)


def _key(heavy: HeavyTails, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A basic index: whole numbers, new axes, slices with any step."""
    parts: list[Any] = []
    for n in shape[: _between(heavy, 0, len(shape))]:
        start, stop = sorted(heavy.rng.integers(0, n + 1, 2).tolist())
        step = _between(heavy, 1, 3)
        forms = (_between(heavy, -n, n - 1), slice(start, stop, step), slice(None, None, -step))
        parts += [forms[_between(heavy, 0, 2)], *[None] * (heavy.rng.random() < 0.2)]
    return tuple(parts)


def _unslice(heavy: HeavyTails) -> Any:
    shape = _shape(heavy)
    key = _key(heavy, shape)
    return (heavy.standard_normal(np.empty(shape)[key].shape),), {"key": key, "shape": shape}


def _concatenate(heavy: HeavyTails) -> Any:
    shape = list(_shape(heavy, 1))
    axis = _between(heavy, 0, len(shape) - 1)
    sizes = heavy.rng.integers(0, 4, _between(heavy, 1, 4)).tolist()
    parts = [heavy.standard_normal((*shape[:axis], n, *shape[axis + 1 :])) for n in sizes]
    return tuple(parts), {"axis": axis}


def _spec(heavy: HeavyTails, shape: tuple[int, ...]) -> tuple[list[Any], tuple[Any, ...]]:
    """Index arrays for some axes of ``shape``, and the specification that holds them."""
    width = _shape(heavy, 0, 2)
    taken = [k for k in range(len(shape)) if k == 0 or heavy.rng.random() < 0.5]
    arrays = [heavy.rng.integers(-shape[k], shape[k], width) for k in taken]
    last = max(taken)
    return arrays, tuple(ARRAY if k in taken else slice(None) for k in range(last + 1))


def _index(heavy: HeavyTails) -> Any:
    shape = _shape(heavy, 1)
    arrays, spec = _spec(heavy, shape)
    return (heavy.standard_normal(shape), *arrays), {"spec": spec}


def _scatter(heavy: HeavyTails) -> Any:
    (x, *arrays), params = _index(heavy)
    key = iter(arrays)
    made = tuple(next(key) if part is ARRAY else part for part in params["spec"])
    return (heavy.standard_normal(x[made].shape), *arrays), params | {"shape": x.shape}


def _take(heavy: HeavyTails) -> Any:
    shape = _shape(heavy, 1)
    axis = _between(heavy, 0, len(shape) - 1)
    indices = heavy.rng.integers(-shape[axis], shape[axis], _shape(heavy, 0, 2))
    return (heavy.standard_normal(shape), indices), {"axis": axis}


def _matmul(heavy: HeavyTails) -> Any:
    lead, (m, k, n) = _shape(heavy, 0, 2), heavy.rng.integers(1, 6, 3).tolist()
    left, right = _thinned(lead, heavy.rng), _thinned(lead, heavy.rng)
    return (heavy.standard_normal((*left, m, k)), heavy.standard_normal((*right, k, n))), {}


def _linear(heavy: HeavyTails) -> Any:
    n, i, o = heavy.rng.integers(1, 6, 3).tolist()
    return (heavy.standard_normal((n, i)), heavy.standard_normal((o, i))), {}


def _einsum(heavy: HeavyTails) -> Any:
    specs = "ij,jk->ik ij,ij-> ij,ij->ij i,j->ij bij,bj->ib abc,cd->dab a,a->a bik,kbj->jbi ,a->a"
    spec = heavy.rng.choice(specs.split())
    size = dict(zip("abcdijk", heavy.rng.integers(1, 5, 7).tolist(), strict=True))
    words = spec.partition("->")[0].split(",")
    arrays = [heavy.standard_normal(tuple(size[k] for k in word)) for word in words]
    return tuple(arrays), {"spec": str(spec)}


def _square(extra: int = 0) -> Geometry:
    """Square matrices with a heavy diagonal (and a right-hand side)."""

    def made(heavy: HeavyTails) -> Any:
        n, lead = _between(heavy, 1, 4), _shape(heavy, 0, 1)
        a = heavy.standard_normal((*lead, n, n)) + 4 * np.eye(n)
        more = [heavy.standard_normal((*lead, n, _between(heavy, 1, 3)))] if extra else []
        return (a, *more), {}

    return made


def _positive_definite(heavy: HeavyTails) -> Any:
    n, lead = _between(heavy, 1, 4), _shape(heavy, 0, 1)
    a = heavy.uniform(-1, 1, (*lead, n, n))
    return (np.matmul(a, np.swapaxes(a, -1, -2)) + np.eye(n) + np.triu(a, 1),), {}


def _join(heavy: HeavyTails) -> Any:
    n = _between(heavy, 2, 4)
    return (heavy.standard_normal((*_shape(heavy, 0, 1), n, n, n - 1, n - 1)),), {}


def _labelled(heavy: HeavyTails) -> Any:
    lead, classes = _shape(heavy, 0, 2), _between(heavy, 1, 5)
    labels = heavy.rng.integers(0, classes, lead)
    labels = np.where(heavy.rng.random(lead) < 0.2, -100, labels)
    return (30 * heavy.standard_normal((*lead, classes)), labels), {"ignore": -100}


def _conv(part: str) -> Geometry:
    """A convolution of one or two axes with any geometry, or one of its gradients."""

    def made(heavy: HeavyTails) -> Any:
        rank = _between(heavy, 1, 2)
        kernel, stride, dilation = (heavy.rng.integers(1, 4, rank).tolist() for _ in range(3))
        padding = heavy.rng.integers(0, 3, (rank, 2)).tolist()
        groups = _between(heavy, 1, 2)
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        size = [r + _between(heavy, 0, 3) for r in reach]
        places = [
            (n + lo + hi - r) // s + 1
            for n, (lo, hi), r, s in zip(size, padding, reach, stride, strict=True)
        ]
        n, taken, out = _between(heavy, 1, 3), _between(heavy, 1, 2), groups * _between(heavy, 1, 2)
        arrays = {
            "x": heavy.standard_normal((n, groups * taken, *size)),
            "weight": heavy.standard_normal((out, taken, *kernel)),
            "dy": heavy.standard_normal((n, out, *places)),
        }
        params = {
            "stride": tuple(stride),
            "padding": tuple(map(tuple, padding)),
            "dilation": tuple(dilation),
            "groups": groups,
        }
        more = {"input": {"shape": tuple(size)}, "weight": {"kernel": tuple(kernel)}}.get(part, {})
        names = {"input": ("dy", "weight"), "weight": ("x", "dy")}.get(part, ("x", "weight"))
        return tuple(arrays[name] for name in names), {**params, **more}

    return made


def _windows(transposed: bool) -> Geometry:
    def made(heavy: HeavyTails) -> Any:
        rank = _between(heavy, 1, 2)
        kernel, stride, dilation = (
            tuple(heavy.rng.integers(1, 4, rank).tolist()) for _ in range(3)
        )
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        size = tuple(r + _between(heavy, 0, 3) for r in reach)
        lead = _shape(heavy, 0, 1)
        places = ((n - r) // s + 1 for n, r, s in zip(size, reach, stride, strict=True))
        params: dict[str, Any] = {"stride": stride, "dilation": dilation}
        if transposed:
            x = heavy.standard_normal((*lead, *kernel, *places))
            return (x,), params | {"shape": size}
        return (heavy.standard_normal((*lead, *size)),), params | {"kernel": kernel}

    return made


def _pool(inputs: str) -> Geometry:
    """Calls of pooling: ``inputs`` names its arrays, the input x and the cotangent g."""

    def made(heavy: HeavyTails) -> Any:
        rank = _between(heavy, 1, 2)
        kernel, stride, dilation = (
            tuple(heavy.rng.integers(1, 4, rank).tolist()) for _ in range(3)
        )
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple((_between(heavy, 0, k // 2), _between(heavy, 0, k // 2)) for k in kernel)
        size = tuple(r + _between(heavy, 0, 3) for r in reach)
        lead = _shape(heavy, 0, 1)
        padded = (n + sum(p) for n, p in zip(size, padding, strict=True))
        places = tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, stride, strict=True))
        arrays = {
            "x": heavy.standard_normal((*lead, *size)),
            "g": heavy.standard_normal((*lead, *places)),
        }
        params: dict[str, Any] = {"shape": size} if inputs == "g" else {}
        params |= {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        return tuple(arrays[name] for name in inputs), params

    return made


_SQUARE = "inv det logabsdet det_sign cofactor checker half_tril minors"
GEOMETRIES: dict[str, Geometry] = {
    "reshape": _one(
        lambda h, s: {"shape": ((*s, 1), (int(np.prod(s)),), s[::-1])[_between(h, 0, 2)]}
    ),
    "permute": _one(lambda h, s: {"axes": tuple(h.rng.permutation(len(s)).tolist())}),
    "broadcast_to": _one(lambda h, s: {"shape": tuple(4 if n == 1 else n for n in s)}),
    "flip": _one(lambda h, s: {"axis": _axes(h, s)}),
    "pad": _one(
        lambda h, s: {"widths": tuple(map(tuple, h.rng.integers(0, 4, (len(s), 2)).tolist()))}
    ),
    "slice": _one(lambda h, s: {"key": _key(h, s)}),
    "unslice": _unslice,
    "concatenate": _concatenate,
    "tril": _one(lambda h, s: {"k": _between(h, -3, 3)}, 2),
    "triu": _one(lambda h, s: {"k": _between(h, -3, 3)}, 2),
    "index": _index,
    "scatter": _scatter,
    "take": _take,
    "cumsum": _one(_axis, 1),
    "cumprod": _one(_axis, 1),
    "argsort": _one(_axis, 1),
    "sort": _one(_axis, 1),
    "argbest": _one(
        lambda h, s: {"k": _between(h, 0, min(s)), "largest": _between(h, 0, 1) > 0, **_axis(h, s)},
        1,
    ),
    "prod": _one(
        lambda h, s: {"axis": tuple(_axis(h, s).values()), "keepdims": h.rng.random() < 0.5}, 1
    ),
    "softmax": _one(_axis, 1),
    "log_softmax": _one(_axis, 1),
    "cross_entropy": _labelled,
    "softmax_minus_one_hot": _labelled,
    "unit_rms": _one(lambda h, s: {"axis": _axes(h, s), "eps": 0.01}, 1),
    "standardize": _one(lambda h, s: {"axis": _axes(h, s), "eps": 0.01}, 1),
    "matmul": _matmul,
    "linear": _linear,
    "einsum": _einsum,
    **dict.fromkeys(_SQUARE.split(), _square()),
    "join_minors": _join,
    "solve": _square(1),
    "cholesky": _positive_definite,
    "conv": _conv(""),
    "conv_input_grad": _conv("input"),
    "conv_weight_grad": _conv("weight"),
    "windows": _windows(False),
    "overlap_add": _windows(True),
    "max_pool": _pool("x"),
    "max_pool_grad": _pool("gx"),
    "sum_pool": _pool("x"),
    "sum_pool_grad": _pool("g"),
}  # fmt: skip
"""How the calls of these operations are drawn; the others follow from their records."""
