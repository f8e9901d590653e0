"""Random numbers that are the same for a seed on every backend.

The bits come from Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011), a counter-based generator: the state is a seed and a counter, and every draw starts at a
whole block of four words. Integers and uniform numbers are fixed functions of the bits; normal
ones use the Box-Muller transform in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import mode
from tinygrad_ai.backend import NUMPY, backend_for
from tinygrad_ai.dtypes import DEFAULT_FLOAT, check, probability, real
from tinygrad_ai.errors import (
    DTypeError,
    ValueRangeError,
    warn_user,
    whole_number,
)
from tinygrad_ai.ops.shapes import sizes
from tinygrad_ai.tensor import Tensor


class Generator:
    """A stream of random numbers: a seed and how many blocks have been drawn."""

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Start the stream of ``seed`` (an integer of at least 0) from its beginning."""
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueRangeError(f"a seed must be an integer of at least 0, not {seed!r}")
        self.seed = int(seed)
        self.blocks = 0
        self._philox = np.random.Philox(key=self.seed % 2**128)

    def words(self, n: int) -> np.ndarray[Any, Any]:
        """The next ``n`` random 64-bit words."""
        blocks = -(-n // 4)
        self.blocks += blocks
        return self._philox.random_raw(4 * blocks)[:n]

    def halves(self, n: int) -> np.ndarray[Any, Any]:
        """The next ``n`` random 32-bit words: the halves of 64-bit words, low half first."""
        return self.words(-(-n // 2)).astype("<u8", copy=False).view("<u4")[:n]

    def uniform(self, n: int, dtype: Any) -> np.ndarray[Any, Any]:
        """``n`` multiples of 2^-24 (float64: 2^-53; float16: 2^-11) in [0, 1)."""
        if dtype == np.float64:
            return (self.words(n) >> np.uint64(11)) * 2.0**-53
        if dtype == np.float16:
            return (self.halves(n) >> np.uint32(21)).astype(np.float16) * np.float16(2.0**-11)
        return (self.halves(n) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)

    def normal(self, n: int, dtype: Any) -> np.ndarray[Any, Any]:
        """``n`` standard normal numbers: √(-2 log u₁)·(cos, sin)(2πu₂), u₁ in (0, 1]."""
        u = self.uniform(2 * -(-n // 2), np.float64).reshape(2, -1)
        radius = np.sqrt(-2 * np.log(1 - u[0]))
        angle = 2 * math.pi * u[1]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n].astype(dtype)

    def integers(self, low: int, high: int, n: int) -> np.ndarray[Any, Any]:
        """``n`` integers in [low, high): the high part of word times range (bias < 2^-32)."""
        span = high - low
        if span <= 2**32:
            scaled = (self.words(n) >> np.uint64(32)) * np.uint64(span) >> np.uint64(32)
        else:
            scaled = self.words(n) % np.uint64(span)
        return scaled.astype(np.int64) + low

    def permutation(self, n: int) -> np.ndarray[Any, Any]:
        """The numbers 0 … n-1 in random order: the order that sorts random words."""
        return np.argsort(self.words(n), kind="stable")

    def state_dict(self) -> dict[str, int]:
        """Seed and position, from which the stream goes on exactly."""
        return {"seed": self.seed, "blocks": self.blocks}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.manual_seed(int(state["seed"]))
        self.blocks = int(state["blocks"])
        self._philox.advance(self.blocks)


_default = Generator()


def generator() -> Generator:
    """The generator from which the functions of this module draw."""
    return _default


def manual_seed(seed: int) -> None:
    """Start the default generator's stream of ``seed`` from its beginning.

    Raises GraphError in a compiled step, which goes on with the stream that there is.
    """
    if mode.capture is not None:
        mode.capture.refuse(
            "manual_seed",
            "call it before the step; every call draws on from where the last one ended",
        )
    _default.manual_seed(seed)


def _tensor(
    draw: Callable[[], np.ndarray[Any, Any]],
    shape: tuple[int, ...],
    device: str,
    requires_grad: bool = False,
) -> Tensor:
    """What ``draw()`` gives, in ``shape``; a captured step draws anew at every call."""
    if mode.one_of_many:
        warn_user("random numbers drawn inside vmap are the same for every example")

    def made() -> Any:
        return backend_for(device).asarray(draw().reshape(shape))

    tensor = Tensor.box(made() if mode.capture is None else mode.capture.draw(made))
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return sizes(shape[0] if len(shape) == 1 else shape)


def _float(dtype: Any) -> np.dtype[Any]:
    found = check(DEFAULT_FLOAT if dtype is None else dtype)
    if found.kind != "f":
        raise DTypeError(f"random real numbers need a floating-point dtype, not {found}")
    return found


def rand(
    *shape: Any, dtype: Any = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1) of the given shape: ``rand(2, 3)`` or ``rand((2, 3))``."""
    return uniform(0.0, 1.0, _shape(shape), dtype, device, requires_grad)


def randn(
    *shape: Any, dtype: Any = None, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers of the given shape: ``randn(2, 3)`` or ``randn((2, 3))``."""
    return normal(0.0, 1.0, _shape(shape), dtype, device, requires_grad)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Any = (),
    dtype: Any = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [low, high) of shape ``size``."""
    shape, kind = sizes(size), _float(dtype)
    first, end = real(low, "uniform: low"), real(high, "uniform: high")

    def draw() -> np.ndarray[Any, Any]:
        values = _default.uniform(math.prod(shape), kind)
        if (first, end) != (0.0, 1.0):
            values = (values * kind.type(end - first) + kind.type(first)).astype(kind)
            values[values == kind.type(end)] = np.nextafter(kind.type(end), kind.type(first))
        return values

    return _tensor(draw, shape, device, requires_grad)


def normal(
    loc: float = 0.0,
    scale: float = 1.0,
    size: Any = (),
    dtype: Any = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers with mean ``loc`` and standard deviation ``scale`` of shape ``size``."""
    centre, width = real(loc, "normal: loc"), real(scale, "normal: scale")
    if width < 0:
        raise ValueRangeError(f"normal: scale must not be negative, got {scale}")
    shape, kind = sizes(size), _float(dtype)

    def draw() -> np.ndarray[Any, Any]:
        values = _default.normal(math.prod(shape), np.float64) * width + centre
        return NUMPY.asarray(values, kind)

    return _tensor(draw, shape, device, requires_grad)


def randint(
    low: int, high: int | None = None, size: Any = (), dtype: Any = np.int64, device: str = "cpu"
) -> Tensor:
    """Integers in [low, high), or [0, low) without ``high``, of shape ``size``.

    Raises ValueRangeError for an empty range and for one that ``dtype`` cannot hold.
    """
    low, high = (0, low) if high is None else (low, high)
    kind = check(dtype)
    if kind.kind not in "iu":
        raise DTypeError(f"randint: dtype must be an integer dtype, not {kind}")
    held = np.iinfo(kind)
    first = whole_number("randint", "low", low, held.min)
    end = whole_number("randint", "high", high, held.min)
    if end <= first:
        raise ValueRangeError(f"randint: the range [{first}, {end}) is empty")
    if end - 1 > held.max:
        raise ValueRangeError(f"randint: {kind} holds numbers up to {held.max}, not {end - 1}")
    shape = sizes(size)
    draw = partial(_default.integers, first, end, math.prod(shape))
    return _tensor(lambda: draw().astype(kind), shape, device)


def bernoulli(p: float, size: Any = (), dtype: Any = None, device: str = "cpu") -> Tensor:
    """1 with probability ``p``, else 0, of shape ``size``; p is rounded to a multiple of 2^-32."""
    chance = probability(p, "bernoulli: p")
    shape = sizes(size)
    kind = check(DEFAULT_FLOAT if dtype is None else dtype)
    bound = np.uint64(round(chance * 2**32))
    return _tensor(lambda: (_default.halves(math.prod(shape)) < bound).astype(kind), shape, device)


def permutation(n: Any, device: str = "cpu") -> Tensor:
    """The integers 0 … n-1 in random order; an array or a list comes back with rows reordered."""
    if np.ndim(n):
        rows = n if isinstance(n, Tensor) else Tensor(n, device=device)
        draw = partial(_default.permutation, len(rows))
        return rows[_tensor(draw, (len(rows),), rows.device)]
    count = whole_number("permutation", "n", n, 0)
    return _tensor(partial(_default.permutation, count), (count,), device)
