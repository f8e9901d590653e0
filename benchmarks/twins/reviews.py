"""The programs for film reviews in torch: the same data, model, settings and test metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tinygrad_ai.data import DataLoader
from tinygrad_ai.data.text import PADDING, LengthLoader, Tokenizer
from tinygrad_ai.examples import imdb_attention, imdb_lstm
from tinygrad_ai.examples.program import Settings
from tinygrad_ai.examples.reviews import DATA, WORDS, sequences


def table(features: int) -> nn.Embedding:
    """The embedding of both programs."""
    words = nn.Embedding(WORDS, features)
    nn.init.uniform_(words.weight, -0.05, 0.05)
    return words


def without_words(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """As ``WordDropout``."""
    return x * F.dropout(torch.ones(*x.shape[:-1], 1), p, training)


def mean_of_words(x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    counted = (tokens != PADDING)[..., None]
    return x.masked_fill(~counted, 0).sum(1) / counted.sum(1)


class ReviewLSTM(nn.Module):
    """torch's fused LSTM has no recurrent dropout, so this is its cell, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.words = table(128)
        self.cell = nn.LSTMCell(128, 64)
        self.verdict = nn.Linear(64, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = without_words(self.words(tokens), imdb_lstm.WORD_DROPOUT, self.training)
        x = F.dropout(x, imdb_lstm.DROPOUT, self.training)
        h = c = x.new_zeros(len(x), 64)
        kept = F.dropout(torch.ones_like(h), imdb_lstm.RECURRENT_DROPOUT, self.training)
        states = []
        for step, word in zip(x.unbind(1), (tokens != PADDING)[..., None].unbind(1), strict=True):
            after = self.cell(step, (h * kept, c))
            h, c = torch.where(word, after[0], h), torch.where(word, after[1], c)
            states.append(h)
        mean = mean_of_words(torch.stack(states, 1), tokens)
        return self.verdict(F.dropout(mean, imdb_lstm.LAST_DROPOUT, self.training))[:, 0]


class ReviewAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        dim, heads = imdb_attention.FEATURES, imdb_attention.HEADS
        self.words = table(dim)
        self.W = nn.Parameter(torch.empty(heads, dim, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.s = nn.Linear(heads, 1, bias=False)
        self.verdict = nn.Linear(dim, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        v = without_words(self.words(tokens), imdb_attention.WORD_DROPOUT, self.training)
        form = torch.einsum("k,kij->ij", self.s.weight[0], self.W)
        scores = ((v @ form) @ v.mT).masked_fill((tokens == PADDING)[:, None], -torch.inf)
        mean = mean_of_words(scores.softmax(-1) @ v, tokens)
        return self.verdict(F.dropout(mean, imdb_attention.DROPOUT, self.training))[:, 0]

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """As :func:`imdb_attention.groups`."""
        quick = [*self.words.parameters(), *self.verdict.parameters()]
        slow = [self.W, self.s.weight]
        return [{"params": quick}, {"params": slow, "lr": imdb_attention.SLOWER * lr}]


def train(build: Callable[[], Any], settings: Settings) -> dict[str, float]:
    """The test loss and accuracy after training as ``settings`` say."""
    torch.manual_seed(settings.seed)
    (texts, y), (texts_test, y_test) = DATA[settings.data]()
    tokenizer = Tokenizer(num_words=WORDS).fit(texts)
    loader = LengthLoader(sequences(tokenizer, texts, y), settings.batch_size, settings.seed)
    model = build()
    groups = model.groups(settings.lr) if hasattr(model, "groups") else model.parameters()
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    steps = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(settings.epochs):
        for tokens, labels in map(tensors, loader):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(tokens), labels).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    test = [tensors(batch) for batch in DataLoader(sequences(tokenizer, texts_test, y_test), 250)]
    with torch.no_grad():
        logits = torch.cat([model(tokens) for tokens, _ in test])
    true = torch.cat([labels for _, labels in test])
    return {
        "loss": F.binary_cross_entropy_with_logits(logits, true).item(),
        "accuracy": ((logits > 0) == (true == 1)).double().mean().item(),
    }


def tensors(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, labels = (torch.tensor(np.asarray(part)) for part in batch)
    return tokens, labels


TWINS: dict[str, Callable[[Settings], dict[str, float]]] = {
    "imdb-lstm": partial(train, ReviewLSTM),
    "imdb-attention": partial(train, ReviewAttention),
}
