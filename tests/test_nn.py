"""Modules: what they hold, how they are saved and shown, and that the layers are PyTorch's."""

import copy
import math
import traceback
import warnings

import numpy as np
import pytest
from gradcheck import check
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import nn, random
from tinygrad_ai.errors import DTypeError, IndexRangeError, ShapeError, ValueRangeError
from tinygrad_ai.tensor import Tensor

seeds = st.integers(0, 2**31)
sizes = st.sampled_from([1, 2, 3, 5])


class Net(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(784, 128)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        return self.fc2(self.drop(nn.functional.relu(self.fc1(x))))


def ones(*shape, dtype=np.float32):
    return Tensor(np.ones(shape, dtype))


# ------------------------------------------------------------------------------ what is inside


def test_parameters_come_by_path_and_in_order():
    names = [name for name, _ in Net().named_parameters()]
    assert names == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    model = Net()
    assert [type(m).__name__ for m in model.modules()] == ["Net", "Linear", "Dropout", "Linear"]
    assert all(p.requires_grad for p in model.parameters())
    assert model.fc1.weight.name == "weight"


def test_shared_parameters_come_once_but_are_saved_under_each_name():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert set(model.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert "total: 15 parameters" in model.summary()


def test_a_parameter_cannot_be_lost():
    layer = nn.Linear(2, 2)
    with pytest.raises(DTypeError, match=r"Linear\.weight is a Parameter"):
        layer.weight = layer.weight * 2
    layer.bias = None
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    with pytest.warns(UserWarning, match="ModuleList"):
        layer.hidden = [nn.ReLU()]


def test_a_typo_is_answered_with_the_right_name():
    with pytest.raises(AttributeError, match=r"Net has no attribute 'fc11'; did you mean 'fc1'\?"):
        Net().fc11  # noqa: B018
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)


def test_train_and_eval_reach_everything():
    model = Net()
    x = ones(4, 784)
    assert not np.array_equal(model(x).numpy(), model(x).numpy())
    model.eval()
    assert not model.drop.training
    np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())
    assert model.train().drop.training


def test_freezing_and_clearing():
    model = Net()
    model.fc1.requires_grad_(False)
    model(ones(2, 784)).sum().backward()
    assert model.fc1.weight.grad is None and model.fc2.weight.grad is not None
    model.zero_grad()
    assert model.fc2.weight.grad is None
    assert "of which 1,290 are trained" in model.summary()


def test_to_changes_the_dtype_but_not_the_parameters():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = list(model.parameters())
    model.to(dtype=np.float64)
    assert all(p is q for p, q in zip(before, model.parameters(), strict=True))
    assert model[1].running_mean.dtype == np.float64
    assert model[1].num_batches_tracked.dtype == np.int64
    model(ones(4, 3, dtype=np.float64)).sum().backward()
    assert {p.grad.dtype for p in before} == {np.dtype(np.float64)}
    model.to("cpu", np.float32)
    assert {p.grad.dtype for p in before} == {np.dtype(np.float32)}


def test_apply_and_copy():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def start(module):
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)

    model.apply(start)
    twin = copy.deepcopy(model)
    nn.init.zeros_(model[0].weight)
    assert twin[0].weight.tolist() == [[1, 1], [1, 1]] and twin[0].weight.requires_grad
    assert isinstance(twin[0].weight, nn.Parameter)


# ---------------------------------------------------------------------------- saving, loading


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "takes a dict of arrays, not a NoneType"),
        ([1], "takes a dict of arrays, not a list"),
        ({"bias": [0.0], "weight": np.ones((1, 1))}, "bias is list, not a Tensor or an array"),
        ({"bias": 0.0, "weight": np.ones((1, 1))}, "bias is float, not"),
        ({"weight": np.ones((1, 1)), "bias": np.ones(1, complex)}, "bias is complex128, not"),
        ({"weight": np.ones((1, 1)), "bias": np.array(["a"])}, "bias is <U1, not"),
    ],
)
def test_a_state_of_wrong_values_changes_nothing(state, message):
    layer = nn.Linear(1, 1)
    before = layer.weight.item()
    with pytest.raises(DTypeError, match=message):
        layer.load_state_dict(state)
    assert layer.weight.item() == before


