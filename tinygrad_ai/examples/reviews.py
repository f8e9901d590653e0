"""What the programs for film reviews share: data, training, and the words that decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai import data, nn, optim, plots, random
from tinygrad_ai.creation import ones
from tinygrad_ai.data.text import PADDING, LengthLoader, PaddedSequences, Tokenizer, clean
from tinygrad_ai.examples.program import Run, Settings, learn
from tinygrad_ai.explain.attribution import integrated_gradients, paint_words
from tinygrad_ai.train import Trainer
from tinygrad_ai.train.terminal import Terminal

Array: TypeAlias = np.ndarray[Any, Any]

WORDS = 10_000  # in the vocabulary: padding, "unknown" and the most frequent ones
LENGTH = 200  # tokens: of a longer review the last ones, where the verdict stands
MULTIPLE = 40  # of tokens in a batch: few widths, as a step is compiled for each
INPUT = "review"  # in a model file's metadata: what `tinygrad-ai predict` may show it
SHORT = 60  # words at most in a review that is shown
VERDICTS = ("negative", "positive")


def rotten_tomatoes() -> tuple[tuple[list[str], Array], tuple[list[str], Array]]:
    """The bundled sentences as training and test data: the last tenth is for testing."""
    texts, labels = data.rotten_tomatoes()
    cut = len(texts) - len(texts) // 10
    return (texts[:cut], labels[:cut]), (texts[cut:], labels[cut:])


DATA = {"rotten-tomatoes": rotten_tomatoes, "imdb": data.imdb}


def sequences(tokenizer: Tokenizer, texts: Sequence[str], labels: Array) -> PaddedSequences:
    """Tokens and labels, float32, in batches a little wider than their longest review."""
    return PaddedSequences(
        tokenizer.encode_all(texts),
        labels.astype(np.float32),
        maxlen=LENGTH,
        pad_to_multiple_of=MULTIPLE,
    )


class WordDropout(nn.Dropout):
    """Words (N, T, D) with whole ones left out at random, so that no verdict hangs on one alone.

    (Iyyer et al., "Deep unordered composition rivals syntactic methods", 2015.)
    """

    def forward(self, input: Any) -> Any:
        return input * super().forward(ones((*input.shape[:-1], 1), input.dtype, input.device))


def mean_of_words(x: Any, tokens: Any) -> Any:
    """The mean (N, D) of ``x`` (N, T, D) over those of the ``tokens`` that are no padding."""
    counted = (tokens != PADDING).astype(x.dtype).reshape(*tokens.shape, 1)
    return (x * counted).sum(axis=1) / counted.sum(axis=1)


def prepare(
    build: Callable[[], nn.Module],
    settings: Settings,
    groups: Callable[[Any, float], Any] = lambda model, lr: model.parameters(),
    pictures: Mapping[str, Callable[[Any, Tokenizer, Sequence[str], Any], None]] = MappingProxyType(
        {}
    ),
) -> Run:
    """Adam, and one logit a review, of its being positive; reviews of a batch have similar lengths.

    ``groups(model, lr)`` are the parameters, in groups where their learning rates differ;
    ``pictures`` are further ones by file name: ``draw(model, tokenizer, test_texts, path)``.
    """
    random.manual_seed(settings.seed)
    (texts, y), (texts_test, y_test) = DATA[settings.data]()
    tokenizer = Tokenizer(num_words=WORDS).fit(texts)
    train = LengthLoader(sequences(tokenizer, texts, y), settings.batch_size, settings.seed)
    test = sequences(tokenizer, texts_test, y_test)
    model = build().to(settings.device)
    optimizer = optim.Adam(groups(model, settings.lr), lr=settings.lr)
    trainer = Trainer(model, "bce_with_logits", optimizer, ["accuracy"], jit=settings.jit)

    def readings() -> list[Reading]:
        """Short test reviews: the first two that were read rightly, and the first that was not."""
        short = np.flatnonzero(test.lengths <= SHORT)
        right = (trainer.predict(test)[short] > 0) == (y_test[short] == 1)
        chosen = [*short[right][:2], *short[~right][:1]]
        return [Reading.of(model, tokenizer, texts_test[k], bool(y_test[k])) for k in chosen]

    return Run(
        model=model,
        summary=model.summary((1, LENGTH), dtype="int64"),
        fit=partial(learn, trainer, train, None, settings),
        test=lambda: trainer.evaluate(test),
        show=lambda terminal: [line for r in readings() for line in ["", *r.lines(terminal)]][1:],
        chance=math.log(2),
        pictures={
            "curves.png": lambda path: trainer.history.plot(path),
            "words.png": lambda path: plots.words([r.picture() for r in readings()], path),
            **{k: partial(draw, model, tokenizer, texts_test) for k, draw in pictures.items()},
        },
        metadata={
            "input": INPUT,
            "vocabulary": tokenizer.state_dict(),
            "architecture": repr(model),
        },
    )


@dataclass(frozen=True)
class Reading:
    """A review as a model read it: its words, their shares in the logit, and the probability.

    The shares are integrated gradients: positive ones speak for a positive review. ``label`` is the
    true verdict, where it is known.
    """

    words: list[str]
    shares: Array
    probability: float
    label: bool | None

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Tokenizer, text: str, label: bool | None = None
    ) -> Reading:
        found = integrated_gradients(model, tokenizer.encode(text)[None, -LENGTH:])
        probability = 1 / (1 + math.exp(-found.output[0]))
        return cls(clean(text).split()[-LENGTH:], found.values[0], probability, label)

    @property
    def verdict(self) -> str:
        """``positive, 97 %``, and whether that is right."""
        positive = self.probability > 0.5
        sure = max(self.probability, 1 - self.probability)
        said = f"{VERDICTS[positive]}, {sure:.1%}"
        if self.label is None:
            return said
        return f"{said} (rightly)" if positive == self.label else f"{said} (wrongly)"

    def lines(self, terminal: Terminal) -> list[str]:
        """The verdict, and the words, coloured by what they speak for."""
        return [
            terminal.paint(self.verdict, "bold"),
            *paint_words(self.words, self.shares, terminal),
        ]

    def picture(self) -> tuple[str, list[str], Array]:
        """For :func:`plots.words`."""
        return self.verdict, self.words, self.shares
