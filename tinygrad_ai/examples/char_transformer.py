"""Plays, character by character, with a Transformer that looks back at the last 64 of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tinygrad_ai import nn, optim, plots, random
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.examples import chars
from tinygrad_ai.examples.program import Program, Run, Settings
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import Trainer

WIDTH, LAYERS, HEADS = 128, 4, 4
CONTEXT, STRIDE = 64, 32  # characters of a window, and from one window to the next
LINE = "To be, or not to be: that is the question"


class CharTransformer(nn.Module):
    """Vectors for a character and for its place, causal layers, and scores of the next character.

    The layers normalise first, which trains without warm-up (Xiong et al., 2020).
    """

    def __init__(self, characters: int) -> None:
        self.embedding = nn.Embedding(characters, WIDTH)
        self.places = nn.PositionalEncoding(WIDTH, CONTEXT)
        layer = partial(nn.TransformerEncoderLayer, WIDTH, HEADS, 4 * WIDTH, 0.0, norm_first=True)
        self.layers = nn.ModuleList([layer() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters)

    def forward(self, text: Any) -> Any:
        """Tokens (N, T) → scores (N, characters, T), as ``cross_entropy`` takes them."""
        x = self.begin(text)
        for layer in self.layers:
            x = layer(x, is_causal=True)
        return self.head(self.norm(x)).swapaxes(1, 2)

    def begin(self, text: Any) -> Any:
        """Tokens (N, T) → what the first layer reads, (N, T, WIDTH)."""
        return self.places(self.embedding(text))

    def attention(self, text: Any) -> list[Any]:
        """Tokens (N, T) → for each layer, how much a place looks at which: (N, heads, T, T)."""
        x, found = self.begin(text), []
        for layer in self.layers:
            y = layer.norm1(x)
            found.append(layer.self_attn(y, y, y, average_attn_weights=False, is_causal=True)[1])
            x = layer(x, is_causal=True)
        return found

    def write(self, prompt: str, length: int, seed: int) -> str:
        """``prompt`` and ``length`` characters more."""

        def step(text: Any) -> Any:
            return self(text)[..., -1]

        return chars.write(self, step, prompt, length, seed, context=CONTEXT)


def build() -> CharTransformer:
    """0.8 million parameters."""
    return CharTransformer(len(chars.vocabulary()))


def prepare(settings: Settings) -> Run:
    """Adam, its learning rate falling from ``settings.lr`` to 0 along half a cosine."""
    random.manual_seed(settings.seed)
    train, held = (chars.windows(text, CONTEXT, STRIDE) for text in chars.tokens(settings.data))
    model = build().to(settings.device)
    optimizer = optim.Adam(model.parameters(), lr=settings.lr)
    trainer = Trainer(model, "cross_entropy", optimizer, ["accuracy"], jit=settings.jit)
    run = chars.run(model, trainer, train, held, settings, shuffle=True)
    run.pictures["attention.png"] = lambda path: draw(model, path)
    return run


def draw(model: CharTransformer, path: Path) -> None:
    """Where the last layer looks over a line that everybody knows, its heads taken together."""
    text = Tensor(chars.vocabulary().encode(LINE)[None], device=model.head.weight.device)
    with no_grad():
        weights = model.attention(text)[-1][0].numpy().mean(axis=0)
    names = list(LINE.replace(" ", "␣"))
    plots.attention(weights, names, names, path)


# Chosen on the 5 % of each play before the part that measures, in nats per character; half an epoch
# of windows from the rest, batches of 16, one seed, in torch:
#
#   peak 0.002, learnt places, 100 steps of warm-up, gelu                          1.914
#   as above, embeddings of deviation 0.1 at the start instead of 1                1.879
#   as above, peak 0.004                                                           1.805
#   peak 0.004, sinusoids, no warm-up, relu: every layer as the library has it     1.872
#
# The last is what needs least explaining.
DEFAULTS = (
    Settings("shakespeare-small", epochs=1, batch_size=8, lr=4e-3),
    Settings("shakespeare", epochs=1, batch_size=16, lr=4e-3),
)
PROGRAMS = [
    Program(
        "char-transformer",
        "plays, character by character (4 causal layers of 128)",
        build,
        prepare,
        DEFAULTS,
    )
]
