"""What a program for dates needs beside its net: data, training, and a look at the result."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import optim, plots, random
from tinygrad_ai.data import TensorDataset
from tinygrad_ai.data.dates import Pairs, pairs
from tinygrad_ai.data.text import Tokenizer, pad_sequences
from tinygrad_ai.examples.program import Run, Settings, learn
from tinygrad_ai.train import Trainer
from tinygrad_ai.train.terminal import Terminal

DATA = {"dates-small": 2000, "dates": 8000}  # dates to learn from
HELD = 1000  # further dates, to choose the settings on; and as many to test with
LENGTH = len("1998-03-03") + 1  # with its end
SHOWN = 5
INPUT = "date"  # in a model file's metadata: what `tinygrad-ai predict` may show it

LETTERS = Tokenizer("char").fit([string.ascii_lowercase + string.digits + " ,./-'"])
DIGITS = Tokenizer("char", ends=True).fit([string.digits + "-"])


def encoded(texts: Sequence[str]) -> Any:
    """Letters, int64 (N, T), in lower case, padding behind the shorter texts."""
    return pad_sequences(LETTERS.encode_all([t.lower() for t in texts]), padding="post")


def examples(spelled: Sequence[str], iso: Sequence[str]) -> TensorDataset:
    """Letters, what was written before each step, and what is to be written then."""
    signs = np.stack(DIGITS.encode_all(iso))
    return TensorDataset(encoded(spelled), signs[:, :-1], signs[:, 1:])


def dates(name: str) -> list[Pairs]:
    """Training, validation and test dates, none in two of them."""
    return pairs(DATA[name], HELD, HELD)


def guessing(signs: Any) -> float:
    """The loss of one who knows how often each of ``signs`` (N, L) stands at each place."""
    shares = np.concatenate([np.bincount(place) / len(place) for place in signs.T])
    return -float((shares * np.log(np.where(shares > 0, shares, 1))).sum() / signs.shape[1])


def prepare(build: Callable[[], Any], settings: Settings) -> Run:
    """Adam and cross-entropy, every sign predicted from the right ones before it.

    ``build().dates(texts)`` is what it makes of texts, and ``translate(texts)`` the signs (N, L),
    with attention (N, L, T).
    """
    random.manual_seed(settings.seed)
    parts = dates(settings.data)
    train, held, test = (examples(*part) for part in parts)
    spelled, iso = parts[-1]
    model = build().to(settings.device)
    optimizer = optim.Adam(model.parameters(), lr=settings.lr)
    trainer = Trainer(model, "cross_entropy", optimizer, ["accuracy"], jit=settings.jit)

    def measured() -> dict[str, float]:
        right = np.mean(np.array(model.dates(spelled)) == iso)
        return trainer.evaluate(test) | {"exact_match": float(right)}

    def show(terminal: Terminal) -> list[str]:
        """Mistakes first, if there are any."""
        pairs = zip(spelled, model.dates(spelled), iso, strict=True)
        shown = sorted(pairs, key=lambda p: p[1] == p[2])[:SHOWN]
        width = max(len(text) for text, _, _ in shown)
        return [line(text.ljust(width), made, true, terminal) for text, made, true in shown]

    def attention(path: Any) -> None:
        text = max(spelled, key=len)
        signs, weights = model.translate([text])
        plots.attention(weights[0], [DIGITS.tokens[sign] for sign in signs[0]], text, path)

    return Run(
        model=model,
        summary=model.summary(),
        fit=partial(learn, trainer, train, None, settings, validation_data=held),
        test=measured,
        show=show,
        chance=guessing(test.arrays[-1]),
        pictures={
            "curves.png": lambda path: trainer.history.plot(path),
            "attention.png": attention,
        },
        metadata={"input": INPUT, "architecture": repr(model)},
    )


def line(text: str, written: str, true: str, terminal: Terminal) -> str:
    """A text and what was written for it."""
    if written == true:
        return f"{text}  {terminal.paint(written, 'green')}"
    return f"{text}  {terminal.paint(written, 'red')} (it is {true})"
