"""Wrong backwards of softmax, normalisation, attention, recurrent cells and layers."""

import numpy as np

from .case import Array, Case, Cause, logsumexp, normal, sigmoid, signed, softmax, softmax_vjp

_EPS = 1e-5


def _log_softmax(x: Array) -> Array:
    return x - logsumexp(x)[..., None]


def _normalise(x: Array, axis: int) -> tuple[Array, Array]:
    """The normalised x and 1/σ."""
    centred = x - x.mean(axis, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(axis, keepdims=True) + _EPS)
    return centred * inverse, inverse


def _normalise_vjp(g: Array, x: Array, axis: int) -> Array:
    hat, inverse = _normalise(x, axis)
    mean = g.mean(axis, keepdims=True)
    return inverse * (g - mean - hat * (g * hat).mean(axis, keepdims=True))


def _layer_norm(x: Array, w: Array, b: Array) -> Array:
    return _normalise(x, -1)[0] * w + b


def _layer_norm_right(g: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
    hat = _normalise(x, -1)[0]
    return _normalise_vjp(g * w, x, -1), (g * hat).sum(0), g.sum(0)


def _layer_norm_constants(g: Array, x: Array, w: Array, b: Array) -> tuple[Array, ...]:
    return (g * w * _normalise(x, -1)[1], *_layer_norm_right(g, x, w, b)[1:])


def _layer_norm_no_variance(g: Array, x: Array, w: Array, b: Array) -> tuple[Array, ...]:
    gw = g * w
    grad = _normalise(x, -1)[1] * (gw - gw.mean(-1, keepdims=True))
    return (grad, *_layer_norm_right(g, x, w, b)[1:])


def _batch_norm(x: Array, w: Array) -> Array:
    return _normalise(x, 0)[0] * w


def _batch_norm_right(g: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return _normalise_vjp(g * w, x, 0), (g * _normalise(x, 0)[0]).sum(0)


def _batch_norm_wrong_axis(g: Array, x: Array, w: Array) -> tuple[Array, Array]:
    (hat, inverse), gw = _normalise(x, 0), g * w
    grad = inverse * (gw - gw.mean(1, keepdims=True) - hat * (gw * hat).mean(1, keepdims=True))
    return grad, (g * hat).sum(0)


def _rms_norm(x: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True))


def _rms_norm_right(g: Array, x: Array) -> Array:
    y = _rms_norm(x)
    return (g - y * (g * y).mean(-1, keepdims=True)) * (y / x)


def _attention(q: Array, k: Array, v: Array) -> Array:
    return softmax(q @ k.T / np.sqrt(q.shape[1])) @ v


def _attention_grads(
    g: Array, q: Array, k: Array, v: Array, fault: str = ""
) -> tuple[Array, Array, Array]:
    scale = 1 / np.sqrt(q.shape[1])
    p = softmax(q @ k.T * scale)
    scores = softmax_vjp(g @ v.T, p) if fault != "no row sum" else p * (g @ v.T)
    grad_k = scores.T @ q * (1 if fault == "no scale" else scale)
    return scores @ k * scale, grad_k, (p if fault == "transposed" else p.T) @ g


def _rnn(x: Array, h: Array, w: Array, u: Array) -> Array:
    return np.tanh(x @ w + h @ u)


def _rnn_grads(g: Array, x: Array, h: Array, w: Array, u: Array, chain: bool) -> tuple[Array, ...]:
    z = g * (1 - _rnn(x, h, w, u) ** 2) if chain else g
    return z @ w.T, z @ u.T, x.T @ z, h.T @ z


def _unrolled(h: Array, u: Array) -> list[Array]:
    states = [h]
    for _ in range(3):
        states.append(np.tanh(states[-1] @ u))
    return states


def _unrolled_grads(g: Array, h: Array, u: Array, accumulate: bool) -> tuple[Array, Array]:
    states = _unrolled(h, u)
    grad_u = np.zeros_like(u)
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        z = g * (1 - after * after)
        grad_u = grad_u * accumulate + before.T @ z
        g = z @ u.T
    return g, grad_u


def _lstm_cell(gates: Array, c: Array) -> Array:
    """Gates i, f, n (B, 3, H) and the cell state c (B, H) give the next cell state."""
    return sigmoid(gates[:, 0]) * np.tanh(gates[:, 2]) + sigmoid(gates[:, 1]) * c


def _lstm_grads(g: Array, gates: Array, c: Array, forget_state: Array) -> tuple[Array, Array]:
    i, f, n = sigmoid(gates[:, 0]), sigmoid(gates[:, 1]), np.tanh(gates[:, 2])
    parts = (g * n * i * (1 - i), g * forget_state * f * (1 - f), g * i * (1 - n * n))
    return np.stack(parts, 1), g * f


def _gru_mix(z: Array, n: Array, h: Array) -> Array:
    return (1 - sigmoid(z)) * n + sigmoid(z) * h


def _gru_grads(g: Array, z: Array, n: Array, h: Array, past: bool) -> tuple[Array, ...]:
    s = sigmoid(z)
    return g * s * (1 - s) * (h * past - n), g * (1 - s), g * s


def _mlp(x: Array, w: Array, v: Array) -> Array:
    return np.maximum(x @ w, 0) @ v


def _mlp_grads(g: Array, x: Array, w: Array, v: Array, mask: bool) -> tuple[Array, ...]:
    z = x @ w
    grad_z = g @ v.T * ((z > 0) if mask else 1)
    return grad_z @ w.T, x.T @ grad_z, np.maximum(z, 0).T @ g


def _mlp_inputs(rng: np.random.Generator) -> list[Array]:
    """x @ w is x_i w_j with magnitudes of at least 0.25 and both signs: far from the kink."""
    x, w = signed((4, 1), (1, 6), low=0.5)(rng)
    return [x, w, rng.standard_normal((6, 2))]


NEURAL = (
    Case(
        "softmax with its diagonal only",
        softmax,
        lambda g, x: g * softmax(x) * (1 - softmax(x)),
        normal((3, 5)),
        Cause.MISSING_TERM,
        "numpy",
        "The Jacobian is diag(y) - y yᵀ; what lies off the diagonal is missing.",
        detail="off the diagonal",
        right=lambda g, x: softmax_vjp(g, softmax(x)),
    ),
    Case(
        "softmax of ones",
        softmax,
        lambda g, x: softmax_vjp(np.ones_like(g), softmax(x)),
        normal((3, 5)),
        Cause.ZERO,
        "torch.autograd.Function",
        "The rule is y (g - sum(g y)); with ones for g it is 0 everywhere.",
        also=(Cause.ONES_COTANGENT,),
        right=lambda g, x: softmax_vjp(g, softmax(x)),
    ),
    Case(
        "softmax summed over the batch",
        softmax,
        lambda g, x: softmax_vjp(g, softmax(x), axis=0),
        normal((4, 4)),
        Cause.WRONG_AXIS,
        "tinygrad record",
        "The sum of g y runs along the axis of the softmax, the last.",
        right=lambda g, x: softmax_vjp(g, softmax(x)),
    ),
    Case(
        "log-softmax for cotangents that add up to one",
        _log_softmax,
        lambda g, x: g - softmax(x),
        normal((3, 5)),
        Cause.NONLINEAR_IN_G,
        "jax.custom_vjp",
        "The rule is g - softmax(x) sum(g); right as the backward of a one-hot target only.",
        detail="not 0 at g = 0",
        also=(Cause.ONES_COTANGENT,),
        right=lambda g, x: g - softmax(x) * g.sum(-1, keepdims=True),
    ),
    Case(
        "log-softmax without its sum",
        _log_softmax,
        lambda g, x: g.copy(),
        normal((3, 5)),
        Cause.MISSING_TERM,
        "autograd.defvjp",
        "The rule is g - softmax(x) sum(g); right for cotangents of sum 0.",
        right=lambda g, x: g - softmax(x) * g.sum(-1, keepdims=True),
    ),
    Case(
        "layer norm with constant statistics",
        _layer_norm,
        _layer_norm_constants,
        normal((4, 5), (5,), (5,)),
        Cause.MISSING_TERM,
        "jax.custom_vjp",
        "Mean and variance depend on x: two terms are missing from its gradient.",
        detail="first argument",
        right=_layer_norm_right,
    ),
    Case(
        "layer norm without the variance term",
        _layer_norm,
        _layer_norm_no_variance,
        normal((4, 5), (5,), (5,)),
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "- x̂ mean(g w x̂)/σ is missing from the gradient of x.",
        detail="first argument",
        right=_layer_norm_right,
    ),
    Case(
        "RMS norm with a constant norm",
        _rms_norm,
        lambda g, x: g / np.sqrt((x * x).mean(-1, keepdims=True)),
        signed((3, 5)),
        Cause.MISSING_TERM,
        "tinygrad record",
        "The gradient is (g - y mean(g y))/rms.",
        right=_rms_norm_right,
    ),
    Case(
        "batch norm's weight gradient from x",
        _batch_norm,
        lambda g, x, w: (_batch_norm_right(g, x, w)[0], (g * x).sum(0)),
        lambda rng: [3 + 2 * rng.standard_normal((5, 3)), rng.uniform(0.5, 2, 3)],
        Cause.STALE_VALUE,
        "torch.autograd.Function",
        "The gradient of the weight is sum(g x̂), with the normalised x.",
        detail="x for x̂",
        right=_batch_norm_right,
    ),
    Case(
        "batch norm averaged over the features",
        _batch_norm,
        _batch_norm_wrong_axis,
        normal((4, 4), (4,)),
        Cause.WRONG_AXIS,
        "numpy",
        "The two means run over the batch, axis 0.",
        detail="first argument",
        right=_batch_norm_right,
    ),
    Case(
        "channel bias averaged over the pixels",
        lambda x, b: x + b[:, None, None],
        lambda g, x, b: (g.copy(), g.mean((2, 3)).sum(0)),
        normal((2, 3, 4, 5), (3,)),
        Cause.MEAN_VS_SUM,
        "torch.autograd.Function",
        "Each channel's bias reaches all pixels: sum over the batch and over both image axes.",
        detail="1/20",
        also=(Cause.FACTOR,),
        right=lambda g, x, b: (g.copy(), g.sum((0, 2, 3))),
    ),
    Case(
        "attention without the scale for the keys",
        _attention,
        lambda g, q, k, v: _attention_grads(g, q, k, v, "no scale"),
        normal((3, 4), (5, 4), (5, 2)),
        Cause.FACTOR,
        "numpy",
        "Scores are q kᵀ/√d, so the gradient of k has 1/√d = 1/2 as well.",
        detail="sqrt(d), second argument",
        right=_attention_grads,
    ),
    Case(
        "attention with untransposed weights for the values",
        _attention,
        lambda g, q, k, v: _attention_grads(g, q, k, v, "transposed"),
        normal((4, 3), (4, 3), (4, 3)),
        Cause.TRANSPOSED,
        "torch.autograd.Function",
        "The gradient of v is pᵀ g; with as many keys as queries the shapes agree.",
        detail="third argument",
        right=_attention_grads,
    ),
    Case(
        "attention without the softmax's row sum",
        _attention,
        lambda g, q, k, v: _attention_grads(g, q, k, v, "no row sum"),
        normal((3, 4), (5, 4), (5, 2)),
        Cause.MISSING_TERM,
        "tinygrad record",
        "The softmax passes p (u - sum(u p)); the sum is missing from q and k.",
        right=_attention_grads,
    ),
    Case(
        "RNN cell without the derivative of tanh",
        _rnn,
        lambda g, x, h, w, u: _rnn_grads(g, x, h, w, u, chain=False),
        normal((2, 3), (2, 4), (3, 4), (4, 4)),
        Cause.MISSING_CHAIN,
        "numpy",
        "g must be multiplied by 1 - y² before it reaches the products.",
        right=lambda g, x, h, w, u: _rnn_grads(g, x, h, w, u, chain=True),
    ),
    Case(
        "unrolled RNN keeps one step's weight gradient",
        lambda h, u: _unrolled(h, u)[-1],
        lambda g, h, u: _unrolled_grads(g, h, u, accumulate=False),
        normal((2, 4), (4, 4)),
        Cause.OVERWRITE,
        "numpy",
        "u is used at three steps: dU = was written for dU +=.",
        detail="second argument",
        also=(Cause.MISSING_TERM,),
        right=lambda g, h, u: _unrolled_grads(g, h, u, accumulate=True),
    ),
    Case(
        "LSTM's forget gate meets the new cell state",
        _lstm_cell,
        lambda g, gates, c: _lstm_grads(g, gates, c, _lstm_cell(gates, c)),
        normal((2, 3, 4), (2, 4)),
        Cause.STALE_VALUE,
        "numpy",
        "The forget gate's gradient is g c f (1 - f) with the old c; it was overwritten.",
        detail="new c for old c",
        right=lambda g, gates, c: _lstm_grads(g, gates, c, c),
    ),
    Case(
        "GRU's update gate forgets the past state",
        _gru_mix,
        lambda g, z, n, h: _gru_grads(g, z, n, h, past=False),
        normal((2, 4), (2, 4), (2, 4)),
        Cause.MISSING_TERM,
        "jax.custom_vjp",
        "The gate weighs two states: g s (1 - s)(h - n); h is missing.",
        detail="first argument",
        right=lambda g, z, n, h: _gru_grads(g, z, n, h, past=True),
    ),
    Case(
        "tied weights with one use overwritten",
        lambda x, w: np.tanh(x @ w) @ w.T,
        lambda g, x, w: (
            g @ w * (1 - np.tanh(x @ w) ** 2) @ w.T,
            x.T @ (g @ w * (1 - np.tanh(x @ w) ** 2)),
        ),
        normal((3, 4), (4, 2)),
        Cause.OVERWRITE,
        "tinygrad record",
        "w encodes and decodes: gᵀ tanh(x w) is missing from its gradient.",
        detail="second argument",
        also=(Cause.MISSING_TERM,),
        right=lambda g, x, w: (
            g @ w * (1 - np.tanh(x @ w) ** 2) @ w.T,
            x.T @ (g @ w * (1 - np.tanh(x @ w) ** 2)) + g.T @ np.tanh(x @ w),
        ),
    ),
    Case(
        "residual block without its skip",
        lambda x: x + np.sin(x),
        lambda g, x: g * np.cos(x),
        normal((3, 5)),
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "The gradient is g (1 + cos x): the skip connection's g is missing.",
        right=lambda g, x: g + g * np.cos(x),
    ),
    Case(
        "perceptron without the relu's mask",
        _mlp,
        lambda g, x, w, v: _mlp_grads(g, x, w, v, mask=False),
        _mlp_inputs,
        Cause.MISSING_CHAIN,
        "numpy",
        "g vᵀ must be masked where x w <= 0.",
        right=lambda g, x, w, v: _mlp_grads(g, x, w, v, mask=True),
    ),
)
