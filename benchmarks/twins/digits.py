"""Twins of the programs for handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from tinygrad_ai import nn as ours
from tinygrad_ai.examples import PROGRAMS, Settings, digits, finetune

Measures = dict[str, float]


class Digits(nn.Unflatten):
    """(N, 28, 28) → (N, *shape), as the layer of ours."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(1, shape)

    def forward(self, input: Any) -> Any:
        return super().forward(input.flatten(1))


LAYERS: dict[type, Callable[[Any], nn.Module]] = {
    digits.Digits: lambda m: Digits(m.shape),
    ours.Flatten: lambda m: nn.Flatten(),
    ours.ReLU: lambda m: nn.ReLU(),
    ours.Dropout: lambda m: nn.Dropout(m.p),
    ours.MaxPool2d: lambda m: nn.MaxPool2d(m.kernel_size, m.stride, m.padding),
    ours.Linear: lambda m: nn.Linear(m.in_features, m.out_features),
    ours.Conv2d: lambda m: nn.Conv2d(
        m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding
    ),
}


def twin_of(module: Any, made: dict[int, nn.Module] | None = None) -> nn.Module:
    """The layers of ``module`` in torch, with starts of torch's own (the same distributions).

    ``made`` holds the twins of modules by id: what two models share, their twins share.
    """
    made = {} if made is None else made
    if id(module) not in made:
        if isinstance(module, ours.Sequential):
            twin = nn.Sequential()
            for name, child in module.named_children():
                twin.add_module(name, twin_of(child, made))
        else:
            twin = LAYERS[type(module)](module)
        made[id(module)] = twin
    return made[id(module)]


def learn(model: nn.Module, loss: Any, x: Any, y: Any, settings: Settings) -> None:
    """Adam, its learning rate falling to 0 along half a cosine, over shuffled batches."""
    free = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(free, lr=settings.lr, fused=True)
    steps = settings.epochs * -(-len(x) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(x)).split(settings.batch_size):
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def measured(model: nn.Module, loss: Any, x: Any, y: Any) -> Measures:
    """The loss, and of a classifier the accuracy."""
    model.eval()
    output = torch.cat([model(batch) for batch in x.split(256)])
    result = {"loss": loss(output, y).item()}
    if loss is cross_entropy:
        result["accuracy"] = (output.argmax(1) == y).double().mean().item()
    return result


def arrays(settings: Settings) -> tuple[Any, Any, Any, Any]:
    """The digits, with the seed set."""
    torch.manual_seed(settings.seed)
    train, test = digits.DATA[settings.data]()
    x, y, x_test, y_test = (torch.from_numpy(part) for part in (*train, *test))
    return x, y, x_test, y_test


def classify(program: str, settings: Settings) -> Measures:
    x, y, x_test, y_test = arrays(settings)
    model = twin_of(PROGRAMS[program].build())
    learn(model, cross_entropy, x, y, settings)
    return measured(model, cross_entropy, x_test, y_test)


def autoencode(settings: Settings) -> Measures:
    x, _, x_test, _ = arrays(settings)
    model = twin_of(PROGRAMS["autoencoder"].build())
    learn(model, bce, x, x.flatten(1), settings)
    return measured(model, bce, x_test, x_test.flatten(1))


def finetuned(settings: Settings) -> Measures:
    x, y, x_test, y_test = arrays(settings)
    few, _ = finetune.labelled(y, settings.seed)
    model, made = finetune.classifier(), {}
    tuned, scratch = twin_of(model, made), twin_of(finetune.classifier())
    learn(twin_of(finetune.autoencoder(model.encoder), made), bce, x, x.flatten(1), settings)
    tuned.encoder.requires_grad_(False)
    adapt = partial(learn, loss=cross_entropy, x=x[few], y=y[few])
    adapt(scratch, settings=replace(settings, **finetune.SCRATCH))
    adapt(tuned, settings=replace(settings, **finetune.HEAD))
    tuned.encoder.requires_grad_(True)
    adapt(tuned, settings=replace(settings, **finetune.ALL))
    other = measured(scratch, cross_entropy, x_test, y_test)
    result = measured(tuned, cross_entropy, x_test, y_test)
    return result | {f"scratch_{name}": value for name, value in other.items()}


CLASSIFIERS = ("mnist-mlp", "mnist-mlp-deep", "mnist-dropout", "mnist-cnn")
TWINS: dict[str, Callable[[Settings], Measures]] = {
    **{program: partial(classify, program) for program in CLASSIFIERS},
    "autoencoder": autoencode,
    "finetune": finetuned,
}