def test_a_state_is_loaded_whole():
    source, target = Net(), Net()
    state = {name: t.numpy().astype(np.float64) for name, t in source.state_dict().items()}
    weight = target.fc1.weight
    array = weight.array
    target.load_state_dict(state)
    assert target.fc1.weight is weight and weight.array is array and weight.dtype == np.float32
    for name, tensor in target.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), source.state_dict()[name].numpy())
    target.load_state_dict(source.state_dict())


def test_a_state_that_does_not_fit_is_named_and_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    state = {"0.weight": np.zeros((2, 3)), "0.bias": np.zeros(3), "extra": np.zeros(1)}
    with pytest.raises(ShapeError) as caught:
        model.load_state_dict(state)
    for part in ("missing: 1.weight, 1.bias", "unexpected: extra",
                 "0.weight: (2, 3) in the state, (3, 2) in the module"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(ShapeError, match="another shape"):
        model.load_state_dict(state, strict=False)
    for name, values in before.items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), values)
    del state["0.weight"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["0.weight", "1.weight", "1.bias"], ["extra"])
    assert model[0].bias.tolist() == [0, 0, 0]


def test_buffers_are_saved_but_not_trained():
    norm = nn.BatchNorm2d(3)
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(norm.state_dict()) == names
    assert [n for n, _ in norm.named_parameters()] == ["weight", "bias"]
    assert [n for n, _ in norm.named_buffers()] == names[2:]
    with pytest.raises(DTypeError, match="buffer"):
        norm.running_mean = 3


# ------------------------------------------------------------------------------------ to see


def test_repr_is_as_in_pytorch():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Sequential(nn.ReLU()))
    expected = """Sequential(
  (0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
  (1): Sequential(
    (0): ReLU()
  )
)"""
    assert repr(model) == expected
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
    pool = "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    assert repr(nn.MaxPool2d(2)) == pool


def test_summary_shows_shapes_and_arithmetic():
    model = Net()
    text = model.summary((32, 784))
    for line in (
        "fc1 (Linear)    (32, 128)     784*128 + 128 = 100,480",
        "drop (Dropout)  (32, 128)     0",
        "fc2 (Linear)    (32, 10)      128*10 + 10 = 1,290",
        "total: 101,770 parameters",
    ):
        assert line in text.splitlines()
    assert model.training and model.drop.training and "forward" not in vars(model.fc1)
    assert "fc2 (Linear)    128*10 + 10 = 1,290" in model.summary().splitlines()
    table = nn.Sequential(nn.Embedding(5, 2)).summary((3, 4), dtype=np.int64)
    assert "0 (Embedding)  (3, 4, 2)     2*5 = 10" in table.splitlines()


def test_an_error_says_in_which_layer():
    model = nn.Sequential(nn.Flatten(), Net())
    with pytest.raises(ShapeError) as caught:
        model(ones(3, 10, 10))
    notes = caught.value.__notes__
    assert sum("in model" in note for note in notes) == 1
    assert f"in model.1.fc1 (Linear), {__file__}:" in notes[-1]
    assert "in model.1.fc1 (Linear)" in "".join(traceback.format_exception(caught.value))


# ----------------------------------------------------------------------------------- containers


def test_sequential_and_lists():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(a, b).append(c)
    assert list(model) == [a, b, c] and len(model) == 3 and model[-1] is c
    assert list(model[1:]) == [b, c] and isinstance(model[1:], nn.Sequential)
    named = nn.Sequential({"first": a, "last": c})
    assert named.first is a and next(iter(named.state_dict())) == "first.weight"
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(list(layers.parameters())) == 6 and isinstance(layers[:2], nn.ModuleList)
    with pytest.raises(IndexRangeError, match="3 modules"):
        layers[3]
    with pytest.raises(DTypeError, match="builtin_function_or_method"):
        nn.Sequential(a, print)


