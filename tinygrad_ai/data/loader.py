"""Batches of a data set, in an order that a seed fixes and at a place that can be come back to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_ai.data.dataset import TensorDataset, fetch
from tinygrad_ai.errors import DataError, DTypeError, ValueRangeError, whole_number


class DataLoader:
    """Iterates over a data set in tuples of batches; a ``for`` loop over it is one epoch.

    ``dataset`` is an array or a tuple of arrays or Tensors (first axis: samples), whose batches are
    of the same kind, or an object with ``__len__`` and ``__getitem__``, whose items are stacked to
    NumPy arrays. The last batch is smaller where ``batch_size`` does not divide the number of
    samples, or is left out with ``drop_last``.

    The order with ``shuffle`` depends on ``seed`` and the number of the epoch alone; without a seed
    one is drawn. A loop that is left early has used its epoch: the next one starts afresh.

    Raises ValueRangeError for an empty data set, ``batch_size`` < 1, or where ``drop_last`` leaves
    nothing; DTypeError for what is no data set; ShapeError where arrays or samples do not fit.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        if isinstance(dataset, tuple):
            dataset = TensorDataset(*dataset)
        elif hasattr(dataset, "shape"):
            dataset = TensorDataset(dataset)
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DTypeError(
                f"DataLoader: a {type(dataset).__name__} is no data set",
                "   help: give an array, a tuple of arrays, or an object with __len__ and "
                "__getitem__",
            )
        self.dataset = dataset
        self.samples = len(dataset)
        if np.ndim(batch_size):
            raise DTypeError(
                f"DataLoader: batch_size must be a whole number, not a {type(batch_size).__name__}",
                "   help: DataLoader((x, y), batch_size=32) reads arrays side by side",
            )
        self.batch_size = whole_number("DataLoader", "batch_size", batch_size, least=1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.seed = (
            secrets.randbits(63)
            if seed is None
            else whole_number("DataLoader", "seed", seed, least=0)
        )
        self.epoch = 0
        self.batch = 0
        self._resumed = False
        if not self.samples:
            raise ValueRangeError("DataLoader: the data set is empty")
        if not len(self):
            raise ValueRangeError(
                f"DataLoader: drop_last leaves no batch of {self.batch_size} from {self.samples} "
                "samples"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        if self.batch and not self._resumed:  # the loop before was left early
            self.epoch, self.batch = self.epoch + 1, 0
        self._resumed = False
        epoch = self.epoch
        order = self._order(epoch)
        for batch in range(self.batch, len(self)):
            self.epoch, self.batch = epoch, batch + 1
            start = batch * self.batch_size
            yield fetch(self.dataset, order[start : start + self.batch_size])
        self.epoch, self.batch = epoch + 1, 0

    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        """The samples' indices in the order of ``epoch``."""
        if not self.shuffle:
            return np.arange(self.samples)
        return np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.samples)

    def state_dict(self) -> dict[str, Any]:
        """The place: the ``epoch``, the ``batch`` that comes next, and what fixes the order."""
        return self._identity() | {"seed": self.seed, "epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where ``state`` was taken: the next loop gives the rest of its epoch.

        Raises DataError for a state of something else, ValueRangeError for one of a loader with
        other samples, ``batch_size``, ``shuffle`` or ``drop_last``.
        """
        if missing := self.state_dict().keys() - state.keys():
            raise DataError(f"this is no DataLoader's state: {', '.join(sorted(missing))} missing")
        for name, own in self._identity().items():
            if state[name] != own:
                raise ValueRangeError(
                    f"DataLoader: the state was taken with {name} {state[name]}, here it is {own}"
                )
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]
        self._resumed = True

    def _identity(self) -> dict[str, Any]:
        names = ("samples", "batch_size", "shuffle", "drop_last")
        return {name: getattr(self, name) for name in names}
