"""The programs ``char-rnn`` and ``char-transformer`` in PyTorch: same data, sizes and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tinygrad_ai.examples import chars
from tinygrad_ai.examples.char_rnn import FEATURES, HIDDEN, LENGTH
from tinygrad_ai.examples.char_transformer import CONTEXT, HEADS, LAYERS, STRIDE, WIDTH
from tinygrad_ai.examples.program import Settings


class CharRNN(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, FEATURES)
        self.rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, characters)
        self.state: Any = None

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        read, state = self.rnn(self.embedding(text), self.state)
        self.state = state.detach()
        return self.head(read).transpose(1, 2)

    def train(self, mode: bool = True) -> CharRNN:
        self.state = None
        return super().train(mode)


class CharTransformer(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters)
        self.mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        angle = torch.arange(CONTEXT)[:, None] / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        self.places = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.embedding(text) + self.places
        for layer in self.layers:
            x = layer(x, src_mask=self.mask, is_causal=True)
        return self.head(self.norm(x)).transpose(1, 2)


def char_rnn(settings: Settings) -> dict[str, float]:
    """Validation loss in nats per character, and accuracy."""

    def cut(text: Any) -> Any:
        return chars.streams(text, settings.batch_size, LENGTH)

    return _learnt(CharRNN, cut, settings, shuffle=False)


def char_transformer(settings: Settings) -> dict[str, float]:
    """Validation loss in nats per character, and accuracy."""
    return _learnt(CharTransformer, lambda t: chars.windows(t, CONTEXT, STRIDE), settings, True)


def _learnt(
    build: Callable[[int], nn.Module], cut: Any, settings: Settings, shuffle: bool
) -> dict[str, float]:
    torch.manual_seed(settings.seed)
    train, held = (
        [torch.from_numpy(np.array(part)) for part in cut(text)]
        for text in chars.tokens(settings.data)
    )
    model = build(len(chars.vocabulary()))
    count = len(train[0])
    steps = settings.epochs * -(-count // settings.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(settings.epochs):
        model.train()
        order = torch.randperm(count) if shuffle else torch.arange(count)
        for rows in order.split(settings.batch_size):
            optimizer.zero_grad()
            cross_entropy(model(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    loss = right = 0.0
    with torch.no_grad():
        for x, y in zip(*(part.split(settings.batch_size) for part in held), strict=True):
            scores = model(x)
            loss += float(cross_entropy(scores, y, reduction="sum"))
            right += float((scores.argmax(1) == y).sum())
    return {"loss": loss / held[1].numel(), "accuracy": right / held[1].numel()}


TWINS: dict[str, Callable[[Settings], dict[str, float]]] = {
    "char-rnn": char_rnn,
    "char-transformer": char_transformer,
}
