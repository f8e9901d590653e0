"""500 labelled digits: from scratch, and after learning from all digits without their labels."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_ai import nn, optim, plots, random
from tinygrad_ai.examples import digits
from tinygrad_ai.examples.program import Program, Run, Settings, learn
from tinygrad_ai.train import History, Trainer
from tinygrad_ai.train.terminal import Terminal

LABELLED, HIDDEN = 500, 512

# The peaks were chosen on the last tenth of mnist's training digits, learning from the rest: 500 of
# them with labels, all without; accuracy there, mean of 2 choices of the 500, in torch:
#
#   peak                         0.0005  0.001   0.002   0.004   0.008   0.016   0.032
#   from scratch                                 0.8935  0.8968  0.9037  0.9044  0.9009
#   pre-trained, head alone      0.9121 with 0.003
#                , then all      0.9193  0.9194  0.9189
#
# Dropout of the pixels helps too, and most the one that starts from scratch: with half of them left
# out it comes to 0.9175, the pre-trained one to 0.9213 (mean of 3 choices).
SCRATCH = {"epochs": 60, "batch_size": 50, "lr": 1.6e-2}
HEAD = {"epochs": 20, "batch_size": 50, "lr": 3e-3}
ALL = {"epochs": 40, "batch_size": 50, "lr": 1e-3}


def classifier() -> nn.Module:
    """784-512-10, the hidden layer with a name of its own: it can be learned without labels."""
    encoder = nn.Sequential(digits.Digits(784), nn.Linear(784, HIDDEN), nn.ReLU())
    return nn.Sequential({"encoder": encoder, "head": nn.Linear(HIDDEN, 10)})


def autoencoder(encoder: nn.Module) -> nn.Module:
    """784-512-784: gives back the whole digit, as logits (N, 784), from half of its pixels."""
    decoder = nn.Linear(HIDDEN, 784)
    return nn.Sequential({"noise": nn.Dropout(0.5), "encoder": encoder, "decoder": decoder})


def labelled(y: Any, seed: int) -> tuple[Any, Any]:
    """The indices of the digits to learn from with labels, and of the last tenth, to measure on."""
    held = len(y) - len(y) // 10
    return np.random.default_rng(seed).permutation(held)[:LABELLED], np.arange(held, len(y))


def prepare(settings: Settings) -> Run:
    """``settings`` are those of pre-training, a denoising autoencoder (Vincent et al., 2008)."""
    random.manual_seed(settings.seed)
    (x, y), (x_test, y_test) = digits.DATA[settings.data]()
    few, held = labelled(y, settings.seed)
    scratch, tuned = classifier().to(settings.device), classifier().to(settings.device)
    whole = autoencoder(tuned.encoder).to(settings.device)
    learned: dict[str, list[float]] = {"from scratch": [], "pre-trained": []}

    def trainer(model: nn.Module, loss: str, lr: float, *metrics: str) -> Trainer:
        free = [p for p in model.parameters() if p.requires_grad]
        return Trainer(model, loss, optim.Adam(free, lr), metrics, settings.jit)

    pretrainer = trainer(whole, "bce_with_logits", settings.lr)
    arms = [trainer(m, "cross_entropy", settings.lr, "accuracy") for m in (tuned, scratch)]

    def adapt(name: str, model: nn.Module, how: dict[str, Any], progress: bool) -> bool:
        """Learns from the few labelled digits; whether Ctrl-C let it finish."""
        part = replace(settings, **how)
        history = learn(
            trainer(model, "cross_entropy", part.lr, "accuracy"),
            *(x[few], y[few], part),
            progress=False,
            validation_data=(x[held], y[held]),
        )
        learned[name] += history.history.get("val_accuracy", [])
        if progress and learned[name]:
            said = f"{name}: accuracy {learned[name][-1]:.4f} on {len(held):,} digits held out"
            Terminal(sys.stderr).write(
                f"{said}, after {len(learned[name])} epochs over {LABELLED}\n"
            )
        return not history.interrupted

    def fit(progress: bool) -> History:
        history = learn(pretrainer, x, x.reshape(len(x), 784), settings, progress)
        if not history.interrupted:
            tuned.encoder.requires_grad_(False)  # the code stays until the head can read it
            done = adapt("from scratch", scratch, SCRATCH, progress)
            done = done and adapt("pre-trained", tuned, HEAD, progress)
            tuned.encoder.requires_grad_(True)
            done = done and adapt("pre-trained", tuned, ALL, progress)
            history.interrupted = not done
        return history

    def test() -> dict[str, float]:
        ours, other = (arm.evaluate(x_test, y_test) for arm in arms)
        return ours | {f"scratch_{name}": value for name, value in other.items()}

    title = f"accuracy on digits held out, {LABELLED} labelled ones to learn from"
    run = digits.run(arms[0], fit, x_test, y_test)
    run.test = test
    run.pictures |= {
        "curves.png": lambda path: pretrainer.history.plot(path),
        "arms.png": lambda path: plots.compared(learned, title, path),
    }
    return run


DEFAULTS = (
    Settings("mnist-small", epochs=10, batch_size=64, lr=2e-3),
    Settings("mnist", epochs=8, batch_size=128, lr=2e-3),
)
PROGRAMS = [
    Program("finetune", "500 labelled digits, with pre-training", classifier, prepare, DEFAULTS)
]
