"""What a case is, the vocabulary of causes, and the makers of inputs that the corpora share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]
Inputs = Callable[[np.random.Generator], list[Array]]
Domain = Literal["positive", "positive definite"] | tuple[float, float] | None
Idiom = Literal[
    "torch.autograd.Function", "jax.custom_vjp", "autograd.defvjp", "tinygrad record", "numpy"
]


class Cause(StrEnum):
    """The label that a good report names. `Case.detail` says more where there is more to say."""

    SIGN = "sign"  # a minus too many or too few, in one gradient or all
    FACTOR = "factor"  # a constant factor off; detail: the factor's origin
    MISSING_TERM = "missing_term"  # a sum of contributions lacks one
    TRANSPOSED = "transposed"  # the gradient, or an operator inside it, is transposed
    NO_UNBROADCAST = "no_unbroadcast"  # the sum over a broadcast axis is missing
    SWAPPED_ARGUMENTS = "swapped_arguments"  # two arguments' gradients are exchanged
    PERMUTATION_NOT_INVERTED = "permutation_not_inverted"  # flip, roll, permute, sort, shift
    OVERWRITE = "overwrite"  # contributions overwrite one another instead of adding up
    ONES_COTANGENT = "ones_cotangent"  # g ignored, or replaced by its sum or mean
    ABS_COTANGENT = "abs_cotangent"  # wrong for negative g only
    ZERO = "zero"  # a gradient is all zeros
    STALE_VALUE = "stale_value"  # evaluated at another value: y for x, saved after a change
    MISSING_CHAIN = "missing_chain"  # the derivative of an outer or inner function is missing
    REGION = "region"  # wrong only in a region of values or of positions; detail: which
    TIE = "tie"  # wrong only where values tie; all to one of them is a subgradient, not wrong
    LOW_PRECISION = "low_precision"  # float32 inside a float64 rule
    WRONG_AXIS = "wrong_axis"  # summed, normalised or expanded along another axis
    MEAN_VS_SUM = "mean_vs_sum"  # a mean where a sum is due, or the reverse
    SINGLE_ELEMENT = "single_element"  # wrong at one element of many
    NONLINEAR_IN_G = "nonlinear_in_g"  # not linear in the cotangent
    WRONG_DTYPE_OR_SHAPE = "wrong_dtype_or_shape"  # not the dtype or shape of the input
    MUTATES_INPUT = "mutates_input"  # changes an input or the cotangent
    ALIASING = "aliasing"  # results share memory with one another or with a later result
    RANDOM = "random"  # two calls give two results


@dataclass(frozen=True)
class Case:
    """A function with a backward written by hand, and where to check it.

    `f(*arrays)` gives an array, or a tuple of arrays; `vjp(g, *arrays)` gives one gradient an
    input (`g` is a tuple where `f` gives a tuple). Both are normalised here: NumPy scalars
    become 0-d arrays, a lone gradient a tuple of one. All inputs are floating arrays of `dtype`;
    indices, labels and masks are constants inside `f`.

    `cause` labels a wrong one and is None for a correct one; `also` lists labels that are
    equally right, because the same numbers follow from them. `domain` has one entry an input:
    where `f` is defined (an interval is open), None for everywhere. `right` is the right rule
    beside a wrong one, for the reader and for the tests of the corpus: no checker is shown it.
    """

    name: str
    f: Function
    vjp: Function
    inputs: Inputs
    cause: Cause | None
    idiom: Idiom
    note: str
    domain: tuple[Domain, ...] | None = None
    dtype: Literal["float64", "float32"] = "float64"
    detail: str = ""
    also: tuple[Cause, ...] = ()
    right: Function | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "f", _normalised(self.f, one=lambda y: y))
        object.__setattr__(self, "vjp", _normalised(self.vjp, one=lambda y: (y,)))
        if self.right is not None:
            object.__setattr__(self, "right", _normalised(self.right, one=lambda y: (y,)))


def _normalised(function: Function, one: Callable[[Array], Any]) -> Function:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        result = function(*args)
        if isinstance(result, tuple):
            return tuple(np.asarray(part) for part in result)
        return one(np.asarray(result))

    return call


def normal(*shapes: tuple[int, ...]) -> Inputs:
    """Standard normal arrays of these shapes."""
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def positive(*shapes: tuple[int, ...]) -> Inputs:
    """Uniform arrays in [0.5, 2)."""
    return lambda rng: [rng.uniform(0.5, 2, shape) for shape in shapes]


def signed(*shapes: tuple[int, ...], low: float = 0.1, high: float = 2) -> Inputs:
    """Magnitudes in [low, high), every other element (in a random order) negative."""

    def make(rng: np.random.Generator) -> list[Array]:
        return [_signed(rng, shape, low, high) for shape in shapes]

    return make


def _signed(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Array:
    count = int(np.prod(shape))
    signs = rng.permutation(np.where(np.arange(count) % 2, -1.0, 1.0)).reshape(shape)
    return signs * rng.uniform(low, high, shape)


def spaced(*shapes: tuple[int, ...]) -> Inputs:
    """A random order of 0, 0.3, 0.6, …: no two values tie or come near each other."""

    def make(rng: np.random.Generator) -> list[Array]:
        counts = [int(np.prod(shape)) for shape in shapes]
        return [
            0.3 * rng.permutation(count).reshape(shape).astype(float)
            for count, shape in zip(counts, shapes, strict=True)
        ]

    return make


def fixed(*arrays: Any, dtype: str = "float64") -> Inputs:
    """These very values, as fresh arrays each time."""
    return lambda rng: [np.array(array, dtype) for array in arrays]


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along an axis, shifted by the maximum."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def softmax_vjp(g: Array, y: Array, axis: int = -1) -> Array:
    """The gradient of a softmax whose value is y: y (g - sum(g y))."""
    return y * (g - (g * y).sum(axis, keepdims=True))


def logsumexp(x: Array, axis: int = -1) -> Array:
    """log(sum(exp(x))) along an axis, shifted by the maximum."""
    top = x.max(axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(x - top).sum(axis))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), through tanh so that nothing overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def windows(x: Array, size: int, stride: int = 1, axis: int = -1) -> Array:
    """Windows of `size` along an axis, `stride` apart; the new last axis runs within a window."""
    view = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    return view[(slice(None),) * (axis % x.ndim) + (slice(None, None, stride),)]


def scatter_add(shape: tuple[int, ...], index: Any, g: Array) -> Array:
    """Zeros of `shape` with `g` added at `index`, duplicates accumulated."""
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g)
    return out


def scatter_set(shape: tuple[int, ...], index: Any, g: Array) -> Array:
    """Zeros of `shape` with `g` written at `index`: of duplicates one survives."""
    out = np.zeros(shape, g.dtype)
    out[index] = g
    return out


def correct(
    name: str,
    f: Function,
    vjp: Function,
    inputs: Inputs,
    note: str,
    domain: tuple[Domain, ...] | None = None,
    dtype: Literal["float64", "float32"] = "float64",
) -> Case:
    """A case of the correct corpus: no cause, written in plain NumPy."""
    return Case(name, f, vjp, inputs, None, "numpy", note, domain, dtype)