# ---------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize(
    ("fill", "variance", "bound"),
    [
        (nn.init.xavier_uniform_, 2 / 700, math.sqrt(6 / 700)),
        (nn.init.xavier_normal_, 2 / 700, None),
        (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"), 2 / 300, math.sqrt(6 / 300)),
        (lambda t: nn.init.kaiming_normal_(t, mode="fan_out", a=1.0), 1 / 400, None),
        (lambda t: nn.init.uniform_(t, -1, 3), 16 / 12, None),
        (lambda t: nn.init.normal_(t, 2.0, 0.5), 0.25, None),
    ],
)
def test_initialisers_have_the_variance_of_their_formula(fill, variance, bound):
    random.manual_seed(1)
    weight = nn.Parameter(np.zeros((400, 300), np.float32))
    assert fill(weight) is weight
    values = weight.numpy()
    assert values.var() == pytest.approx(variance, rel=0.03)
    assert bound is None or 0.99 * bound < abs(values).max() <= bound
    assert weight.version[0] == 1 and weight.is_leaf


def test_orthogonal_rows_or_columns():
    for shape in ((3, 5), (5, 3), (4, 2, 2)):
        w = nn.init.orthogonal_(nn.Parameter(np.zeros(shape)), gain=2.0).numpy()
        w = w.reshape(shape[0], -1)
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, 4 * np.eye(min(w.shape)), atol=1e-12)


def test_constants_gains_and_errors():
    assert nn.init.constant_(nn.Parameter(np.zeros(2)), 3).tolist() == [3, 3]
    assert nn.init.calculate_gain("leaky_relu", 1) == 1 and nn.init.calculate_gain("tanh") == 5 / 3
    with pytest.raises(ValueRangeError, match="swish"):
        nn.init.calculate_gain("swish")
    with pytest.raises(ShapeError, match="two axes"):
        nn.init.xavier_uniform_(nn.Parameter(np.zeros(3)))
    with pytest.raises(ValueRangeError, match="mode"):
        nn.init.kaiming_normal_(nn.Parameter(np.zeros((3, 3))), mode="fan")


def test_layers_start_within_the_bound_and_from_the_seed():
    random.manual_seed(5)
    first = nn.Conv2d(4, 6, 3, groups=2)
    assert abs(first.weight.numpy()).max() <= 1 / math.sqrt(18)
    random.manual_seed(5)
    second = nn.Conv2d(4, 6, 3, groups=2)
    np.testing.assert_array_equal(first.weight.numpy(), second.weight.numpy())
    table = nn.Embedding(4, 3, padding_idx=1).weight.numpy()
    assert not table[1].any() and table[0].all()


def test_a_table_of_given_rows():
    rows = np.arange(6.0).reshape(3, 2)
    table = nn.Embedding.from_pretrained(rows)
    assert table(Tensor([2, 0])).tolist() == [[4, 5], [0, 1]]
    assert not table.weight.requires_grad and table.weight.dtype == np.float64
    tuned = nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=-1)
    tuned(Tensor([2, 1])).backward(np.ones((2, 2)))
    assert tuned.weight.grad.tolist() == [[0, 0], [1, 1], [0, 0]] and tuned.padding_idx == 2
    with pytest.raises(ShapeError, match=r"two axes, got shape \(3,\)"):
        nn.Embedding.from_pretrained(np.ones(3))


def test_layers_refuse_nonsense():
    for make in (
        lambda: nn.Dropout(2),
        lambda: nn.Linear(-1, 2),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Embedding(3, 2, padding_idx=3),
        lambda: nn.Conv1d(1, 1, 3, padding="half"),
        lambda: nn.Conv2d(1, 1, 3, stride=(1, 2), padding="same"),
        lambda: nn.ConvTranspose2d(1, 1, 3, padding="same"),
        lambda: nn.Softmax(0, dim=0),
    ):
        with pytest.raises(ValueRangeError):
            make()
    for make in (
        lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"),
        lambda: nn.MaxPool2d(2, return_indices=True),
    ):
        with pytest.raises(NotImplementedError, match="not supported"):
            make()
    with pytest.raises(ShapeError, match="BatchNorm2d needs 4 axes"):
        nn.BatchNorm2d(3)(ones(2, 3))


