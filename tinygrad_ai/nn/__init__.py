"""Layers, losses and initialisers, with PyTorch's names and defaults."""

from tinygrad_ai.nn import functional, init
from tinygrad_ai.nn.activations import (
    ELU,
    GELU,
    SELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tinygrad_ai.nn.attention import BilinearAttention, MultiheadAttention
from tinygrad_ai.nn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_ai.nn.containers import ModuleList, Sequential
from tinygrad_ai.nn.conv import (
    AvgPool1d,
    AvgPool2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    MaxPool1d,
    MaxPool2d,
)
from tinygrad_ai.nn.linear import Dropout, Embedding, Flatten, Linear
from tinygrad_ai.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
)
from tinygrad_ai.nn.module import Module, Parameter
from tinygrad_ai.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from tinygrad_ai.nn.recurrent import GRU, LSTM, RNN
from tinygrad_ai.nn.transformer import PositionalEncoding, TransformerEncoderLayer

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BilinearAttention",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "GRU",
    "GRUCell",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "PositionalEncoding",
    "RMSNorm",
    "RNN",
    "RNNCell",
    "ReLU",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerEncoderLayer",
    "functional",
    "init",
]
