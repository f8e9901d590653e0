"""The programs of ``tinygrad-ai train``, by name."""

from tinygrad_ai.examples import (
    autoencoder,
    char_rnn,
    char_transformer,
    finetune,
    imdb_attention,
    imdb_lstm,
    mnist_cnn,
    mnist_mlp,
    seq2seq_attention,
)
from tinygrad_ai.examples.program import Program, Run, Settings

__all__ = ["PROGRAMS", "Program", "Run", "Settings"]

MODULES = [
    mnist_mlp,
    mnist_cnn,
    autoencoder,
    finetune,
    char_rnn,
    char_transformer,
    imdb_lstm,
    imdb_attention,
    seq2seq_attention,
]
PROGRAMS: dict[str, Program] = {p.name: p for module in MODULES for p in module.PROGRAMS}
