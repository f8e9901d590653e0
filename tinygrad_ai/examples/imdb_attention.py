"""Film reviews with attention: every word looks at all others, and their mean decides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tinygrad_ai import nn, plots
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.data.text import PADDING, Tokenizer, clean
from tinygrad_ai.examples import reviews
from tinygrad_ai.examples.program import Program, Settings
from tinygrad_ai.tensor import Tensor

FEATURES, HEADS = 64, 4
WORD_DROPOUT, DROPOUT = 0.5, 0.2
SLOWER = 0.05  # times the learning rate: quick attention soon sees a single word and learns no more
SHOWN = 20  # words, about, in the picture of attention


class ReviewAttention(nn.Module):
    """Tokens (N, T) → logits (N,): Embedding, bilinear attention, the mean over the words.

    Nothing in it knows the order of the words.
    """

    def __init__(self) -> None:
        self.words = nn.Embedding(reviews.WORDS, FEATURES)
        nn.init.uniform_(self.words.weight, -0.05, 0.05)  # so that all look at all at first
        self.word_dropout = reviews.WordDropout(WORD_DROPOUT)
        self.attention = nn.BilinearAttention(FEATURES, HEADS)
        self.dropout = nn.Dropout(DROPOUT)
        self.verdict = nn.Linear(FEATURES, 1)

    def forward(self, tokens: Any) -> Any:
        words = self.word_dropout(self.words(tokens))
        seen = self.attention(words, tokens == PADDING)
        mean = reviews.mean_of_words(seen, tokens)
        return self.verdict(self.dropout(mean))[:, 0]


def groups(model: Any, lr: float) -> list[dict[str, Any]]:
    """The parameters in two groups: those of attention learn more slowly."""
    slow = list(model.attention.parameters())
    quick = [*model.words.parameters(), *model.verdict.parameters()]
    return [{"params": quick}, {"params": slow, "lr": SLOWER * lr}]


def draw_attention(model: Any, tokenizer: Tokenizer, texts: Sequence[str], path: Any) -> None:
    """Which words look at which, in the one of ``texts`` that has about ``SHOWN``."""
    words = min((clean(text).split() for text in texts), key=lambda w: abs(len(w) - SHOWN))
    tokens = Tensor(tokenizer.encode(" ".join(words))[None], device=model.verdict.weight.device)
    with no_grad():
        _, weights = model.attention(model.words(tokens), need_weights=True)
    plots.attention(weights.numpy()[0], words, words, path)


# Chosen as for imdb-lstm, on a tenth of imdb's training reviews; accuracy there, one seed, torch:
#
#   128 features, dropout 0.2 of the elements                       0.8271
#    32 features, word dropout 0.5                                  0.8286
#    64 features, word dropout 0.5, attention's rate times 0.05     0.8698
#
# and as in the last of these on the last tenth of the training sentences of rotten-tomatoes 0.7249
# with 3 epochs from 4e-3, 0.7549 with 6.
DEFAULTS = (
    Settings("rotten-tomatoes", epochs=6, batch_size=64, lr=4e-3),
    Settings("imdb", epochs=3, batch_size=128, lr=4e-3),
)
PROGRAMS = [
    Program(
        "imdb-attention",
        "film reviews, positive or negative (bilinear attention)",
        ReviewAttention,
        partial(
            reviews.prepare,
            ReviewAttention,
            groups=groups,
            pictures={"attention.png": draw_attention},
        ),
        DEFAULTS,
    )
]
