"""Layers and losses against PyTorch's, over random settings, shapes and values.

One table of strategies and one test: names and shapes of the state, PyTorch's state loaded, values,
gradients in inputs and parameters, running statistics, in and out of training. What PyTorch refuses
must be refused here, too. Recurrent layers and attention have tests of their own.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import nn
from tinygrad_ai.errors import TinygradError
from tinygrad_ai.tensor import Tensor

EPS = float(np.finfo(np.float32).eps)


class Case(NamedTuple):
    """How to make a layer, and the inputs it takes: pairs of a kind and a shape."""

    args: tuple[Any, ...]
    settings: dict[str, Any]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]


# ---------------------------------------------------------------------------- what is drawn

few = st.integers(1, 3)
flag = st.booleans()
epsilon = st.sampled_from([1e-5, 1e-3, 0.1])
batch = st.sampled_from([(), (1,), (2,), (3,)])
lead = st.lists(st.integers(1, 3), max_size=2).map(tuple)
reduction = st.sampled_from(["mean", "sum", "none"])


def sizes(rank, low, high):
    """One size for all axes, or one for each."""
    one = st.integers(low, high)
    return one | st.tuples(*[one] * rank)


def space(rank, low=1):
    return st.tuples(*[st.integers(low, 8)] * rank)


@st.composite
def convolutions(draw, rank, transposed=False):
    groups = draw(st.integers(1, 2))
    channels = groups * draw(few)
    settings = {
        "stride": draw(sizes(rank, 1, 3)),
        "padding": draw(sizes(rank, 0, 2)),
        "dilation": draw(sizes(rank, 1, 2)),
        "groups": groups,
        "bias": draw(flag),
    }
    if transposed:
        settings["output_padding"] = draw(st.integers(0, np.min(settings["stride"]) - 1))
    elif draw(flag):
        same = {"padding": "same", "stride": 1}
        settings |= draw(st.sampled_from([same, same, {"padding": "same"}, {"padding": "valid"}]))
    args = channels, groups * draw(few), draw(sizes(rank, 1, 3))
    return Case(args, settings, (("normal", (*draw(batch), channels, *draw(space(rank)))),))


@st.composite
def pools(draw, rank, low=1, **more):
    shape = (*draw(batch), draw(few), *draw(space(rank, low)))
    settings = {
        "stride": draw(st.none() | sizes(rank, 1, 3)),
        "padding": draw(st.integers(0, 1)),
        "ceil_mode": draw(flag),
        **{name: draw(strategy) for name, strategy in more.items()},
    }
    return Case((draw(sizes(rank, 1, 4)),), settings, (("normal", shape),))


@st.composite
def batch_norms(draw, shape):
    channels = draw(few)
    settings = {
        "eps": draw(epsilon),
        "momentum": draw(st.sampled_from([None, 0.0, 0.1, 0.7, 1.0])),
        "affine": draw(flag),
        "bias": draw(flag),
        "track_running_stats": draw(flag),
    }
    n, *places = draw(shape)
    return Case((channels,), settings, (("normal", (n, channels, *places)),))


@st.composite
def row_norms(draw, **more):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=2))
    normal = draw(st.sampled_from([tuple(shape), shape])) if len(shape) > 1 else shape[0]
    settings = {"elementwise_affine": draw(flag)}
    settings |= {name: draw(strategy) for name, strategy in more.items()}
    return Case((normal,), settings, (("normal", (*draw(lead), *shape)),))


@st.composite
def tables(draw):
    rows = draw(few)
    padding = draw(st.none() | st.integers(-rows, rows - 1))
    return Case((rows, draw(few)), {"padding_idx": padding}, ((f"labels {rows}", draw(lead)),))


@st.composite
def linears(draw):
    width = draw(st.integers(1, 6))
    return Case((width, draw(few)), {"bias": draw(flag)}, (("normal", (*draw(lead), width)),))


@st.composite
def flattened(draw):
    shape = draw(st.lists(few, min_size=2, max_size=4).map(tuple))
    start = draw(st.integers(-len(shape), len(shape) - 1))
    end = draw(st.integers(start % len(shape), len(shape) - 1))
    return Case((start, end), {}, (("normal", shape),))


@st.composite
def elementwise(draw, *args):
    kind = draw(st.sampled_from(["normal", "small", "large"]))
    return Case(tuple(map(draw, args)), {}, ((kind, draw(lead)),))


@st.composite
def along_an_axis(draw):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Case((axis,), {}, ((draw(st.sampled_from(["normal", "large"])), shape),))


@st.composite
def regressions(draw, weighted=False, **more):
    shape = draw(lead)
    settings = {"reduction": draw(reduction)}
    settings |= {name: draw(strategy) for name, strategy in more.items()}
    if weighted:
        settings["weight"] = weights(draw, shape)
    return Case((), settings, (("normal", shape), ("normal", shape)))


@st.composite
def answers(draw, kind):
    shape = (*draw(lead), draw(few))
    settings = {"reduction": draw(reduction), "weight": draw(st.none() | st.just("weight"))}
    if settings["weight"]:
        settings["weight"] = weights(draw, shape[draw(st.integers(0, len(shape) - 1)) :])
    if kind == "normal" and draw(flag):
        settings["pos_weight"] = weights(draw, shape[-1:])
    return Case((), settings, ((kind, shape), ("unit", shape)))


@st.composite
def classifications(draw, kind, **more):
    classes, rows = draw(st.integers(1, 4)), draw(batch)
    places = draw(lead) if rows else ()
    settings = {"reduction": draw(reduction)}
    settings |= {name: draw(strategy) for name, strategy in more.items()}
    if draw(flag):
        settings["weight"] = weights(draw, (classes,))
    if draw(flag):
        settings["ignore_index"] = draw(st.integers(-1, classes - 1))
    shape = (*rows, classes, *places)
    target = f"labels {classes}", (*rows, *places)
    if more and draw(flag):
        settings.pop("ignore_index", None)  # which PyTorch refuses for probabilities
        target = "shares", shape
    return Case((), settings, ((kind, shape), target))


@st.composite
def divergences(draw):
    shape = (*draw(lead), draw(few))
    settings = {
        "reduction": draw(reduction | st.just("batchmean")),
        "log_target": draw(flag),
    }
    target = "log shares" if settings["log_target"] else "shares"
    return Case((), settings, (("log shares", shape), (target, shape)))


def weights(draw, shape):
    return np.random.default_rng(draw(st.integers(0, 99))).uniform(0.5, 2, shape)


# A window of nothing but padding (dilation above the input's size) makes PyTorch write outside of
# its memory, so maxima are taken of two elements or more.
LAYERS = {
    "Linear": linears(),
    "Conv1d": convolutions(1),
    "Conv2d": convolutions(2),
    "ConvTranspose2d": convolutions(2, transposed=True),
    "MaxPool1d": pools(1, 2, dilation=st.integers(1, 2)),
    "MaxPool2d": pools(2, 2, dilation=sizes(2, 1, 2)),
    "AvgPool1d": pools(1, count_include_pad=flag),
    "AvgPool2d": pools(
        2, count_include_pad=flag, divisor_override=st.none() | st.sampled_from([-2, 1, 3])
    ),
    "BatchNorm1d": batch_norms(st.tuples(st.integers(1, 4)) | st.tuples(few, few)),
    "BatchNorm2d": batch_norms(st.tuples(few, few, few)),
    "LayerNorm": row_norms(eps=epsilon, bias=flag),
    "RMSNorm": row_norms(eps=st.none() | epsilon),
    "Embedding": tables(),
    "Dropout": elementwise(st.sampled_from([0.0, 1.0])),
    "Flatten": flattened(),
    "ReLU": elementwise(),
    "LeakyReLU": elementwise(st.floats(-0.5, 1.5)),
    "ELU": elementwise(st.floats(0.1, 2)),
    "SELU": elementwise(),
    "GELU": elementwise(st.sampled_from(["none", "tanh"])),
    "SiLU": elementwise(),
    "Sigmoid": elementwise(),
    "Tanh": elementwise(),
    "Softplus": elementwise(st.sampled_from([0.5, 1.0, 3.0]), st.just(30.0)),
    "Softmax": along_an_axis(),
    "LogSoftmax": along_an_axis(),
    "MSELoss": regressions(),
    "L1Loss": regressions(),
    "HuberLoss": regressions(delta=st.floats(0.1, 3)),
    "mse_loss": regressions(weighted=True),
    "l1_loss": regressions(weighted=True),
    "huber_loss": regressions(weighted=True, delta=st.floats(0.1, 3)),
    "BCELoss": answers("unit"),
    "BCEWithLogitsLoss": answers("normal"),
    "CrossEntropyLoss": classifications("normal", label_smoothing=st.sampled_from([0.0, 0.1, 1.0])),
    "NLLLoss": classifications("log shares"),
    "KLDivLoss": divergences(),
}


def numbers(rng, kind, shape):
    """An array that float32 holds exactly, or integers."""
    if kind.startswith("labels"):
        return rng.integers(0, int(kind.split()[1]), shape)
    if kind == "unit":
        return np.float32(rng.uniform(0.02, 0.98, shape))
    if kind.endswith("shares"):
        shares = np.float32(rng.dirichlet(np.ones(shape[-1]), shape[:-1]) * 0.9 + 0.05)
        return np.log(shares) if kind == "log shares" else shares
    return np.float32({"small": 1e-3, "normal": 1, "large": 40}[kind] * rng.standard_normal(shape))


# ------------------------------------------------------------------------------- the two sides


class Ours:
    nn = nn

    @staticmethod
    def tensor(array, requires_grad=False):
        return Tensor(array, requires_grad=requires_grad)

    @staticmethod
    def to(module, dtype):
        return module.to(dtype=dtype)

    @staticmethod
    def array(tensor):
        return tensor.numpy()


class Torch:
    def __init__(self):
        import torch  # noqa: PLC0415  (the extra `ci`)

        torch.set_num_threads(1)
        self.torch, self.nn, self.tensor = torch, torch.nn, torch.tensor

    def to(self, module, dtype):
        return module.to(self.torch.float64 if dtype == np.float64 else self.torch.float32)

    @staticmethod
    def array(tensor):
        return tensor.detach().numpy()


@pytest.fixture(scope="module")
def torch():
    return Torch()


def made(side, name, case, dtype):
    """The layer or function, and its module or None."""
    settings = {
        key: side.tensor(v.astype(dtype)) if isinstance(v, np.ndarray) else v
        for key, v in case.settings.items()
    }
    if name.islower():
        function = getattr(side.nn.functional, name)
        return (lambda *inputs: function(*inputs, **settings)), None
    args = case.args[:1] if name == "Softplus" and side is Ours else case.args
    module = side.to(getattr(side.nn, name)(*args, **settings), dtype)
    return module, module


def results(side, name, case, dtype, state, calls):
    """Every array that comes out: values, gradients and buffers, by name."""
    layer, module = made(side, name, case, dtype)
    found = {}
    if module is not None:
        module.load_state_dict({k: side.tensor(v) for k, v in state.items()})
    for k, (training, arrays, seed) in enumerate(calls):
        if module is not None:
            module.train(training)
        inputs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        inputs = [side.tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs]
        y = layer(*inputs)
        found[f"output {k}"] = side.array(y)
        if y.requires_grad:
            g = np.float32(np.random.default_rng(seed).standard_normal(tuple(y.shape)))
            y.backward(side.tensor(g.astype(dtype)))
        for n, t in enumerate(inputs):
            if t.requires_grad:
                zeros = np.zeros(tuple(t.shape), dtype)
                found[f"gradient {k} of input {n}"] = (
                    zeros if t.grad is None else side.array(t.grad)
                )
    for key, p in module.named_parameters() if module is not None else ():
        found[f"gradient of {key}"] = side.array(p.grad)
    for key, b in module.named_buffers() if module is not None else ():
        found[key] = side.array(b)
    return found


def filled(side, name, case, rng):
    """A state of random numbers that float32 holds."""
    module = made(side, name, case, np.float64)[1]
    signed = {key for key, _ in module.named_parameters()} if module is not None else ()
    state = {} if module is None else module.state_dict()
    return {
        key: side.array(v)
        if side.array(v).dtype.kind != "f"
        else np.float32(
            rng.uniform(0.5, 1.5, tuple(v.shape))
            * (rng.choice([-1, 1], tuple(v.shape)) if key in signed else 1)
        )
        for key, v in state.items()
    }


def scale_of(expected, arrays):
    """What an error is measured by: the largest number that is about."""
    return max(
        [1.0, *(abs(a).max() for a in (expected, *arrays) if a.size and a.dtype.kind == "f")]
    )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides", "ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_it_is_that_of_torch(torch, name, data):
    case = data.draw(LAYERS[name])
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    modes = (True, True, False)
    calls = [(m, [numbers(rng, *i) for i in case.inputs], seed + k) for k, m in enumerate(modes)]
    try:
        state = filled(torch, name, case, rng)
        exact = results(torch, name, case, np.float64, state, calls)
    except (RuntimeError, ValueError):
        with pytest.raises((TinygradError, NotImplementedError)):
            made(Ours, name, case, np.float64)[0](*map(Tensor, calls[0][1]))
        return
    module = made(Ours, name, case, np.float64)[1]
    if module is not None:
        shapes = {key: tuple(v.shape) for key, v in module.state_dict().items()}
        assert list(shapes.items()) == [(key, v.shape) for key, v in state.items()]
    theirs = results(torch, name, case, np.float32, state, calls)
    for dtype, peer in ((np.float64, exact), (np.float32, theirs)):
        ours = results(Ours, name, case, dtype, state, calls)
        assert list(ours) == list(exact)
        for key, expected in exact.items():
            found = ours[key]
            scale = scale_of(expected, calls[0][1])
            assert found.shape == expected.shape and found.dtype == peer[key].dtype
            err = np.max(abs(peer[key] - expected), initial=0)
            allowed = 1e-10 * scale if peer is exact else 4 * err + 8 * EPS * scale
            np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=key)
