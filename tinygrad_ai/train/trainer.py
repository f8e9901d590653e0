"""The training loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.errors import DTypeError, ValueRangeError, whole_number
from tinygrad_ai.train import state
from tinygrad_ai.train.balance import weighted_loss
from tinygrad_ai.train.callbacks import Callback
from tinygrad_ai.train.feed import Feed, ToModel, validated
from tinygrad_ai.train.fitting import Fitting
from tinygrad_ai.train.history import History
from tinygrad_ai.train.meter import Meter
from tinygrad_ai.train.names import ignored_label, loss_of, metrics_of, optimizer_of
from tinygrad_ai.train.probe import probe, probe_model
from tinygrad_ai.train.progress import Progress
from tinygrad_ai.train.step import CompiledStep


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
        jit: compile the training step; one that cannot be compiled runs eagerly, with a warning.
        debug: run eagerly whatever ``jit`` says, so that print and a debugger work, and stop at
            the first operation that makes a NaN or an infinity.
        clip_norm: scale the gradients of a step so that their norm is at most this.
        accumulate: batches in a step of the optimiser, whose gradient is that of one batch of all
            their samples; for callbacks, what is left of them at an epoch's end is a step, too.

    Floating-point data are cast to the dtype of the model's parameters. Frozen parameters
    (``requires_grad`` False) stay as they are, also where the optimizer holds them, and a layer all
    of whose parameters are frozen keeps its buffers: batch normalisation uses its statistics.

    Raises ValueRangeError for an unknown name, settings out of range, and an optimiser over the
    parameters of something else; DTypeError for what is no model.
    """

    def __init__(
        self,
        model: Any,
        loss: str | Callable[..., Any],
        optimizer: Any,
        metrics: Iterable[str | Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
        jit: bool = True,
        debug: bool = False,
        clip_norm: float | None = None,
        accumulate: int = 1,
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
        if clip_norm is not None and not clip_norm > 0:
            raise ValueRangeError(f"Trainer: clip_norm must be positive, not {clip_norm!r}")
        self.clip_norm = clip_norm
        self.accumulate = whole_number("Trainer", "accumulate", accumulate, least=1)
        #: repeats the last step while ``fit`` is at work: what callbacks look into
        self.latest_step: Callable[[], Any] | None = None
        self.stop_training = False
        self.history = History()
        self._take: Callable[..., Any] | None = None  # the step of the last ``fit``

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
        class_weight: Any = None,
        resume: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
    ) -> History:
        """Trains for ``epochs`` passes over the samples and returns what was measured.

        ``x``, ``y``: arrays or Tensors, samples first (a tuple ``x`` is several inputs); or a
        Dataset or DataLoader of ``(*inputs, target)`` without ``y``, a DataLoader in its own
        batches and order. Arrays without ``y`` are their own target: an autoencoder.
        ``validation_split`` holds back that share of the samples, the last ones, before shuffling;
        ``validation_data`` is ``(x, y)``, a Dataset or a DataLoader. ``seed`` fixes the order and
        the random numbers of the model: the same bits for the same seed, weights and data.

        ``class_weight`` lets classes count unequally in the loss that is trained: "balanced", a
        dict from class to weight, or a list of all weights (see ``weighted_loss``).

        ``resume`` names a file for the state of the run: it is written before the first epoch,
        after each, and after every ``save_every`` steps of one, and where it exists the run goes on
        from it. So a program that was killed is started again as it was, and ends with the bits
        that it would have had. What it cannot know: a schedule stepped by hand, random numbers
        that a data set draws elsewhere, a program that was changed.

        The loss and metrics of an epoch are means over its samples while the model learns. Ctrl-C
        ends training: what was done until then is returned with ``interrupted`` set.

        Raises ValueRangeError, ShapeError or DTypeError for arguments, data or labels that do not
        fit, before anything is trained; DataError for the state of another run, which then changes
        nothing; Diverged, an AnomalyError with the ``history`` so far, when the loss is no longer
        finite: model and optimiser are then as they were after the last whole epoch.
        """
        whole_number("fit", "epochs", epochs, least=1)
        whole_number("fit", "batch_size", batch_size, least=1)
        if seed is not None:
            whole_number("fit", "seed", seed, least=0)
        if save_every is not None:
            _check_saving(save_every, resume)
        active = [*_listed(callbacks), *([Progress()] if progress else [])]
        feed, held = validated(Feed("fit", x, y), validation_split, validation_data)
        output = probe(self, feed)
        if held is not None:
            probe(self, held)
        self._check_trainable()
        loss = self.loss
        if class_weight is not None:
            loss = self._weighted(class_weight, feed, output)
        saved = None if resume is None else state.read(resume)
        batches = feed.batches(batch_size, shuffle, self._seed(seed) if saved is None else 0)

        self.stop_training = False
        fitting = Fitting(self, loss, feed, held, batches, active, epochs)
        self._take = fitting.take
        for callback in active:
            callback.trainer, callback.plan = self, fitting.plan()
            callback.on_train_begin()
        if saved is not None and resume is not None:
            fitting.load_state_dict(saved, resume)
        self.history = fitting.history
        identity = {} if resume is None else fitting.identity()

        def save() -> None:
            if resume is not None:
                state.write({"identity": identity} | fitting.state_dict(), resume)

        fitting.run(save, save_every)
        return self.history

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics over the samples, the model in evaluation mode.

        Data as for :meth:`fit`, and the same errors.
        """
        whole_number("evaluate", "batch_size", batch_size, least=1)
        feed = Feed("evaluate", x, y)
        probe(self, feed)
        return self.measure(feed, batch_size)

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

    def report(self, times: bool = False) -> str:
        """What the training step of the latest ``fit`` was compiled to: a table of its kernels.

        See :meth:`tinygrad_ai.jit.Step.report`; ``times`` measures how long each of them takes.
        """
        if isinstance(self._take, CompiledStep):
            return self._take.report(times)
        why = "nothing was trained yet" if self._take is None else "jit=False or debug=True"
        return f"train_step: nothing is compiled: {why}"

    # ------------------------------------------------------------------------------ what fit needs

    def _check_trainable(self) -> None:
        if not any(p.requires_grad for g in self.optimizer.param_groups for p in g["params"]):
            raise ValueRangeError(
                "fit: every parameter that the optimizer holds is frozen: nothing would be trained",
                "   help: model.requires_grad_(True), or that of some of its layers",
            )

    def _weighted(self, class_weight: Any, feed: Feed, output: Any) -> Any:
        """The loss, in which classes count as ``class_weight`` says."""

        def labels() -> np.ndarray[Any, Any]:
            found, ignored = feed.targets(), ignored_label(self.loss)
            return found if ignored is None else found[found != ignored]

        classes = output.shape[1] if output.ndim > 1 else 2
        return weighted_loss(self.loss, class_weight, classes, labels, output)

    @staticmethod
    def _seed(seed: int | None) -> int:
        """Starts the default generator with ``seed``; without one it draws that of the order."""
        if seed is None:
            return int(random.generator().integers(0, 2**62, 1)[0])
        random.manual_seed(seed)
        return seed

    def measure(self, feed: Feed, batch_size: int) -> dict[str, float]:
        """Loss and metrics over checked samples, the model in evaluation mode."""
        convert, meter = ToModel(self.model), Meter(self.metrics, self.loss)
        with self.mode(training=False), no_grad():
            for batch in feed.batches(batch_size):
                inputs, target = convert(batch)
                output = self.model(*inputs)
                meter.add(self.loss(output, target).item(), target, output)
        return meter.result()

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """The model in training or evaluation mode; afterwards every module is in its own again.

        Frozen layers with buffers are in evaluation mode in any case.
        """
        before = [(module, module.training) for module in self.model.modules()]
        self.model.train(training)
        for module, _ in before:
            own = [parameter.requires_grad for _, parameter in module.own_parameters()]
            if own and not any(own) and any(module.own_buffers()):
                module.training = False
        try:
            yield
        finally:
            for module, was in before:
                module.training = was


def _check_saving(save_every: int, resume: Any) -> None:
    whole_number("fit", "save_every", save_every, least=1)
    if resume is None:
        raise ValueRangeError(
            f"fit: save_every={save_every}, but there is no file to save to",
            '   help: resume="run.safetensors" names one',
        )


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
