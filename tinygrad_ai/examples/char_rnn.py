"""Plays, character by character, with a recurrent net that reads them from beginning to end."""

from __future__ import annotations

from typing import Any

from tinygrad_ai import nn, optim, random
from tinygrad_ai.creation import zeros
from tinygrad_ai.examples import chars
from tinygrad_ai.examples.program import Program, Run, Settings
from tinygrad_ai.train import Trainer

FEATURES, HIDDEN = 64, 256  # of a character, of the state
LENGTH = 64  # characters of a batch's row: as far as gradients reach back


class CharRNN(nn.Module):
    """A vector for each character, a tanh RNN over them, and scores of the next character."""

    def __init__(self, characters: int) -> None:
        self.embedding = nn.Embedding(characters, FEATURES)
        self.rnn = nn.RNN(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, characters)

    def forward(self, text: Any, state: Any = None) -> tuple[Any, Any]:
        """Tokens (N, T) → scores (N, T, characters), and the state (1, N, HIDDEN) after them."""
        read, state = self.rnn(self.embedding(text), state)
        return self.head(read), state

    def write(self, prompt: str, length: int, seed: int) -> str:
        """``prompt`` and ``length`` characters more."""
        return chars.write(self, self, prompt, length, seed, stateful=True)


class Carried(nn.Module):
    """A :class:`CharRNN` that goes on where it stopped, for batches of ``streams`` that do so.

    The state of one batch is where the next begins, detached, so that gradients end there:
    truncated backpropagation through time (Williams and Peng, 1990). A pass over a text begins with
    ``train()`` or ``eval()``, which forget the state. A batch of another size stands alone.
    """

    def __init__(self, model: CharRNN, streams: int) -> None:
        self.model = model
        state = zeros((1, streams, HIDDEN), device=model.head.weight.device)
        self.register_buffer("state", state, persistent=False)

    def train(self, mode: bool = True) -> Carried:
        self.state[...] = 0
        return super().train(mode)

    def forward(self, text: Any) -> Any:
        """Tokens (N, T) → scores (N, characters, T), as ``cross_entropy`` takes them."""
        carries = text.shape[0] == self.state.shape[1]
        scores, state = self.model(text, self.state.copy() if carries else None)
        if carries:
            self.state[...] = state.detach()
        return scores.swapaxes(1, 2)


def build() -> CharRNN:
    """0.1 million parameters."""
    return CharRNN(len(chars.vocabulary()))


def prepare(settings: Settings) -> Run:
    """Adam, its learning rate falling from ``settings.lr`` to 0 along half a cosine.

    The text is read as ``settings.batch_size`` streams side by side.
    """
    random.manual_seed(settings.seed)
    train, held = (
        chars.streams(text, settings.batch_size, LENGTH) for text in chars.tokens(settings.data)
    )
    model = build().to(settings.device)
    optimizer = optim.Adam(model.parameters(), lr=settings.lr)
    carried = Carried(model, settings.batch_size)
    trainer = Trainer(carried, "cross_entropy", optimizer, ["accuracy"], jit=settings.jit)
    return chars.run(model, trainer, train, held, settings, shuffle=False)


# Chosen on the 5 % of each play before the part that measures, in nats per character; 4 epochs of a
# quarter of the rest, one seed, in torch:
#
#   peak              0.002  0.004  0.008
#   batches of 16     1.945  1.878  1.848
#              32     2.041  1.957  1.879
#              64                   2.000
#
# 4 epochs of all the rest, batches of 32, 0.004: 1.584. The highest peak is for few steps, and five
# epochs of everything have five times as many as these.
DEFAULTS = (
    Settings("shakespeare-small", epochs=5, batch_size=16, lr=4e-3),
    Settings("shakespeare", epochs=5, batch_size=32, lr=4e-3),
)
PROGRAMS = [
    Program(
        "char-rnn",
        "plays, character by character (tanh RNN of 256)",
        build,
        prepare,
        DEFAULTS,
    )
]
