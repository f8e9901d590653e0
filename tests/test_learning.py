"""Every program of ``tinygrad-ai train``, as it runs without arguments, reaches what it states.

On the bundled data, with the defaults; the figures of the full data are in README.
"""

import pytest

from tinygrad_ai.examples import PROGRAMS

#: what the test data must show: the measure, the bound, and whether more is better
STATED = {
    "mnist-mlp": ("accuracy", 0.94, True),
    "mnist-mlp-deep": ("accuracy", 0.93, True),
    "mnist-dropout": ("accuracy", 0.94, True),
    "mnist-cnn": ("accuracy", 0.965, True),
    "autoencoder": ("loss", 0.067, False),
    "finetune": ("accuracy", 0.845, True),
    "imdb-lstm": ("accuracy", 0.72, True),  # 853 sentences: a deviation is 0.015
    "imdb-attention": ("accuracy", 0.75, True),
    "char-rnn": ("loss", 1.75, False),
    "char-transformer": ("loss", 2.1, False),
    "seq2seq-attention": ("exact_match", 0.98, True),
}


@pytest.mark.programs
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_defaults_reach_what_is_stated(name) -> None:
    program = PROGRAMS[name]
    run = program.prepare(program.defaults[0])
    history = run.fit(False)
    measured = run.test()
    measure, bound, more = STATED[name]
    assert (measured[measure] >= bound) if more else (measured[measure] <= bound), measured
    assert not history.interrupted
    if name == "finetune":
        assert measured["accuracy"] > measured["scratch_accuracy"] >= 0.83
