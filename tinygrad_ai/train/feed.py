"""From what users pass to ``fit`` to batches for the model, with everything checked beforehand."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value
from tinygrad_ai.backend import backend_for, backend_of, namespaces
from tinygrad_ai.data import DataLoader, Subset, TensorDataset
from tinygrad_ai.dtypes import is_float, python_default
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.train.names import (
    CLASS_LOSSES,
    PROBABILITY_LOSSES,
    host,
    ignored_label,
    is_one_of,
)

CHECKED_AT_ONCE = 4096  # samples


class Feed:
    """The samples that one call reads; a batch is ``(*inputs, target)``, arrays of one length.

    ``x`` is an array or Tensor, a tuple of them (a model with several inputs), a Dataset or a
    DataLoader, whose samples end with the target; without a target the (first) input is its own.
    ``caller`` begins the error messages. Raises ShapeError for different lengths, ValueRangeError
    for no samples and for NaN or infinity, DTypeError for what cannot be read.
    """

    def __init__(self, caller: str, x: Any, y: Any = None) -> None:
        self.caller = caller
        self.loader = x if isinstance(x, DataLoader) else None
        indexed = hasattr(x, "__len__") and hasattr(x, "__getitem__")
        known = self.loader is not None or hasattr(x, "shape") or indexed
        if not known or isinstance(x, str | dict):
            raise DTypeError(
                f"{caller}: x must be arrays, a Dataset or a DataLoader, not a {type(x).__name__}"
            )
        if self.loader is not None or not _is_data(x, y):
            if y is not None:
                raise DTypeError(
                    f"{caller}: a {type(x).__name__} brings its targets, y must be None"
                )
            self.dataset = self.loader.dataset if self.loader is not None else x
        else:
            self.dataset = TensorDataset(*self._arrays(x, y))
        if not len(self.dataset):
            raise ValueRangeError(f"{caller}: there are no samples")

    def __len__(self) -> int:
        return len(self.dataset)

    def _arrays(self, x: Any, y: Any) -> list[Any]:
        inputs = x if isinstance(x, tuple) else (x,)
        names = ["x"] if len(inputs) == 1 else [f"x[{i}]" for i in range(len(inputs))]
        given = dict(zip(names, inputs, strict=True))
        if y is not None:
            given["y"] = y
        elif len(inputs) > 1:
            given["y"] = inputs[0]
        arrays = {name: _raw(self.caller, name, data) for name, data in given.items()}
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        if any(array.ndim == 0 for array in arrays.values()):
            raise ShapeError(f"{self.caller}: the first axis counts samples: {shapes}")
        if len({len(array) for array in arrays.values()}) > 1:
            raise ShapeError(f"{self.caller}: numbers of samples differ: {shapes}")
        return list(arrays.values())

    @property
    def alone(self) -> bool:
        """Whether the input is its own target."""
        return len(next(iter(DataLoader(self.dataset, 1)))) == 1

    def targets(self) -> np.ndarray[Any, Any]:
        """The targets of all samples."""
        return np.concatenate([host(b[-1]) for b in DataLoader(self.dataset, CHECKED_AT_ONCE)])

    def identity(self) -> dict[str, Any]:
        """By what two data sets are told apart: size, kind of the fields, and of arrays the bits.

        The samples of other data sets are not read: they may be drawn anew each time.
        """
        fields = [f"{f.dtype} {f.shape[1:]}" for f in next(iter(DataLoader(self.dataset, 1)))]
        inner = self.dataset
        while isinstance(inner, Subset):
            inner = inner.dataset
        checksum = 0
        if type(inner) is TensorDataset:  # a class made from it may change its samples
            for batch in DataLoader(self.dataset, CHECKED_AT_ONCE):
                for field in batch:
                    checksum = zlib.crc32(host(field).tobytes(), checksum)
        return {"samples": len(self), "fields": ", ".join(fields), "checksum": checksum}

    @staticmethod
    def inputs_of(batch: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """The inputs in a batch and what they are called; without a target it is all input."""
        inputs = batch[:-1] or batch
        return [("x" if len(inputs) == 1 else f"x[{i}]", part) for i, part in enumerate(inputs)]

    def batches(self, size: int, shuffle: bool = False, seed: int | None = None) -> DataLoader:
        """The DataLoader that was given, or one over the samples."""
        return self.loader or DataLoader(self.dataset, size, shuffle, seed=seed)

    def split(self, share: float) -> tuple[Feed, Feed]:
        """All but the last ``share`` of the samples, and those."""
        if self.loader is not None:
            raise ValueRangeError(
                f"{self.caller}: validation_split cannot divide a DataLoader",
                "   help: give its data set, or validation_data=",
            )
        if isinstance(share, bool) or not isinstance(share, int | float | np.number):
            raise DTypeError(f"{self.caller}: validation_split must be a number, not {share!r}")
        if not 0 < share < 1:
            raise ValueRangeError(
                f"{self.caller}: validation_split must lie between 0 and 1, not {share!r}",
                "   rule: 0 holds nothing back; 1 would leave nothing to learn from",
            )
        held = round(len(self) * share)
        if not 0 < held < len(self):
            raise ValueRangeError(
                f"{self.caller}: validation_split={share} of {len(self)} samples leaves "
                f"{len(self) - held} for training and {held} for validation"
            )
        cut = len(self) - held
        parts = (range(cut), range(cut, len(self)))
        train, rest = (Feed(self.caller, Subset(self.dataset, np.array(part))) for part in parts)
        return train, rest

    def check(self, loss: Any, output: Any, dtype: Any) -> None:
        """One pass over all samples: numbers that ``dtype`` holds, targets that ``loss`` can take.

        ``output`` is what the model makes of some samples: its second axis counts the classes.
        ``dtype`` is the model's; None where it has none.
        """
        top, rule = 0, ""
        if is_one_of(loss, CLASS_LOSSES) and output.ndim > 1:
            top = output.shape[1] - 1
            rule = f"the model's output has {top + 1} classes, numbered from 0"
        elif is_one_of(loss, PROBABILITY_LOSSES):
            top, rule = 1, "binary cross-entropy takes targets from 0 to 1"
        ignored = ignored_label(loss)
        begin, counts = 0, False
        for batch in DataLoader(self.dataset, CHECKED_AT_ONCE):
            fields = tuple(host(field) for field in batch)
            target = fields[-1]
            for name, part in [*self.inputs_of(fields), ("y", target)][: len(fields)]:
                self._finite(name, part, begin, dtype)
            if rule and len(fields) > 1 and (target.dtype.kind in "iub" or top == 1):
                self._within(target, top, rule, ignored, begin)
            counts = counts or ignored is None or bool((target != ignored).any())
            begin += len(target)
        if not counts:
            raise ValueRangeError(
                f"{self.caller}: every label in y is {ignored}, which stands for samples to ignore"
            )

    def _finite(self, name: str, part: np.ndarray[Any, Any], begin: int, dtype: Any) -> None:
        if part.dtype.kind != "f":
            return
        limit = np.finfo(part.dtype if dtype is None else dtype).max
        if not (good := np.abs(part) <= limit).all():  # NaN is not
            sample, *rest = np.argwhere(~good)[0].tolist()
            place = ", ".join(map(str, [begin + sample, *rest]))
            value = part[sample, *rest]
            beyond = f", beyond the model's {np.dtype(dtype)}" if np.isfinite(value) else ""
            raise ValueRangeError(
                f"{self.caller}: {name} holds {value} at {name}[{place}]{beyond}",
                "   help: scale the data"
                if beyond
                else "   help: mend or leave out such samples; np.isfinite(x) finds them",
            )

    def _within(
        self, target: np.ndarray[Any, Any], top: int, rule: str, ignored: int | None, begin: int
    ) -> None:
        outside = (target < 0) | (target > top)
        if ignored is not None:
            outside &= target != ignored
        if outside.any():
            sample, *rest = np.argwhere(outside)[0].tolist()
            place = ", ".join(map(str, [begin + sample, *rest]))
            raise ValueRangeError(
                f"{self.caller}: label {target[sample, *rest]} at y[{place}] is outside 0…{top}",
                f"   rule: {rule}",
            )


def validated(feed: Feed, validation_split: Any, validation_data: Any) -> tuple[Feed, Feed | None]:
    """The samples to learn from, and those to measure on if one of the two asks for any."""
    none = validation_split is None or (np.isscalar(validation_split) and validation_split == 0)
    if validation_data is None:
        return (feed, None) if none else feed.split(validation_split)
    if not none:
        raise ValueRangeError("fit: validation_split and validation_data exclude each other")
    pair = validation_data if isinstance(validation_data, tuple) else (validation_data,)
    several = isinstance(validation_data, list) and hasattr(validation_data[0], "shape")
    if len(pair) > 2 or (several and len(validation_data) == 2):
        raise DTypeError(
            "fit: validation_data must be (x, y), a Dataset or a DataLoader, not a "
            f"{type(validation_data).__name__} of {len(validation_data)}"
        )
    return feed, Feed("fit: validation_data", *pair)


class ToModel:
    """Turns a batch's arrays into Tensors on the model's device; floats get its dtype."""

    def __init__(self, model: Any) -> None:
        floats = [p for p in model.parameters() if is_float(p.dtype)]
        self.dtype = floats[0].dtype if floats else None
        self.device = floats[0].device if floats else "cpu"

    def __call__(self, batch: tuple[Any, ...]) -> tuple[list[Any], Any]:
        """Inputs and target of a batch; of one field, it is both."""
        *inputs, target = (self._tensor(field) for field in batch)
        return inputs or [target], target

    def _tensor(self, field: Any) -> Any:
        array = field.array if isinstance(field, Value) else field
        if is_float(array.dtype) and self.dtype is not None:
            array = array.astype(self.dtype, copy=False)
        if backend_of(array) is not backend_for(self.device):
            array = backend_for(self.device).asarray(backend_of(array).to_numpy(array))
        return Value.box(array)


def _is_data(x: Any, y: Any) -> bool:
    """Whether ``x`` is arrays rather than a data set of samples."""
    return y is not None or isinstance(x, tuple) or hasattr(x, "shape")


def _raw(caller: str, name: str, data: Any) -> Any:
    """The array of an array, a Tensor or nested lists, without a copy."""
    if isinstance(data, Value):
        return data.array
    if type(data) in namespaces:
        array = data
    else:
        try:
            array = np.asarray(data, dtype=python_default(data))
        except (ValueError, TypeError) as error:
            raise DTypeError(f"{caller}: {name} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(
            f"{caller}: {name} must hold numbers, not {array.dtype}",
            "   help: texts need a tokenizer first, class names np.unique(…, return_inverse=True)",
        )
    return array
