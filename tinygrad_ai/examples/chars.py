"""What the programs that learn to write share: the text, and a look at what they write."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai import data, generation, random
from tinygrad_ai.data.text import Tokenizer
from tinygrad_ai.examples.program import Run, Settings, learn
from tinygrad_ai.files import atomic_write
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import Trainer
from tinygrad_ai.train.terminal import Terminal

#: Characters to learn from and to be measured on: most of Hamlet, and its last scenes; all there is
DATA = {"shakespeare-small": (150_000, 15_000), "shakespeare": (None, None)}
INPUT = "the beginning of a text"  # in a model file's metadata: what `tinygrad-ai predict` takes
PROMPT, SHOWN, WRITTEN = "Ham.\n", 400, 1000  # the characters it writes on the screen, in a file
TEMPERATURE = 0.8

Array: TypeAlias = np.ndarray[Any, Any]
Pair: TypeAlias = tuple[Array, Array]


@cache
def vocabulary() -> Tokenizer:
    """The characters of the plays' training part, the same whatever is learnt from."""
    return Tokenizer("char").fit([data.shakespeare()])


def tokens(name: str) -> Pair:
    """The text to learn from and the one to be measured on, int64 of one axis each.

    "shakespeare" is 90 % of each of eight plays, and the last tenth of each.
    """
    splits = zip(("train", "validation"), DATA[name], strict=True)
    train, held = (vocabulary().encode(data.shakespeare(split)[:size]) for split, size in splits)
    return train, held


def streams(text: Array, count: int, length: int) -> Pair:
    """The text in ``count`` parts read side by side, ``length`` characters at a time.

    Returns characters and the ones that follow them, both (chunks·count, length): batches of
    ``count`` in this order go on, row for row, where the batch before ended.
    """
    chunks = (len(text) - 1) // (count * length)
    used = chunks * count * length
    x, y = (
        part.reshape(count, chunks, length).swapaxes(0, 1).reshape(-1, length)
        for part in (text[:used], text[1 : used + 1])
    )
    return x, y


def windows(text: Array, length: int, stride: int) -> Pair:
    """Pieces of the text that begin every ``stride`` characters, and the same one further on.

    Both are (N, length).
    """
    rows = np.lib.stride_tricks.sliding_window_view(text, length)
    return rows[:-1:stride], rows[1::stride]


def write(
    model: Any, step: Callable[..., Any], prompt: str, length: int, seed: int, **more: Any
) -> str:
    """``prompt`` and ``length`` characters more, each drawn by what ``model`` expects.

    ``step`` and ``more`` are those of :func:`tinygrad_ai.generation.generate`.
    """
    tokenizer = vocabulary()
    device = next(model.parameters()).device
    special = Tensor(np.arange(len(tokenizer)) < len(tokenizer.special), device=device)

    def choose(scores: Any) -> Tensor:
        return generation.sample(where(special, -math.inf, scores), TEMPERATURE)

    model.eval()
    random.manual_seed(seed)
    begun = Tensor(tokenizer.encode(prompt), device=device)
    return tokenizer.decode(generation.generate(step, begun, length, choose, **more).numpy())


def run(
    model: Any, trainer: Trainer, train: Pair, held: Pair, settings: Settings, shuffle: bool
) -> Run:
    """A run of ``trainer``, which trains ``model``, tested on ``held``, (x, y) as ``train``.

    ``model.write(prompt, length, seed)`` is what it has learnt.
    """

    def written(path: Path) -> None:
        text = model.write(PROMPT, WRITTEN, settings.seed)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    return Run(
        model=model,
        summary=model.summary((1, *train[0].shape[1:]), np.int64),
        fit=partial(learn, trainer, *train, settings, validation_data=held, shuffle=shuffle),
        test=lambda: trainer.evaluate(*held, batch_size=settings.batch_size),
        show=lambda terminal: show(model.write(PROMPT, SHOWN, settings.seed), terminal),
        chance=math.log(len(vocabulary())),
        pictures={"curves.png": lambda path: trainer.history.plot(path), "generated.txt": written},
        metadata={"input": INPUT, "architecture": repr(model)},
    )


def show(text: str, terminal: Terminal) -> list[str]:
    """The lines of ``text``, broken where the terminal ends."""
    width = max(terminal.columns - 2, 1)
    broken = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
    return [f"  {line}".rstrip() for line in broken]
