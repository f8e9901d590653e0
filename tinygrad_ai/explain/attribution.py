"""Why did the model say that: the share of each pixel or word in an output.

``inputs`` are numbers (pictures, features), or whole numbers: tokens, whose shares are found in the
space of the model's embedding and added up over its features. The model is called in evaluation
mode, and neither its modes nor the gradients of its parameters are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.errors import (
    DTypeError,
    GraphError,
    ShapeError,
    ValueRangeError,
    warn_user,
    whole_number,
)
from tinygrad_ai.nn import Embedding, Module
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.terminal import Terminal
from tinygrad_ai.transforms import vjp

__all__ = ["Attribution", "input_gradients", "integrated_gradients", "paint_words"]

Array: TypeAlias = np.ndarray[Any, Any]
INEXACT = 0.05  # of the sum of the shares' sizes: a larger residual is warned of
WEAK, STRONG = 0.15, 0.5  # of the largest share: from here on a word is coloured, and bold


@dataclass(frozen=True)
class Attribution:
    """The shares of the inputs in the difference between two outputs.

    Args:
        values: the shares, float64 of the shape of the inputs; one for each token, (N, T).
        target: int64 (N,), the class whose score is explained; 0 where there is one score.
        output: float64 (N,), that score.
        baseline_output: float64 (N,), the same at the baseline.
    """

    values: Array
    target: Array
    output: Array
    baseline_output: Array

    @property
    def residual(self) -> Array:
        """(N,): what the shares add up to beyond the difference of the outputs; ideally 0."""
        return _by_sample(self.values).sum(axis=1) - (self.output - self.baseline_output)


def input_gradients(
    model: Callable[..., Any],
    inputs: Any,
    target: Any = None,
    embedding: Module | str | None = None,
    batch_size: int = 128,
) -> Array:
    """The gradient of a score with respect to the inputs (Simonyan et al. 2014), float64 (N, …).

    A token has no gradient: its value is that with respect to its embedding, times the embedding,
    summed over the features, (N, T). Arguments and errors as for :func:`integrated_gradients`.
    """
    with _evaluating(model):
        f = _Scores(model, inputs, embedding, batch_size)
        rows = np.arange(len(f.point))
        wanted = _targets(target, f.at(f.point))
        slopes = [f.slopes(part, f.point[part], wanted) for part in f.parts(rows)]
    found = np.concatenate(slopes)
    return found if f.table is None else (found * f.point).sum(axis=-1)


def integrated_gradients(
    model: Callable[..., Any],
    inputs: Any,
    target: Any = None,
    baseline: Any = 0.0,
    embedding: Module | str | None = None,
    steps: int = 32,
    batch_size: int = 128,
) -> Attribution:
    """The shares of the inputs in f(x) - f(b), b the baseline (Sundararajan et al. 2017).

    (x - b)·∫₀¹ ∇f(b + t·(x - b)) dt, the integral by the rule of Gauss and Legendre, which is exact
    where the gradient is a polynomial in t of a degree below 2·steps. So the shares add up to the
    difference of the scores, but for :attr:`Attribution.residual`.

    Args:
        model: a Module, or a function on Tensors, whose rows do not depend on each other. It gives
            scores (N, C), or one a sample, (N,) or (N, 1); logits, because probabilities saturate.
        inputs: Tensor or array of numbers (N, …), or of tokens (N, T); a tuple is several inputs,
            of which the first is explained.
        target: the class, or one for each sample, (N,); by default the one with the highest score.
        baseline: what stands for "nothing there", broadcast to the inputs; for tokens other tokens,
            or numbers in the space of the embedding. 0.0 is black, and the embedding of no word.
        embedding: the module that looks up tokens, or its path in the model; by default the only
            ``nn.Embedding`` in it.
        steps: points of the path; each is a forward and a backward pass.
        batch_size: points, of all samples and steps, that the model is given at once.

    Raises ShapeError, DTypeError or ValueRangeError for arguments that do not fit, GraphError where
    the model does not call its embedding. Warns where the residual is more than 5 % of the sum of
    the shares' sizes.
    """
    whole_number("integrated_gradients", "steps", steps, least=1)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    with _evaluating(model):
        f = _Scores(model, inputs, embedding, batch_size)
        start = f.baseline(baseline)
        away = f.point - start
        scores = f.at(f.point)
        wanted = _targets(target, scores)
        integral = np.zeros(f.point.shape)
        for part in f.parts(np.arange(len(f.point) * steps)):
            rows, step = np.divmod(part, steps)
            path = start[rows] + _column((nodes[step] + 1) / 2, away) * away[rows]
            slopes = f.slopes(rows, path, wanted)
            np.add.at(integral, rows, _column(weights[step] / 2, away) * slopes)
        values = integral * away if f.table is None else (integral * away).sum(axis=-1)
        rows = np.arange(len(wanted))
        found = Attribution(values, wanted, scores[rows, wanted], f.at(start)[rows, wanted])
    sizes = np.abs(_by_sample(values)).sum(axis=1)
    worst = int((np.abs(found.residual) - INEXACT * sizes).argmax())
    if abs(found.residual[worst]) > INEXACT * sizes[worst]:
        warn_user(
            f"integrated_gradients: the shares of sample {worst} miss the difference of its scores "
            f"by {found.residual[worst]:.3g}, and their sizes add up to {sizes[worst]:.3g}; more "
            f"than {steps} steps come closer, unless the score jumps"
        )
    return found


def paint_words(words: Sequence[str], values: Any, terminal: Terminal) -> list[str]:
    """``words`` in lines, those whose share matters in colour: green for the score, red against it.

    ``values`` are the words' shares, (T,). Words of half the largest share and more are bold. A
    terminal without colours shows signs: ``wonderful[++]``, ``dull[-]``. Raises ShapeError unless
    there is one value for each word.
    """
    shares = np.asarray(values, dtype=float)
    if shares.shape != (len(words),):
        raise ShapeError(f"paint_words: values {shares.shape} for {len(words)} words")
    largest = np.abs(shares).max(initial=0) or 1.0
    lines: list[list[str]] = [[]]
    room = terminal.columns
    for word, share in zip(words, shares / largest, strict=True):
        shown = word if terminal.colours else word + _signs(share)
        if lines[-1] and len(shown) > room:
            lines.append([])
            room = terminal.columns
        room -= len(shown) + 1
        lines[-1].append(_painted(shown, share, terminal))
    return [" ".join(line) for line in lines]


def _signs(share: float) -> str:
    sign = "+" if share > 0 else "-"
    return f"[{sign * (1 + (abs(share) >= STRONG))}]" if abs(share) >= WEAK else ""


def _painted(word: str, share: float, terminal: Terminal) -> str:
    if abs(share) < WEAK:
        return word
    painted = terminal.paint(word, "green" if share > 0 else "red")
    return terminal.paint(painted, "bold") if abs(share) >= STRONG else painted


# ---------------------------------------------------------------------------------- the function


class _Scores:
    """A model as a function of ``point``, numbers (N, …): its inputs, or their embeddings."""

    def __init__(
        self, model: Any, inputs: Any, embedding: Module | str | None, batch_size: int
    ) -> None:
        self.model = model
        self.batch_size = whole_number("attributions", "batch_size", batch_size, least=1)
        self.inputs = [_array("inputs", part) for part in _listed(inputs)]
        first, *others = self.inputs
        if not first.ndim or not first.size or any(p.shape[:1] != first.shape[:1] for p in others):
            shapes = ", ".join(str(part.shape) for part in self.inputs)
            raise ShapeError(
                f"attributions: inputs are (N, …) with at least one sample, not {shapes}"
            )
        parameters = list(model.parameters()) if isinstance(model, Module) else []
        floats = [p for p in parameters if p.dtype.kind == "f"]
        self.device = floats[0].device if floats else "cpu"
        self.dtype = floats[0].dtype if floats else np.result_type(first, np.float32)
        self.table = _table(model, embedding) if first.dtype.kind in "iu" else None
        if self.table is None and embedding is not None:
            raise DTypeError(f"attributions: an embedding takes whole numbers, not {first.dtype}")
        self.point = first if self.table is None else self.embedded(first)

    def __call__(self, rows: Array, point: Any) -> Any:
        """The scores (n, C) of the samples ``rows`` with ``point`` in the place of their input."""
        given = [Tensor(part[rows], device=self.device) for part in self.inputs]
        if self.table is None:
            y = self.model(point, *given[1:])
        else:
            with _replaced(self.table, given[0].shape, point):
                y = self.model(*given)
        if not isinstance(y, Tensor) or y.ndim not in (1, 2) or len(y) != len(rows):
            raise ShapeError(
                f"attributions: the model must give ({len(rows)}, classes) scores for {len(rows)} "
                f"samples, not {getattr(y, 'shape', type(y).__name__)}"
            )
        return y.reshape(len(rows), -1)

    def tensor(self, point: Array) -> Tensor:
        return Tensor(point, dtype=self.dtype, device=self.device)

    def parts(self, rows: Array) -> Iterator[Array]:
        """``rows`` in pieces of at most ``batch_size``."""
        return (rows[k : k + self.batch_size] for k in range(0, len(rows), self.batch_size))

    def at(self, point: Array) -> Array:
        """The scores of all samples, float64 (N, C)."""
        with no_grad():
            parts = self.parts(np.arange(len(point)))
            found = [self(rows, self.tensor(point[rows])).numpy() for rows in parts]
        return np.concatenate(found).astype(float)

    def slopes(self, rows: Array, point: Array, target: Array) -> Array:
        """∂ score of the target / ∂ ``point`` for the samples ``rows``, float64 (n, …)."""
        with no_grad():  # the pullback would be recorded for the model's parameters otherwise
            y, pullback = vjp(lambda p: self(rows, p), self.tensor(point))
            one = np.arange(y.shape[1]) == target[rows][:, None]
            return pullback(Tensor(one, dtype=y.dtype, device=y.device)).numpy().astype(float)

    def embedded(self, tokens: Array) -> Array:
        """The embeddings (N, T, features) of tokens."""
        assert self.table is not None
        with no_grad():
            return self.table(Tensor(tokens, device=self.device)).numpy().astype(float)

    def baseline(self, wanted: Any) -> Array:
        """The point that ``wanted`` stands for."""
        given = _array("baseline", wanted)
        is_tokens = self.table is not None and given.dtype.kind in "iu"
        of = self.inputs[0] if is_tokens else self.point
        try:
            whole = np.broadcast_to(given, of.shape)
        except ValueError:
            kind = "inputs" if self.table is None or is_tokens else "the inputs' embeddings"
            raise ShapeError(
                f"integrated_gradients: baseline {given.shape} does not broadcast to {kind} "
                f"{of.shape}"
            ) from None
        return self.embedded(whole) if is_tokens else whole.astype(float)


def _targets(wanted: Any, scores: Array) -> Array:
    """A class for each row of ``scores`` (N, C), int64 (N,)."""
    if wanted is None:
        return scores.argmax(axis=1)
    given, (n, classes) = _array("target", wanted), scores.shape
    if given.dtype.kind not in "iu":
        raise DTypeError(f"attributions: target must be class numbers, not {given.dtype}")
    if given.shape not in ((), (n,)):
        raise ShapeError(f"attributions: target {given.shape} for {n} samples")
    if given.size and not 0 <= given.min() <= given.max() < classes:
        counted = f"{classes} classes" if classes > 1 else "one score, whose target is 0 or None"
        wrong = given.min() if given.min() < 0 else given.max()
        raise ValueRangeError(f"attributions: target {wrong}, but the model has {counted}")
    return np.broadcast_to(given, (n,)).astype(np.int64)


def _table(model: Any, wanted: Module | str | None) -> Module:
    """The module that looks up the tokens."""
    if isinstance(wanted, Module):
        return wanted
    modules = dict(model.named_modules()) if isinstance(model, Module) else {}
    tables = [path for path, module in modules.items() if isinstance(module, Embedding)]
    path = tables[0] if wanted is None and len(tables) == 1 else wanted
    if path is None:
        found = f"{len(tables)}: {', '.join(tables)}" if tables else "none"
        raise ValueRangeError(
            f"attributions: inputs are whole numbers, so one nn.Embedding is needed, there are "
            f"{found}",
            "   help: embedding= names the one that looks up the tokens"
            if tables
            else "   help: inputs of another kind are floats: x.astype('float32')",
        )
    if path not in modules:
        raise ValueRangeError(
            f"attributions: the model has no module {path!r}",
            f"   help: its embeddings are {', '.join(map(repr, tables))}" if tables else "",
        )
    return modules[path]


@contextmanager
def _replaced(table: Module, shape: tuple[int, ...], point: Any) -> Iterator[None]:
    """Within it ``table`` returns ``point`` for whatever tokens of that shape."""
    called = []

    def forward(tokens: Any) -> Any:
        called.append(tokens)
        if tokens.shape != shape:
            raise ShapeError(
                f"attributions: the embedding is given {tokens.shape}, the model's input is {shape}"
            )
        return point

    object.__setattr__(table, "forward", forward)
    try:
        yield
    finally:
        object.__delattr__(table, "forward")
    if not called:
        raise GraphError(f"attributions: the model does not call its {type(table).__name__}")


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Within it the modules are in evaluation mode; afterwards each is in its own again."""
    if not callable(model) or isinstance(model, type):
        raise DTypeError(f"attributions: the model cannot be called: {model!r}")
    before = [(m, m.training) for m in model.modules()] if isinstance(model, Module) else []
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


# -------------------------------------------------------------------------------------- arrays


def _listed(inputs: Any) -> Sequence[Any]:
    listed = inputs if isinstance(inputs, tuple) else (inputs,)
    if not listed:
        raise ShapeError("attributions: there are no inputs")
    return listed


def _array(name: str, data: Any) -> Array:
    try:
        array = data.numpy() if isinstance(data, Tensor) else np.asarray(data)
    except ValueError as error:  # rows of several lengths
        raise DTypeError(f"attributions: {name} cannot be made an array: {error}") from None
    if array.dtype.kind not in "iuf":
        raise DTypeError(f"attributions: {name} must hold numbers, not {array.dtype}")
    return array


def _column(row: Array, like: Array) -> Array:
    """(n,) as (n, 1, …), with as many axes as ``like``."""
    return row.reshape(-1, *(1,) * (like.ndim - 1))


def _by_sample(values: Array) -> Array:
    return values.reshape(len(values), -1)
