"""Model, loss and metrics tried on a few samples, so that what does not fit is found beforehand."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import DTypeError, ShapeError, TinygradError, ValueRangeError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.feed import Feed, ToModel
from tinygrad_ai.train.meter import counted
from tinygrad_ai.train.names import CLASS_LOSSES, PAIRED_LOSSES, Metric, ignored_label, is_one_of

PROBED = 2  # samples


def probe_model(trainer: Any, feed: Feed) -> tuple[Any, Any]:
    """The first targets of ``feed`` and what the model, in evaluation mode, makes of their inputs.

    Raises what the model raises, with the user's shapes before it, and DTypeError for a model that
    takes another number of inputs or gives no Tensor.
    """
    batch = next(iter(DataLoader(feed.dataset, PROBED)))
    inputs, target = ToModel(trainer.model)(batch)
    data = ", ".join(
        f"{name} {_of_all(feed, field)} {field.dtype}" for name, field in feed.inputs_of(batch)
    )
    try:
        inspect.signature(getattr(trainer.model, "forward", trainer.model)).bind(*inputs)
    except TypeError:
        raise DTypeError(
            f"{feed.caller}: the model does not take {len(inputs)} inputs: {data}",
            "   help: a tuple as x is several inputs; targets are given as y",
        ) from None
    with (
        trainer.mode(training=False),
        no_grad(),
        _blaming(
            f"{feed.caller}: the model cannot take {data}",
            f"   tried with {len(target)} of the {len(feed)} samples, which the first axis counts",
        ),
    ):
        output = trainer.model(*inputs)
    if not isinstance(output, Tensor) or not output.ndim:
        given = "a single number" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise DTypeError(
            f"{feed.caller}: the model must return one Tensor of a row a sample, not {given}"
        )
    return target, output


def probe(trainer: Any, feed: Feed) -> Any:
    """Tries everything that training or measuring on ``feed`` needs, and looks at all the data.

    Returns what the model makes of the first inputs. Raises ShapeError, DTypeError or
    ValueRangeError with the shapes of all the data.
    """
    with np.errstate(all="ignore"):  # what is too large is reported with its place, below
        target, output = probe_model(trainer, feed)
    y = "x" if feed.alone else "y"
    pair = f"the model's output {_of_all(feed, output)} and {y} {_of_all(feed, target)}"
    differ = output.shape != target.shape
    if feed.alone and differ and is_one_of(trainer.loss, CLASS_LOSSES + PAIRED_LOSSES):
        raise ValueRangeError(
            f"{feed.caller}: y is missing; x would be its own target, but {pair} differ in shape"
        )
    if differ and target.ndim and is_one_of(trainer.loss, PAIRED_LOSSES):
        raise ShapeError(
            f"{feed.caller}: {pair} differ in shape",
            f"   help: y.reshape{_of_all(feed, output)} pairs them one to one"
            if output.size == target.size
            else "",
        )
    feed.check(trainer.loss, output, ToModel(trainer.model).dtype)
    with (
        trainer.mode(training=False),
        no_grad(),
        _blaming(f"{feed.caller}: the loss cannot take {pair} {target.dtype}"),
    ):
        loss = trainer.loss(output, target)
    if not isinstance(loss, Tensor) or loss.size != 1:
        raise ShapeError(
            f"{feed.caller}: the loss must be one number, not {getattr(loss, 'shape', loss)}",
            "   help: return the mean over the batch",
        )
    if len(output) == len(target):
        _probe_metrics(trainer, feed, target.numpy(), output.numpy())
    return output


def _probe_metrics(trainer: Any, feed: Feed, target: Any, output: Any) -> None:
    """Computes each metric once; of all targets, with outputs repeated, where it needs them all."""
    ignored = ignored_label(trainer.loss)
    few = counted(target, output, ignored)
    if not all(metric.is_mean for metric in trainer.metrics.values()):
        target = feed.targets()
        output = output[np.arange(len(target)) % len(output)]
    every = counted(target, output, ignored)
    for name, metric in trainer.metrics.items():
        true, predicted = few if metric.is_mean else every
        if true.size:
            _probe_metric(feed.caller, name, metric, true, predicted)


def _probe_metric(caller: str, name: str, metric: Metric, true: Any, predicted: Any) -> None:
    try:
        inspect.signature(metric.function).bind(true, predicted)
    except TypeError as error:
        raise DTypeError(
            f"{caller}: metric {name!r} cannot be called with (y_true, y_pred): {error}"
        ) from None
    except ValueError:  # a function of C that does not tell
        pass
    with _blaming(f"{caller}: metric {name!r} cannot be computed"):
        value = metric.function(true, predicted)
    try:
        float(value)
    except (TypeError, ValueError):
        given = f"an array {value.shape}" if hasattr(value, "shape") else repr(value)
        raise DTypeError(f"{caller}: metric {name!r} must be one number, not {given}") from None


def _of_all(feed: Feed, part: Any) -> tuple[int, ...]:
    """The shape that ``part``, of a few samples, has for all of them."""
    return (len(feed), *part.shape[1:])


@contextmanager
def _blaming(what: str, note: str = "") -> Iterator[None]:
    """Puts ``what`` before the package's errors, and as a note under all others."""
    try:
        yield
    except TinygradError as error:
        notes = getattr(error, "__notes__", ())
        full = type(error)(f"{what}: {error}", *notes, note)
        raise full.with_traceback(error.__traceback__) from None
    except Exception as error:
        error.add_note(f"   {what}")
        raise
