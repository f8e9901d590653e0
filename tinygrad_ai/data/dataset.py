"""Data sets: anything with a length and an index. Arrays side by side, and parts of another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, whole_number


@runtime_checkable
class Dataset(Protocol):
    """What a data set offers. Subclassing is optional: lists of samples are data sets, too.

    A data set may also have ``batch(indices)``, which returns the tuple that stacking the items at
    ``indices`` (an integer array) would give; :class:`DataLoader` then calls that.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def __getitem__(self, index: int, /) -> Any:
        """One sample: a tuple of arrays or numbers, or a single one."""


class TensorDataset:
    """Arrays or Tensors whose first axis counts the samples; an item is a tuple of their rows.

    Raises DTypeError for what is not an array and ShapeError where first dimensions differ.
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise ValueRangeError("TensorDataset needs at least one array")
        for position, array in enumerate(arrays):
            if not hasattr(array, "shape"):
                raise DTypeError(
                    f"TensorDataset: argument {position} is a {type(array).__name__}, not an array",
                    "   help: np.asarray(x) makes one from numbers; texts need a tokenizer first",
                )
        shapes = [tuple(array.shape) for array in arrays]
        if () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(
                f"TensorDataset: first dimensions differ: {', '.join(map(str, shapes))}",
                "   rule: the first axis of every array counts the same samples",
            )
        self.arrays = arrays

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(array[index] for array in self.arrays)

    batch = __getitem__  # an array takes an array of indices as it takes one


class Subset:
    """The samples of ``dataset`` at ``indices``, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray[Any, Any]) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        """The stacked samples at ``indices`` of this part."""
        return fetch(self.dataset, self.indices[indices])


def fetch(dataset: Any, indices: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """The samples at ``indices`` as a tuple of batches: by the data set's own way, or stacked."""
    if hasattr(dataset, "batch"):
        return dataset.batch(indices)
    items = [dataset[index] for index in indices.tolist()]
    rows = [item if isinstance(item, tuple) else (item,) for item in items]
    if len({len(row) for row in rows}) > 1:
        raise ShapeError(f"samples have {sorted({len(row) for row in rows})} fields: not all alike")
    return tuple(_stack(column, field) for field, column in enumerate(zip(*rows, strict=True)))


def _stack(column: Sequence[Any], field: int) -> np.ndarray[Any, Any]:
    arrays = [np.asarray(value) for value in column]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ShapeError(
            f"field {field} of the samples has several shapes: {', '.join(map(str, shapes[:4]))}",
            "   help: pad the samples to one shape; whole arrays go in as a tuple, (x, y)",
        )
    return np.stack(arrays)


def random_split(
    dataset: Dataset, lengths: Sequence[float], seed: int | None = None
) -> list[Subset]:
    """Parts of ``dataset``, drawn at random without overlap; the same ones for the same ``seed``.

    ``lengths`` are numbers of samples that add up to all, or fractions that add up to 1, whose
    parts are less than one sample off. Raises ValueRangeError where they do not add up or one is
    negative or NaN, and for a negative ``seed``; DTypeError for what are no numbers.
    """
    lengths = list(lengths)
    for length in lengths:
        if isinstance(length, bool) or not isinstance(length, int | float | np.number):
            raise DTypeError(f"random_split: lengths must be numbers, not {length!r}")
        if not 0 <= length < np.inf:
            raise ValueRangeError(f"random_split: {length} in {lengths} is no length")
    if seed is not None:
        whole_number("random_split", "seed", seed, least=0)
    total = len(dataset)
    cuts = np.cumsum(lengths, dtype=np.float64)
    counted = all(isinstance(length, int | np.integer) for length in lengths)
    whole = total if counted else 1
    if not lengths or abs(cuts[-1] - whole) > 1e-9:
        raise ValueRangeError(
            f"random_split: {lengths} adds up to {sum(lengths):g}, not {whole}",
            f"   help: whole numbers add up to the {total} samples, fractions to 1",
        )
    # the cuts are rounded, not the parts, so that nothing is left over
    ends = np.floor((cuts if counted else cuts * total) + 0.5).astype(np.int64)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
    return [Subset(dataset, part) for part in np.split(order, ends[:-1])]
