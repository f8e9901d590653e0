"""The program ``seq2seq-attention`` in PyTorch: same dates, sizes and settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tinygrad_ai.data.dates import Pairs
from tinygrad_ai.data.text import PADDING, START
from tinygrad_ai.examples import dates
from tinygrad_ai.examples.dates import DIGITS, LENGTH, LETTERS
from tinygrad_ai.examples.program import Settings
from tinygrad_ai.examples.seq2seq_attention import FEATURES, HIDDEN


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), FEATURES)
        self.reader = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.start = nn.Linear(2 * HIDDEN, HIDDEN)
        self.digits = nn.Embedding(len(DIGITS), FEATURES)
        self.writer = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.query = nn.Linear(HIDDEN, 2 * HIDDEN, bias=False)
        self.mix = nn.Linear(3 * HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, len(DIGITS))

    def read(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        present = source != PADDING
        packed = pack_padded_sequence(
            self.letters(source), present.sum(1), batch_first=True, enforce_sorted=False
        )
        memory, ends = self.reader(packed)
        memory, _ = pad_packed_sequence(memory, batch_first=True, total_length=source.shape[1])
        return present, memory, self.start(torch.cat([ends[0], ends[1]], -1)).tanh()[None]

    def write(self, written: torch.Tensor, state: Any, present: Any, memory: Any) -> Any:
        hidden, state = self.writer(self.digits(written), state)
        query = self.query(hidden)
        scores = query @ memory.transpose(1, 2) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(~present[:, None], -math.inf).softmax(-1)
        return self.head(self.mix(torch.cat([hidden, weights @ memory], -1)).tanh()), state

    def forward(self, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        present, memory, state = self.read(source)
        return self.write(written, state, present, memory)[0].transpose(1, 2)

    def translate(self, source: torch.Tensor) -> torch.Tensor:
        present, memory, state = self.read(source)
        signs = [torch.full((len(source), 1), START)]
        for _ in range(LENGTH):
            logits, state = self.write(signs[-1], state, present, memory)
            signs.append(logits.argmax(-1))
        return torch.cat(signs, 1)


def learnt(settings: Settings, train: Pairs, held: Pairs) -> dict[str, float]:
    """Loss, accuracy and exact matches on ``held`` of a model that learnt from ``train``."""
    torch.manual_seed(settings.seed)
    data = [torch.from_numpy(np.array(part)) for part in dates.examples(*train).arrays]
    source, written, signs = (torch.from_numpy(a) for a in dates.examples(*held).arrays)
    model = Translator()
    steps = settings.epochs * -(-len(data[0]) // settings.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(data[0])).split(settings.batch_size):
            x, before, y = (part[rows] for part in data)
            optimizer.zero_grad()
            cross_entropy(model(x, before), y).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits, found = model(source, written), model.translate(source)
    decoded = [DIGITS.decode(row) for row in found.numpy()]
    return {
        "loss": float(cross_entropy(logits, signs)),
        "accuracy": float((logits.argmax(1) == signs).float().mean()),
        "exact_match": float(np.mean([a == b for a, b in zip(decoded, held[1], strict=True)])),
    }


def seq2seq_attention(settings: Settings) -> dict[str, float]:
    """Loss, accuracy and exact matches on the test dates."""
    train, _, test = dates.dates(settings.data)
    return learnt(settings, train, test)


TWINS: dict[str, Callable[[Settings], dict[str, float]]] = {"seq2seq-attention": seq2seq_attention}
