"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.errors import AnomalyError, DTypeError, whole_number
from tinygrad_ai.train.callbacks import Callback, Logs, Plan
from tinygrad_ai.train.feed import Feed, ToModel, validated
from tinygrad_ai.train.history import History
from tinygrad_ai.train.meter import Meter
from tinygrad_ai.train.names import ignored_label, loss_of, metrics_of, optimizer_of
from tinygrad_ai.train.probe import probe, probe_model
from tinygrad_ai.train.progress import Progress
from tinygrad_ai.transforms import detect_anomaly


class Trainer:
    """Fits a model to data, and measures it.

    Args:
        model: an ``nn.Module``; it is called with the input(s) of a batch.
        loss: a name ("cross_entropy", "mse", "bce_with_logits"…) or a callable
            ``(output, target) -> scalar Tensor``, the mean over the batch.
        optimizer: a name ("adam", "sgd"…, with its default learning rate), an optimiser over the
            model's parameters, or a class or function that makes one from them.
        metrics: names ("accuracy", "f1_score"…) or callables ``(y_true, y_pred) -> float`` on
            arrays; or a dict that names them.
        jit: compile the training step; until there is a compiler it runs eagerly.
        debug: run eagerly whatever ``jit`` says, so that print and a debugger work, and stop at
            the first operation that makes a NaN or an infinity.

    Floating-point data are cast to the dtype of the model's parameters. Raises ValueRangeError for
    an unknown name and for an optimiser over the parameters of something else, DTypeError for what
    is no model.
    """

    def __init__(
        self,
        model: Any,
        loss: str | Callable[..., Any],
        optimizer: Any,
        metrics: Iterable[str | Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
        jit: bool = True,
        debug: bool = False,
    ) -> None:
        if isinstance(model, type) or not hasattr(model, "parameters") or not callable(model):
            is_class = isinstance(model, type)
            given = f"the class {model.__name__}" if is_class else f"a {type(model).__name__}"
            raise DTypeError(
                f"Trainer: model must be an nn.Module, not {given}",
                f"   help: {model.__name__}(…) makes one" if is_class else "",
            )
        self.model = model
        self.loss = loss_of(loss)
        self.optimizer = optimizer_of(optimizer, model, self.loss)
        self.metrics = metrics_of(metrics, self.loss)
        self.jit = jit
        self.debug = debug
        self.stop_training = False
        self.history = History()

    # ---------------------------------------------------------------------------------- public

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback] = (),
        progress: bool = True,
        seed: int | None = None,
    ) -> History:
        """Trains for ``epochs`` passes over the samples and returns what was measured.

        ``x``, ``y``: arrays or Tensors, samples first (a tuple ``x`` is several inputs); or a
        Dataset or DataLoader of ``(*inputs, target)`` without ``y``, a DataLoader in its own
        batches and order. Arrays without ``y`` are their own target: an autoencoder.
        ``validation_split`` holds back that share of the samples, the last ones, before shuffling;
        ``validation_data`` is ``(x, y)``, a Dataset or a DataLoader. ``seed`` fixes the order and
        the random numbers of the model: the same bits for the same seed, weights and data.

        The loss and metrics of an epoch are means over its samples while the model learns. Ctrl-C
        ends training: what was done until then is returned with ``interrupted`` set.

        Raises ValueRangeError, ShapeError or DTypeError for arguments, data or labels that do not
        fit, before anything is trained; AnomalyError when the loss is no longer finite.
        """
        whole_number("fit", "epochs", epochs, least=1)
        whole_number("fit", "batch_size", batch_size, least=1)
        active = [*_listed(callbacks), *([Progress()] if progress else [])]
        feed, held = validated(Feed("fit", x, y), validation_split, validation_data)
        for part in (feed, held):
            if part is not None:
                probe(self, part)
        if seed is not None:
            random.manual_seed(whole_number("fit", "seed", seed, least=0))
        order = random.generator().integers(0, 2**62, 1)[0] if seed is None else seed
        batches = feed.batches(batch_size, shuffle, int(order))

        self.history, self.stop_training = History(), False
        names = ("loss", *self.metrics)
        names += tuple(f"val_{name}" for name in names) if held else ()
        running = tuple(Meter(self.metrics).sums)
        for callback in active:
            callback.trainer = self
            callback.plan = Plan(epochs, len(batches), len(feed), names, running)
            callback.on_train_begin()
        try:
            for epoch in range(1, epochs + 1):
                logs = self._epoch(epoch, batches, held, active)
                self.history.add(epoch, logs)
                if self.stop_training:
                    break
        except KeyboardInterrupt:
            self.history.interrupted = True
        finally:
            for callback in active:
                callback.on_train_end()
        return self.history

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics over the samples, the model in evaluation mode.

        Data as for :meth:`fit`, and the same errors.
        """
        whole_number("evaluate", "batch_size", batch_size, least=1)
        feed = Feed("evaluate", x, y)
        probe(self, feed)
        return self._measure(feed, batch_size)

    def predict(self, x: Any, batch_size: int = 256) -> np.ndarray[Any, Any]:
        """The model's outputs for all samples, shape (N, …), the model in evaluation mode.

        ``x`` as for :meth:`fit`; the targets of a Dataset or DataLoader are left out.
        """
        whole_number("predict", "batch_size", batch_size, least=1)
        feed = Feed("predict", x)
        probe_model(self, feed)
        convert = ToModel(self.model)
        with self.mode(training=False), no_grad():
            outputs = [self.model(*convert(b)[0]).numpy() for b in feed.batches(batch_size)]
        return np.concatenate(outputs)

    # --------------------------------------------------------------------------------- the loop

    def _epoch(
        self, epoch: int, batches: Any, held: Feed | None, callbacks: list[Callback]
    ) -> Logs:
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        convert, meter = ToModel(self.model), Meter(self.metrics, ignored_label(self.loss))
        watch = detect_anomaly() if self.debug else nullcontext()
        with self.mode(training=True), watch:
            for number, batch in enumerate(batches, start=1):
                inputs, target = convert(batch)
                loss, output = self._step(inputs, target, f"epoch {epoch}, batch {number}")
                meter.add(loss, target, output)
                for callback in callbacks:
                    callback.on_batch_end(number, meter.means())
        logs = meter.result()
        if held is not None:
            measured = self._measure(held, batches.batch_size)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)
        return logs

    def _step(self, inputs: list[Any], target: Any, place: str) -> tuple[float, Any]:
        """One step of the optimiser; the loss before it, and the output."""
        output = self.model(*inputs)
        loss = self.loss(output, target)
        value = float(loss.item())
        if not np.isfinite(value):  # found before the gradients spoil the weights
            lr = self.optimizer.param_groups[0]["lr"]
            raise AnomalyError(
                f"fit: the loss is {value} in {place}",
                f"   help: try a smaller learning rate ({lr:g} now), inputs scaled to "
                "a mean of 0 and a deviation of 1, or a loss from logits",
                "   help: Trainer(debug=True) stops at the operation that makes it",
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return value, output

    def _measure(self, feed: Feed, batch_size: int) -> dict[str, float]:
        convert, meter = ToModel(self.model), Meter(self.metrics, ignored_label(self.loss))
        with self.mode(training=False), no_grad():
            for batch in feed.batches(batch_size):
                inputs, target = convert(batch)
                output = self.model(*inputs)
                meter.add(self.loss(output, target).item(), target, output)
        return meter.result()

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """The model in training or evaluation mode; afterwards every module is in its own again."""
        before = [(module, module.training) for module in self.model.modules()]
        self.model.train(training)
        try:
            yield
        finally:
            for module, was in before:
                module.training = was


def _listed(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; raises DTypeError for what is none."""
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise DTypeError(
            f"fit: callbacks must be a list of Callback objects, not {callbacks!r}",
            "   help: callbacks=[…]",
        )
    listed = list(callbacks)
    for callback in listed:
        if not isinstance(callback, Callback):
            raise DTypeError(
                f"fit: {callback!r} in callbacks is no Callback object",
                "   help: LambdaCallback(on_epoch_end=f) makes one of a function; LRScheduler(s) "
                "of a schedule",
            )
    return listed
