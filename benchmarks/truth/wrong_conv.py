"""Wrong backwards of convolution and pooling."""

import numpy as np

from .case import Array, Case, Cause, normal, scatter_add, scatter_set, windows


def _conv1d(x: Array, w: Array) -> Array:
    """Correlation, no padding: x (B, C, L), w (D, C, K) -> (B, D, L - K + 1)."""
    return np.einsum("bcok,dck->bdo", windows(x, w.shape[-1]), w)


def _conv1d_x(g: Array, w: Array, length: int) -> Array:
    grad = np.zeros((g.shape[0], w.shape[1], length))
    for k in range(w.shape[-1]):
        grad[:, :, k : k + g.shape[-1]] += np.einsum("bdo,dc->bco", g, w[:, :, k])
    return grad


def _conv1d_w(g: Array, x: Array) -> Array:
    return np.einsum("bdo,bcko->dck", g, windows(x, g.shape[-1]))


def _patches(x: Array, size: int, stride: int = 1) -> Array:
    """(…, H, W) -> (…, H', W', size, size)."""
    rows = windows(x, size, stride, axis=-2)  # (…, H', W, size): W is the axis before the last
    return windows(rows, size, stride, axis=-2)


def _conv2d(x: Array, w: Array, stride: int = 1) -> Array:
    return np.einsum("bchwij,dcij->bdhw", _patches(x, w.shape[-1], stride), w)


def _conv2d_x(g: Array, w: Array, shape: tuple[int, ...], stride: int = 1) -> Array:
    grad = np.zeros(shape)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            rows = slice(i, i + stride * g.shape[2], stride)
            columns = slice(j, j + stride * g.shape[3], stride)
            grad[:, :, rows, columns] += np.einsum("bdhw,dc->bchw", g, w[:, :, i, j])
    return grad


def _conv2d_w(g: Array, x: Array, size: int, stride: int = 1) -> Array:
    return np.einsum("bdhw,bchwij->dcij", g, _patches(x, size, stride))


def _last_column_lost(g: Array, x: Array, w: Array) -> tuple[Array, Array]:
    grad = _conv2d_x(g, w, x.shape, 2)
    grad[..., -1] = 0
    return grad, _conv2d_w(g, x, 3, 2)


def _same(x: Array, w: Array) -> Array:
    return np.einsum("lk,k->l", windows(np.pad(x, 1), 3), w)


def _same_grads(g: Array, x: Array, w: Array, first: int) -> tuple[Array, Array]:
    padded = np.zeros(x.size + 2)
    for k in range(3):
        padded[k : k + g.size] += g * w[k]
    return padded[first : first + x.size].copy(), windows(np.pad(x, 1), 3).T @ g


def _max_pool_positions(x: Array) -> Array:
    """Windows of 3, 2 apart: the index in x of each window's maximum."""
    return np.argmax(windows(x, 3, 2), -1) + 2 * np.arange(3)


def _overlapping(rng: np.random.Generator) -> list[Array]:
    return [np.array([0.1, 0.5, 2.0, 0.3, 1.0, 0.2, 0.6]) + rng.uniform(0, 0.1, 7)]


def _tied_windows(rng: np.random.Generator) -> list[Array]:
    x = rng.uniform(-1, 1, 6)
    x[:2] = 0
    return [x]


def _pool_tie(g: Array, x: Array, share: bool) -> Array:
    tiles = x.reshape(3, 2)
    mask = (tiles == tiles.max(1, keepdims=True)).astype(float)
    return (g[:, None] * (mask / mask.sum(1, keepdims=True) if share else mask)).ravel()