# --------------------------------------------------------------------------------- the layers


def test_batch_norm_learns_statistics_and_uses_them():
    norm = nn.BatchNorm1d(2, momentum=None, affine=False, dtype=np.float64)
    batches = np.random.default_rng(0).standard_normal((3, 10, 2))
    for batch in batches:
        norm(Tensor(batch))
    assert norm.num_batches_tracked.item() == 3
    np.testing.assert_allclose(norm.running_mean.numpy(), batches.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), batches.var(1, ddof=1).mean(0), rtol=1e-12)
    before = norm.running_mean.numpy().copy()
    y = norm.eval()(Tensor(batches[0]))
    np.testing.assert_array_equal(norm.running_mean.numpy(), before)
    expected = (batches[0] - before) / np.sqrt(norm.running_var.numpy() + 1e-5)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    untracked = nn.BatchNorm1d(2, track_running_stats=False).eval()
    np.testing.assert_allclose(untracked(Tensor(batches[0])).numpy().mean(0), 0, atol=1e-7)


@given(seeds)
def test_gradients_of_whole_models(seed):
    random.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.LayerNorm(4), nn.Linear(4, 3), nn.SiLU(), nn.RMSNorm(3), nn.LogSoftmax(),
    ).to(dtype=np.float64)  # fmt: skip
    first = model[0]

    def f(x, w):
        vars(first)["weight"] = w  # a plain Tensor in the Parameter's place
        return model(x)

    rng = np.random.default_rng(seed)
    check(f, rng.standard_normal((2, 1, 5, 3)), rng.standard_normal((2, 1, 2, 2)), rtol=1e-4)


@pytest.mark.peers
def test_a_model_of_torch_loads_into_ours():
    import torch  # noqa: PLC0415  (the extra `ci`)

    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4 * 3 * 3, 10),
    )  # fmt: skip
    mine = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 10),
    )  # fmt: skip
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(mine.eval()(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_appending_does_not_overwrite_a_module_of_that_name():
    model = nn.Sequential({"1": nn.ReLU()}).append(nn.Tanh())
    assert [type(m) for m in model] == [nn.ReLU, nn.Tanh]
    assert [name for name, _ in model.named_children()] == ["1", "2"]


def test_sizes_of_windows_may_be_lists_and_are_checked():
    assert nn.Conv2d(1, 1, [3, 5], stride=[1, 2]).weight.shape == (1, 1, 3, 5)
    assert nn.Conv1d(1, 1, [4]).weight.shape == (1, 1, 4)
    for sizes in (-3, 0, [3], [3, 3, 3], (2, 0)):
        with pytest.raises(ValueRangeError, match="kernel_size must be 2 integers"):
            nn.Conv2d(1, 1, sizes)
    with pytest.raises(ValueRangeError, match="stride"):
        nn.Conv2d(1, 1, 3, stride=0)
    with pytest.raises(ValueRangeError, match="padding"):
        nn.Conv1d(1, 1, 3, padding=-1)
    with pytest.raises(DTypeError, match=r"not 2\.5"):
        nn.Conv2d(1, 1, 2.5)


def test_a_gradient_must_be_a_tensor_of_the_right_shape():
    layer = nn.Linear(2, 3)
    with pytest.raises(DTypeError, match="not ndarray"):
        layer.weight.grad = np.ones((3, 2))
    with pytest.raises(ShapeError, match=r"\(1, 2\).*\(3, 2\)"):
        layer.weight.grad = Tensor(np.ones((1, 2)))
    layer.weight.grad = Tensor(np.ones((3, 2), np.float32))
    layer(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 2)
