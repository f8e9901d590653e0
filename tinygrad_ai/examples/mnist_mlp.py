"""Handwritten digits with a multilayer perceptron: three models, one way to train them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tinygrad_ai import nn, optim, random
from tinygrad_ai.examples import digits
from tinygrad_ai.examples.program import Program, Run, Settings, learn
from tinygrad_ai.train import Trainer


def mlp() -> nn.Module:
    """784-128-10: one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def deep() -> nn.Module:
    """784-64-64-10: two hidden layers, fewer parameters."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def dropout() -> nn.Module:
    """784-128-10 whose hidden units are left out at random, one in five, while it learns."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)
    )


def prepare(build: Callable[[], nn.Module], settings: Settings) -> Run:
    """Adam, its learning rate falling from ``settings.lr`` to 0 along half a cosine."""
    random.manual_seed(settings.seed)
    (x, y), (x_test, y_test) = digits.DATA[settings.data]()
    model = build().to(settings.device)
    optimizer = optim.Adam(model.parameters(), lr=settings.lr)
    trainer = Trainer(model, "cross_entropy", optimizer, ["accuracy"], jit=settings.jit)
    return digits.run(trainer, partial(learn, trainer, x, y, settings), x_test, y_test)


# The peak was chosen on the last tenth of the training digits, learning from the rest; accuracy
# there, mean of 5 seeds (mnist-small) and of 3 (mnist):
#
#   peak              0.001   0.002   0.004   0.008   0.016
#   mnist-small mlp   0.9350  0.9482  0.9546  0.9596  0.9490
#        deep         0.9350  0.9458  0.9506  0.9508  0.9422
#        dropout      0.9356  0.9490  0.9558  0.9550  0.9510
#   mnist mlp         0.9747  0.9805  0.9820  0.9835
#        deep         0.9714  0.9773  0.9793  0.9806
#        dropout      0.9766  0.9811  0.9832  0.9833
#
# Test accuracy with it, mean of seeds 0 to 4: mlp 0.9523, deep 0.9411, dropout 0.9494 from
# mnist-small; mlp 0.9816, deep 0.9797, dropout 0.9813 from mnist.
DEFAULTS = (
    Settings("mnist-small", epochs=10, batch_size=32, lr=8e-3),
    Settings("mnist", epochs=10, batch_size=128, lr=8e-3),
)
PROGRAMS = [
    Program(name, summary, build, partial(prepare, build), DEFAULTS)
    for name, summary, build in [
        ("mnist-mlp", "digits, one hidden layer (784-128-10)", mlp),
        ("mnist-mlp-deep", "digits, two hidden layers (784-64-64-10)", deep),
        ("mnist-dropout", "digits, one hidden layer with dropout 0.2 (784-128-10)", dropout),
    ]
]