CONVOLUTION = (
    Case(
        "conv1d weight gradient flipped",
        _conv1d,
        lambda g, x, w: (_conv1d_x(g, w, x.shape[-1]), _conv1d_w(g, x)[..., ::-1].copy()),
        normal((2, 2, 7), (3, 2, 3)),
        Cause.PERMUTATION_NOT_INVERTED,
        "numpy",
        "The forward is a correlation: the weight gradient is not flipped.",
        detail="flip",
        right=lambda g, x, w: (_conv1d_x(g, w, 7), _conv1d_w(g, x)),
    ),
    Case(
        "conv1d input gradient with an unflipped kernel",
        _conv1d,
        lambda g, x, w: (_conv1d_x(g, w[..., ::-1], x.shape[-1]), _conv1d_w(g, x)),
        normal((2, 2, 7), (3, 2, 3)),
        Cause.PERMUTATION_NOT_INVERTED,
        "torch.autograd.Function",
        "The input gradient is a full convolution: right here for symmetric kernels only.",
        detail="flip",
        right=lambda g, x, w: (_conv1d_x(g, w, 7), _conv1d_w(g, x)),
    ),
    Case(
        "conv1d with padding cropped one off",
        _same,
        lambda g, x, w: _same_grads(g, x, w, first=0),
        normal((7,), (3,)),
        Cause.PERMUTATION_NOT_INVERTED,
        "jax.custom_vjp",
        "The padding of 1 is cropped on both sides; the gradient is shifted by 1.",
        detail="shift",
        right=lambda g, x, w: _same_grads(g, x, w, first=1),
    ),
    Case(
        "conv2d with the weight gradient transposed",
        _conv2d,
        lambda g, x, w: (
            _conv2d_x(g, w, x.shape),
            np.swapaxes(_conv2d_w(g, x, 3), 2, 3).copy(),
        ),
        normal((1, 2, 5, 6), (2, 2, 3, 3)),
        Cause.TRANSPOSED,
        "torch.autograd.Function",
        "Rows and columns of each kernel are exchanged.",
        detail="second argument",
        right=lambda g, x, w: (_conv2d_x(g, w, x.shape), _conv2d_w(g, x, 3)),
    ),
    Case(
        "strided conv2d loses the last column",
        lambda x, w: _conv2d(x, w, 2),
        _last_column_lost,
        normal((1, 1, 7, 7), (2, 1, 3, 3)),
        Cause.REGION,
        "tinygrad record",
        "With stride 2, 7 columns and a kernel of 3 the last column is reached.",
        detail="last column",
        right=lambda g, x, w: (_conv2d_x(g, w, x.shape, 2), _conv2d_w(g, x, 3, 2)),
    ),
    Case(
        "average pooling without its divisor",
        lambda x: x.reshape(3, 2, 4, 2).mean((1, 3)),
        lambda g, x: g.repeat(2, 0).repeat(2, 1),
        normal((6, 8)),
        Cause.FACTOR,
        "torch.autograd.Function",
        "Each of the four elements of a window gets g/4.",
        detail="window size",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x: g.repeat(2, 0).repeat(2, 1) / 4,
    ),
    Case(
        "overlapping max pooling overwrites",
        lambda x: windows(x, 3, 2).max(-1),
        lambda g, x: scatter_set(x.shape, _max_pool_positions(x), g),
        _overlapping,
        Cause.OVERWRITE,
        "numpy",
        "x[2] and x[4] may be the maximum of two windows: their cotangents add up.",
        right=lambda g, x: scatter_add(x.shape, _max_pool_positions(x), g),
    ),
    Case(
        "max pooling gives g to every tie",
        lambda x: x.reshape(3, 2).max(1),
        lambda g, x: _pool_tie(g, x, share=False),
        _tied_windows,
        Cause.TIE,
        "autograd.defvjp",
        "The first window is [0, 0], as after a relu; its gradients must add up to g.",
        right=lambda g, x: _pool_tie(g, x, share=True),
    ),
    Case(
        "max pooling one place off",
        lambda x: x.reshape(4, 3).max(1),
        lambda g, x: np.where(np.arange(12) % 3 == 1, g.repeat(3), 0),
        lambda rng: [0.3 * np.arange(12) + rng.uniform(0, 0.2, 12)],
        Cause.PERMUTATION_NOT_INVERTED,
        "tinygrad record",
        "g goes to each window's maximum, here its last place; it lands one place before.",
        detail="shift",
        right=lambda g, x: scatter_set(
            x.shape, np.argmax(x.reshape(4, 3), 1) + 3 * np.arange(4), g
        ),
    ),
)
