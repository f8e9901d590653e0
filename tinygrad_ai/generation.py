"""Sequences made token by token: a model says what may come next, and one of it is chosen.

>>> model.eval()
>>> generation.generate(model, tokens, 200, choose=partial(generation.sample, temperature=0.8))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.creation import asarray
from tinygrad_ai.dtypes import real
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, whole_number
from tinygrad_ai.tensor import Tensor


def greedy(logits: Any) -> Tensor:
    """The token with the largest logit, the first of several: (..., vocab) → int64 (...).

    Raises the errors of :func:`sample` for its logits.
    """
    scores, device = _scores("greedy", logits)
    return Tensor(np.asarray(scores.argmax(-1)), device=device)


def sample(
    logits: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """A random token with probability softmax(logits/temperature): (..., vocab) → int64 (...).

    Args:
        logits: of the last step; -inf excludes a token.
        temperature: below 1 likely tokens become likelier still, above 1 all more alike.
        top_k: only the k likeliest tokens take part (of equal ones the first).
        top_p: only as many of the likeliest, of those that ``top_k`` leaves, as it takes for their
            probabilities to add up to ``top_p`` ("nucleus sampling", Holtzman et al., 2020).

    Draws one number in [0, 1) for each token from ``tinygrad_ai.random``; its seed fixes the
    tokens. Raises ValueRangeError for settings out of range, for logits that hold NaN or +inf and
    for none but -inf, ShapeError for an empty vocabulary, DTypeError for logits that are not real.
    """
    if not 0 < real(temperature, "sample: temperature") < np.inf:
        raise ValueRangeError(
            f"sample: temperature must be positive and finite, got {temperature}",
            "   help: greedy(logits) is the limit for temperature 0",
        )
    if top_p is not None and not 0 < real(top_p, "sample: top_p") <= 1:
        raise ValueRangeError(f"sample: top_p must lie in (0, 1], got {top_p}")
    kept = 0 if top_k is None else whole_number("sample", "top_k", top_k, 1)
    scores, device = _scores("sample", logits)
    order = np.argsort(-scores, axis=-1, kind="stable")
    ranked = np.take_along_axis(scores, order, -1)
    with np.errstate(over="ignore"):  # far below the largest is -inf, whatever the temperature
        shares = np.exp((ranked - ranked[..., :1]) / temperature)
    shares[..., kept or shares.shape[-1] :] = 0
    if top_p is not None:
        shares /= shares.sum(-1, keepdims=True)
        shares[shares.cumsum(-1) - shares >= top_p] = 0
    reached = shares.cumsum(-1)
    drawn = random.uniform(size=scores.shape[:-1], dtype=np.float64).numpy()
    place = (reached <= drawn[..., None] * reached[..., -1:]).sum(-1, keepdims=True)
    return Tensor(np.take_along_axis(order, place, -1).reshape(drawn.shape), device=device)


def _scores(name: str, logits: Any) -> tuple[np.ndarray[Any, Any], str]:
    """The logits in float64 on the host, checked, and the device they came from."""
    given = asarray(logits)
    if given.dtype.kind != "f":
        raise DTypeError(f"{name}: logits must be real numbers, not {given.dtype}")
    if given.ndim == 0 or given.shape[-1] == 0:
        raise ShapeError(
            f"{name}: logits must be (..., vocab) with a vocabulary, got {given.shape}"
        )
    scores = given.numpy().astype(np.float64)
    top = scores.max(-1)
    if not np.isfinite(top).all():
        row = tuple(map(int, np.argwhere(~np.isfinite(top))[0]))
        found = {np.inf: "+inf", -np.inf: "nothing but -inf"}.get(float(top[row]), "NaN")
        where = f" of row {', '.join(map(str, row))}" if row else ""
        raise ValueRangeError(f"{name}: the logits{where} hold {found}; no token can be chosen")
    return scores, given.device


def generate(
    step: Callable[..., Any],
    prompt: Any,
    length: int,
    choose: Callable[[Any], Any] = sample,
    *,
    stop: int | None = None,
    context: int | None = None,
    stateful: bool = False,
    state: Any = None,
) -> Tensor:
    """``prompt`` and up to ``length`` more tokens: int64 (batch, T + length), or without a batch.

    Args:
        step: a model or function from tokens (batch, T) to logits: those of the next token
            (batch, vocab), or of every step (batch, T, vocab), of which the last count. Call
            ``model.eval()`` before.
        prompt: integers (batch, T), or (T,) for one sequence; T ≥ 1.
        length: how many tokens to add.
        choose: from logits (batch, vocab) to tokens (batch,), e.g. :func:`greedy`, or
            ``partial(sample, temperature=0.8, top_k=40)``.
        stop: a token that ends its sequence; it is repeated until all sequences have ended, and
            then no more are added.
        context: ``step`` is given no more than so many of the latest tokens.
        stateful: ``step(tokens, state)`` returns (logits, state). It is given the prompt with
            ``state``, and from then on only the newest token (batch, 1) with its own last state.

    Gradients are not tracked. Raises DTypeError for tokens that are not integers, ShapeError for an
    empty prompt and for logits of another shape, and what ``choose`` raises.
    """
    start = asarray(prompt)
    if start.size == 0 or start.ndim not in (1, 2):
        raise ShapeError(
            f"generate: the prompt must be (T,) or (batch, T) with a token or more, got "
            f"{start.shape}"
        )
    if start.dtype.kind not in "iu":
        raise DTypeError(f"generate: tokens are integers, the prompt holds {start.dtype}")
    length = whole_number("generate", "length", length, 0)
    context = None if context is None else whole_number("generate", "context", context, 1)
    if stateful and context is not None:
        raise ValueRangeError("generate: context is for steps without a state, which see it whole")
    end = -1 if stop is None else whole_number("generate", "stop", stop, 0)
    tokens = np.atleast_2d(start.numpy()).astype(np.int64)
    ended = np.zeros(len(tokens), bool)
    seen = tokens
    with no_grad():
        for _ in range(length):
            given = Tensor(seen if context is None else seen[:, -context:], device=start.device)
            answer = step(given, state) if stateful else (step(given), None)
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise DTypeError(
                    f"generate: a stateful step must return (logits, state), not {_kind(answer)}"
                )
            logits, state = answer
            chosen = np.where(ended, end, _chosen(choose, logits, given.shape))
            tokens = np.concatenate([tokens, chosen[:, None]], 1)
            seen = chosen[:, None] if stateful else tokens
            ended |= chosen == end
            if ended.all():
                break
    return Tensor(tokens[0] if start.ndim == 1 else tokens, device=start.device)


def _chosen(choose: Callable[[Any], Any], logits: Any, given: tuple[int, ...]) -> Any:
    """What ``choose`` makes of the last step's logits: an array (batch,)."""
    if not hasattr(logits, "shape"):
        raise DTypeError(
            f"generate: step must return logits, not {_kind(logits)}",
            "   help: stateful=True is for steps that return (logits, state)",
        )
    last = logits[:, -1] if logits.ndim == 3 and logits.shape[1] else logits
    if last.ndim != 2 or last.shape[0] != given[0]:
        raise ShapeError(
            "generate: step must return logits (batch, vocab) or (batch, T, vocab), got "
            f"{tuple(logits.shape)} for tokens {given}"
        )
    chosen = np.asarray(choose(last))
    if chosen.shape != given[:1] or chosen.dtype.kind not in "iu":
        raise ShapeError(
            f"generate: choose must return integers of shape {given[:1]}, got {chosen.dtype} "
            f"{chosen.shape}"
        )
    return chosen.astype(np.int64)


def _kind(value: Any) -> str:
    return type(value).__name__
