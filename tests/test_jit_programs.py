"""The first steps of every program of ``tinygrad-ai train``: compiled they are the eager ones."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from tinygrad_ai.config import without_kernels
from tinygrad_ai.examples import PROGRAMS
from tinygrad_ai.testing.compiled import shared_by
from tinygrad_ai.train import fitting
from tinygrad_ai.train.step import CompiledStep, train_step

STEPS = 4  # of each call of fit
LOSS = 1e-6  # of the loss
GRADIENT = 1e-5  # of a parameter's largest one
WAY = 1e-3  # of a step: Adam turns a gradient that is rounding alone into a whole one


class Watched:
    """Takes steps, and keeps what each leaves: the losses, gradients by name, all parameters.

    Each begins where that of ``guide`` began: differences of rounding would grow from step to step,
    and turn over a relu here and there.
    """

    def __init__(self, take, guide):
        self.take, self.guide = take, guide
        self.losses, self.gradients, self.begun, self.ended = [], [], [], []

    def __call__(self, model, *arguments):
        named = dict(model.named_parameters())
        if self.guide is not None:
            for name, value in self.guide.begun[len(self.begun)].items():
                named[name].detach()[...] = value
        self.begun.append(self.place(named))
        made = self.take(model, *arguments)
        self.losses.append([float(loss.item()) for loss, _ in made])
        self.gradients.append(
            {k: p.grad.numpy().copy() for k, p in named.items() if p.grad is not None}
        )
        self.ended.append(self.place(named))
        return made

    def place(self, named):
        return {name: p.numpy().copy() for name, p in named.items()}


def joined(place):
    return np.concatenate([value.ravel() for value in place.values()]).astype("float64")


def watched(name, take, guides=()):
    """The first steps of every fit of a program, one :class:`Watched` for each."""
    groups, kept, led = fitting.Fitting._groups, [], iter(guides)

    def few(self):
        self.epochs = self.epoch  # no other epoch
        return islice(groups(self), STEPS)

    class Fitting(fitting.Fitting):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.take = Watched(take(), next(led, None))
            kept.append(self.take)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Fitting, "_groups", few)
        patch.setattr("tinygrad_ai.train.trainer.Fitting", Fitting)
        program = PROGRAMS[name]
        program.prepare(replace(program.defaults[0], epochs=1)).fit(False)
    return kept


def by_numpy(*arguments):
    """An eager step without kernels: they round otherwise, and have tests of their own."""
    with without_kernels():
        return train_step(*arguments)


@pytest.mark.programs
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_steps_are_eager_ones(name):
    """Losses, gradients and parameters; and the same bits with three threads as with one."""
    eager = watched(name, lambda: by_numpy)
    compiled = watched(name, CompiledStep, eager)
    for a, b in zip(eager, compiled, strict=True):
        assert b.take.reason is None and b.take.step.captures
        np.testing.assert_allclose(b.losses, a.losses, LOSS)
        for k, (mine, other) in enumerate(zip(a.gradients, b.gradients, strict=True)):
            assert mine.keys() == other.keys() and mine
            for parameter, g in mine.items():
                error = abs(other[parameter] - g).max() / abs(g).max()
                assert error <= GRADIENT, (k, parameter, error)
            begun, ended = joined(a.begun[k]), joined(a.ended[k])
            assert np.linalg.norm(ended - begun) > 0
            apart = np.linalg.norm(joined(b.ended[k]) - ended)
            assert apart <= WAY * np.linalg.norm(ended - begun), (k, apart)
    with shared_by(3):
        for a, b in zip(compiled, watched(name, CompiledStep, eager), strict=True):
            assert a.losses == b.losses
            for one, other in zip(a.ended, b.ended, strict=True):
                np.testing.assert_array_equal(joined(one), joined(other))
