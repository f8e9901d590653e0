"""What a training run must remember: to undo a step, or to go on in another process.

A state is a dict of numbers, texts and arrays that ``io.save`` can write. It shares no memory with
what it was taken from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai import io, random
from tinygrad_ai.errors import DataError, DTypeError
from tinygrad_ai.files import make_folder

KIND = "tinygrad_ai training run"
VERSION = 1


class Snapshot:
    """Model, optimiser and random numbers of a trainer as they are now, to come back to.

    With the model come its buffers and which of its parameters are frozen. :meth:`restore` also
    gives the parameters the gradients back that they had.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.state = state_of(trainer)
        self.gradients = [(p, p.grad) for p in trainer.model.parameters()]

    def restore(self) -> None:
        """Puts everything back."""
        load_into(self.trainer, self.state)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient


def state_of(trainer: Any) -> dict[str, Any]:
    """Weights, buffers, frozen parameters, optimiser and default generator."""
    tensors = trainer.model.state_dict().items()
    return {
        "model": {name: np.array(tensor.numpy()) for name, tensor in tensors},
        "frozen": [n for n, p in trainer.model.named_parameters() if not p.requires_grad],
        "optimizer": trainer.optimizer.state_dict(),
        "generator": random.generator().state_dict(),
    }


def load_into(trainer: Any, state: dict[str, Any]) -> None:
    """The reverse of :func:`state_of`; raises what model and optimiser raise for another's state.

    It may then have been loaded in part: a :class:`Snapshot` taken before puts everything back.
    """
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.model.load_state_dict(state["model"])
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad == (name in state["frozen"]):
            parameter.requires_grad = name not in state["frozen"]
    random.generator().load_state_dict(state["generator"])


def read(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The state of a run in ``path``; None where there is no such file, but could be one.

    Its folder is made where it is missing. Raises DTypeError for what is no path, DataError where
    the file is damaged, holds something else, or cannot be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise DTypeError(f"fit: resume must be a string or a Path, not {path!r}")
    make_folder(Path(path).parent)
    io.check_savable(path)
    if not os.path.lexists(path):
        return None
    state = io.load(path)
    if state.get("kind") != KIND:
        raise DataError(
            f"fit: {os.fspath(path)} is no state of a training run",
            "   help: fit(resume=path) writes such files; a model's weights are read with "
            "model.load_state_dict(ta.load(path))",
        )
    if state["version"] != VERSION:
        raise DataError(
            f"fit: {os.fspath(path)} was written by another version of tinygrad_ai (its format is "
            f"{state['version']}, here it is {VERSION})"
        )
    return state


def write(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes ``state`` to ``path``, whole or not at all."""
    io.save({"kind": KIND, "version": VERSION} | state, path)


def model_identity(model: Any) -> list[str]:
    """The lines that two models share exactly where one can take over the other's state."""
    tensors = model.state_dict().items()
    return [*repr(model).splitlines(), *(f"{n}: {t.dtype} {t.shape}" for n, t in tensors)]


def check_identity(path: Any, theirs: dict[str, Any], own: dict[str, Any]) -> None:
    """Raises DataError that names the first thing in which two runs differ."""
    for name, value in own.items():
        found = theirs.get(name)
        if found == value:
            continue
        if isinstance(found, list) and isinstance(value, list):
            pairs = [*zip(found, value, strict=False), (found[len(value) :], value[len(found) :])]
            found, value = next(pair for pair in pairs if pair[0] != pair[1])
        raise DataError(
            f"fit: {os.fspath(path)} is the state of another run: {name} there is {found!r}, here "
            f"{value!r}",
            "   nothing was changed; help: resume with another path begins afresh",
        )
