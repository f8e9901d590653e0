"""Steps run plainly and compiled, side by side."""

import numpy as np

import tinygrad_ai as ta

RNG = np.random.default_rng(5)


def both(make, *calls):
    """What ``make(wrap)``, a step and the tensors it changes, leaves call after call: twice."""
    found = []
    for wrap in (lambda f: f, ta.jit):
        step, kept = make(wrap)
        seen = []
        for arguments in calls:
            out = step(*arguments)
            seen += [x.numpy().copy() for x in (*out, *kept)]
        found.append(seen)
    return found


def same(make, *calls):
    """Alike but for the order of float64 sums."""
    for plain, compiled in zip(*both(make, *calls), strict=True):
        np.testing.assert_allclose(compiled, plain, 1e-12, 1e-13)


def numbers(*shape):
    return RNG.standard_normal(shape)
