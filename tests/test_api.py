"""The public names that users and other test suites rely on exist and work."""

import inspect

import numpy as np
import pytest

import tinygrad_ai as ta

ATTRIBUTES = """
shape dtype ndim size T device grad requires_grad backward retain_grad detach numpy item to astype
tolist register_hook __getitem__ __setitem__
"""
CREATION = "zeros ones full empty zeros_like ones_like full_like eye arange linspace asarray"
RANDOM = "manual_seed rand randn randint uniform normal permutation bernoulli"
ELEMENTWISE = """
add subtract multiply divide floor_divide remainder power negative positive abs sign sqrt rsqrt cbrt
square reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh
cosh tanh arcsinh arccosh arctanh hypot logaddexp sinc erf erfc sigmoid logsigmoid softplus relu
maximum minimum clip where floor ceil round trunc isnan isfinite isinf xlogy
equal not_equal less less_equal greater greater_equal
logical_and logical_or logical_xor logical_not
"""
REDUCTIONS = """
sum mean prod max min amax amin var std all any argmax argmin logsumexp cumsum cumprod norm median
"""
MOVEMENT = """
reshape transpose permute_dims swapaxes moveaxis expand_dims squeeze broadcast_to flip roll tile
repeat concatenate stack split pad tril triu diagonal flatten unstack
"""
INDEXING = """
take take_along_axis gather scatter_add index_select nonzero masked_fill sort argsort topk
"""
LINEAR = "matmul dot outer einsum tensordot vecdot trace"
LINALG = "inv det slogdet solve cholesky norm matrix_norm"
DIFFERENTIATION = """
grad value_and_grad vjp jvp jacobian hessian hvp vmap checkpoint custom_vjp no_grad enable_grad
stop_gradient detect_anomaly jit
"""
NN = """
Module Parameter Sequential ModuleList Linear Dropout Flatten
ReLU LeakyReLU ELU SELU GELU SiLU Sigmoid Tanh Softmax LogSoftmax Softplus
MSELoss L1Loss HuberLoss CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss KLDivLoss init
functional Conv1d Conv2d ConvTranspose2d MaxPool1d MaxPool2d AvgPool1d AvgPool2d BatchNorm1d
BatchNorm2d LayerNorm RMSNorm Embedding MultiheadAttention BilinearAttention TransformerEncoderLayer
PositionalEncoding RNNCell LSTMCell GRUCell RNN LSTM GRU
"""
MODULE = """
parameters named_parameters state_dict load_state_dict train eval to zero_grad summary
"""
FUNCTIONAL = """
relu leaky_relu elu selu gelu silu sigmoid tanh softmax log_softmax softplus dropout linear conv1d
conv2d conv_transpose2d max_pool1d max_pool2d avg_pool1d avg_pool2d batch_norm layer_norm rms_norm
embedding one_hot scaled_dot_product_attention mse_loss l1_loss huber_loss cross_entropy nll_loss
binary_cross_entropy binary_cross_entropy_with_logits kl_div
"""
OPTIM = "SGD Adam AdamW RMSprop Adagrad l1_penalty l2_penalty clip_grad_norm_ clip_grad_value_"
SCHEDULERS = "StepLR ExponentialLR CosineAnnealingLR LinearWarmup ReduceLROnPlateau"
TRAIN = "Trainer EarlyStopping Checkpoint LRScheduler LambdaCallback cross_validate History"
METRICS = """
accuracy precision recall f1_score confusion_matrix roc_auc mean_squared_error
"""
DATA = """
Dataset TensorDataset DataLoader random_split mnist_small mnist fashion_mnist imdb rotten_tomatoes
shakespeare photo
"""
PLACES = [
    (ta.Tensor, ATTRIBUTES),
    (ta, CREATION),
    (ta.random, RANDOM),
    (ta, ELEMENTWISE + REDUCTIONS + MOVEMENT + INDEXING + LINEAR),
    (ta.linalg, LINALG),
    (ta, DIFFERENTIATION),
    (ta.nn, NN),
    (ta.nn.Module, MODULE),
    (ta.nn.functional, FUNCTIONAL),
    (ta.optim, OPTIM),
    (ta.optim.lr_scheduler, SCHEDULERS),
    (ta.train, TRAIN),
    (ta.metrics, METRICS),
    (ta.generation, "greedy sample generate"),
    (ta.data, DATA),
    (ta.data.text, "Tokenizer pad_sequences clean"),
    (ta.data.image, "load resize crop rotate flip normalize"),
    (ta, "Trainer save load"),
]


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in PLACES for name in names.split()]
)
def test_the_name_exists_and_explains_itself(place, name):
    found = getattr(place, name) if name not in ("grad",) or place is ta else place.grad
    if callable(found):
        assert inspect.getdoc(found), f"{name} has no docstring"


#: Methods that NumPy's arrays have, too.
METHODS = """
all any argmax argmin argsort clip copy cumprod cumsum diagonal dot flatten max mean min nonzero
prod ravel repeat reshape round squeeze std sum swapaxes take trace transpose var
"""
CALLS = {
    "clip": (0.2, 0.8),
    "dot": (np.ones((3, 3)),),
    "repeat": (2,),
    "reshape": (9,),
    "round": (1,),
    "swapaxes": (0, 1),
    "take": ([0, 4],),
}


@pytest.mark.parametrize("name", METHODS.split())
def test_methods_have_numpy_semantics(name):
    x = np.random.default_rng(0).random((3, 3))
    wanted = getattr(x, name)(*CALLS.get(name, ()))
    made = getattr(ta.Tensor(x), name)(*CALLS.get(name, ()))
    if isinstance(wanted, tuple):
        for a, b in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    else:
        np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-14)


@pytest.mark.parametrize("name", (ELEMENTWISE + REDUCTIONS).split())
def test_functions_on_integers_match_numpy_where_it_has_them(name):
    reference = getattr(np, name, None)
    if reference is None:
        return
    x = np.array([[1, 2], [3, 4]])
    n = len(inspect.signature(getattr(ta, name)).parameters) if name in ELEMENTWISE.split() else 1
    n = 1 if name in ("round", "clip", "sinc") else n
    if name in ("arccosh", "arctanh", "arcsin", "arccos", "clip", "reciprocal"):
        return  # outside the domain; NumPy's integer reciprocal rounds to 0
    inputs = [x, x.T, x][:n] if name != "where" else [x > 2, x, x.T]
    wanted = reference(*inputs)
    made = getattr(ta, name)(*map(ta.Tensor, inputs))
    np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-14)
    assert made.dtype == wanted.dtype


@pytest.mark.parametrize(
    "name", ["__add__", "__sub__", "__mul__", "__truediv__", "__pow__", "__mod__"]
)
def test_operators_take_arrays_and_scalars_on_both_sides(name):
    x = np.array([1.5, 2.5], dtype=np.float32)
    t = ta.Tensor(x)
    reflected = name.replace("__", "__r", 1)
    for other in (2, 2.0, x, np.float32(2), np.array([[1.0], [2.0]], dtype=np.float32)):
        for method in (name, reflected):
            made, wanted = getattr(t, method)(other), getattr(x, method)(other)
            np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-6)
            assert made.dtype == wanted.dtype


def test_operators_with_an_array_on_the_left_make_tensors():
    t = ta.Tensor([1.0, 2.0])
    for made in (np.ones(2) + t, np.ones(2) * t, np.ones(2) @ t, np.ones(2) < t, np.float32(3) - t):
        assert isinstance(made, ta.Tensor)


class TestTensor:
    def test_dtypes_of_python_data(self):
        assert ta.Tensor(1.5).dtype == np.float32
        assert ta.Tensor([[1.0, 2], [3, 4]]).dtype == np.float32
        assert ta.Tensor([1, 2]).dtype == np.int64
        assert ta.Tensor([True]).dtype == np.bool_
        assert ta.Tensor(np.array([1.0])).dtype == np.float64
        assert ta.Tensor(np.float16(1)).dtype == np.float16
        assert ta.Tensor([np.float64(1)]).dtype == np.float64
        assert ta.Tensor([]).dtype == np.float32
        assert ta.Tensor([1, 2], dtype="float64").dtype == np.float64

    @pytest.mark.parametrize("data", ["text", [1, "a"], 1j, [[1, 2], [3]], {"a": 1}, None])
    def test_data_it_cannot_hold(self, data):
        with pytest.raises((ta.errors.DTypeError, ta.errors.ShapeError)):
            ta.Tensor(data)

    def test_a_list_of_tensors_names_stack(self):
        with pytest.raises(ta.errors.DTypeError, match="cut their gradients") as caught:
            ta.Tensor([ta.Tensor(1.0), ta.Tensor(2.0)])
        assert "stack" in caught.value.__notes__[0]

    def test_arrays_are_copied_in_and_numpy_is_a_read_only_view(self):
        x = np.ones(3)
        t = ta.Tensor(x)
        x[0] = 5
        assert t[0].item() == 1
        view = t.numpy()
        assert np.shares_memory(view, t.array)
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 2
        assert np.asarray(t).dtype == np.float64
        assert np.asarray(t, dtype=np.float32).dtype == np.float32

    def test_indexing_matches_numpy(self):
        x = np.arange(24.0).reshape(2, 3, 4)
        t = ta.Tensor(x)
        mask = x > 10
        keys = [0, -1, (1, 2), slice(None, None, -2), (..., 1), (None, 0), [1, 0], ([0, 1], [2, 1])]
        keys += [(slice(1), None, [0, 2]), mask, (0, mask[0]), np.array([[0, 1]]), (), ...]
        keys += [(slice(None), -1, slice(None, None, 2)), np.int64(1), ta.Tensor(1)]
        for key in keys:
            key_np = np.asarray(key) if isinstance(key, ta.Tensor) else key
            np.testing.assert_array_equal(t[key].numpy(), x[key_np])

    @pytest.mark.parametrize("key", [5, (0, 0, 0, 0), (..., ...), [9], "a", 1.5, np.array([0.5])])
    def test_wrong_indices(self, key):
        with pytest.raises((IndexError, TypeError)):
            ta.Tensor(np.zeros((2, 3, 4)))[key]

    def test_assignment(self):
        t = ta.zeros((2, 3))
        t[0] = [1.0, 2.0, 3.0]
        t[t > 2] = ta.Tensor(-1.0)
        np.testing.assert_array_equal(t.numpy(), [[1, 2, -1], [0, 0, 0]])
        with pytest.raises(ta.errors.ShapeError):
            t[0] = np.ones(4)
        with pytest.raises(IndexError):
            t[7] = 1.0

    def test_truth_length_and_conversion(self):
        with pytest.raises(ValueError, match="ambiguous"):
            bool(ta.ones(2))
        assert bool(ta.ones(1)) and float(ta.Tensor(2.5)) == 2.5 and int(ta.Tensor(3)) == 3
        assert len(ta.ones((4, 2))) == 4 and [1, 2, 3][ta.Tensor(1)] == 2
        with pytest.raises(TypeError):
            len(ta.Tensor(1.0))
        with pytest.raises(ValueError, match=r"shape \(2,\)"):
            ta.ones(2).item()
        assert [row.tolist() for row in ta.Tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
        assert {ta.ones(2): 1}
        with pytest.raises(AttributeError):
            ta.ones(2).colour  # noqa: B018

    def test_printing(self):
        assert repr(ta.Tensor([1.0, 2.0], requires_grad=True)) == (
            "Tensor([1., 2.], dtype=float32, requires_grad=True)"
        )

    def test_transpose_takes_numpys_forms(self):
        t = ta.zeros((2, 3, 4))
        assert t.T.shape == (4, 3, 2) and t.mT.shape == (2, 4, 3)
        assert t.transpose(2, 0, 1).shape == t.transpose((2, 0, 1)).shape == (4, 2, 3)
        assert t.transpose(-1, 0, 1).shape == (4, 2, 3)


def test_creation_defaults():
    assert ta.zeros((2, 3)).dtype == ta.ones(2).dtype == ta.eye(2).dtype == np.float32
    assert ta.arange(3).dtype == np.int64 and ta.arange(0.0, 1.0, 0.25).dtype == np.float32
    assert ta.full((2,), 7).dtype == np.int64 and ta.full(2, 1.5).dtype == np.float32
    np.testing.assert_array_equal(ta.linspace(0, 1, 3).numpy(), [0, 0.5, 1])
    assert ta.zeros_like(np.ones(2)).dtype == np.float64
    with pytest.raises(ta.errors.ShapeError):
        ta.zeros((-1, 2))
    with pytest.raises(TypeError):
        ta.zeros("ab")


class TestRandom:
    def test_a_seed_fixes_the_stream_and_a_state_goes_on(self):
        ta.random.manual_seed(1)
        first = ta.random.randn(5).numpy().copy(), ta.random.rand(3).numpy().copy()
        state = ta.random.generator().state_dict()
        rest = ta.random.randint(0, 100, 9).numpy().copy()
        ta.random.manual_seed(1)
        np.testing.assert_array_equal(ta.random.randn(5).numpy(), first[0])
        np.testing.assert_array_equal(ta.random.rand(3).numpy(), first[1])
        ta.random.manual_seed(99)
        ta.random.generator().load_state_dict(state)
        np.testing.assert_array_equal(ta.random.randint(0, 100, 9).numpy(), rest)

    def test_the_first_bits_are_philox(self):
        ta.random.manual_seed(5)
        words = np.random.Philox(key=5).random_raw(4)
        low = words & np.uint64(0xFFFFFFFF)
        wanted = ((low >> np.uint64(8)) / 2**24).astype(np.float32)
        np.testing.assert_array_equal(ta.random.rand(4).numpy()[::2], wanted[:2])

    def test_moments(self):
        ta.random.manual_seed(0)
        n = 100_000
        x = ta.random.normal(3.0, 2.0, n, dtype=np.float64).numpy()
        assert abs(x.mean() - 3) < 0.03 and abs(x.std() - 2) < 0.03
        u = ta.random.uniform(-1, 1, n).numpy()
        assert u.min() >= -1 and u.max() < 1 and abs(u.mean()) < 0.02 and u.dtype == np.float32
        b = ta.random.bernoulli(0.3, n).numpy()
        assert set(np.unique(b)) == {0, 1} and abs(b.mean() - 0.3) < 0.01
        assert ta.random.bernoulli(1.0, 9).numpy().all() and not ta.random.bernoulli(0.0, 9).any()
        k = ta.random.randint(-2, 3, n).numpy()
        assert set(np.unique(k)) == {-2, -1, 0, 1, 2} and abs(k.mean()) < 0.03
        p = ta.random.permutation(50).numpy()
        assert sorted(p) == list(range(50)) and list(p) != list(range(50))

    def test_wrong_arguments(self):
        for call in (
            lambda: ta.random.randint(3, 3),
            lambda: ta.random.bernoulli(1.5, 3),
            lambda: ta.random.manual_seed(-1),
            lambda: ta.random.normal(0, -1, 3),
        ):
            with pytest.raises(ta.errors.ValueRangeError):
                call()
        with pytest.raises(ta.errors.DTypeError):
            ta.random.rand(2, dtype=np.int64)


#: One wrong call for every function, and what its message must say.
WRONG = [
    (lambda: ta.ones((2, 3)) + ta.ones((4, 5)), "do not broadcast"),
    (lambda: ta.where(ta.ones(2) > 0, ta.ones(3), ta.ones(4)), "do not broadcast"),
    (lambda: ta.sum(ta.ones(2), axis=1), "axis 1 is out of bounds for an array of 1 dim"),
    (lambda: ta.mean(ta.ones(2), axis=(0, 0)), "names an axis twice"),
    (lambda: ta.amax(ta.ones((0, 2))), "amax of no elements"),
    (lambda: ta.argmax(ta.ones(0)), "argmax of no elements"),
    (lambda: ta.reshape(ta.ones(6), (4, 2)), "6 elements"),
    (lambda: ta.reshape(ta.ones(6), (-1, 4)), "do not fit"),
    (lambda: ta.reshape(ta.ones(6), (-1, -1)), "one -1"),
    (lambda: ta.transpose(ta.ones((2, 3)), (0, 0)), "not a permutation"),
    (lambda: ta.moveaxis(ta.ones((2, 3)), (0, 1), (0,)), "as many distinct axes"),
    (lambda: ta.squeeze(ta.ones((2, 1)), 0), "size other than 1"),
    (lambda: ta.broadcast_to(ta.ones(3), (4,)), "do not broadcast"),
    (lambda: ta.broadcast_to(ta.ones((2, 3)), (3,)), "does not fill"),
    (lambda: ta.concatenate([]), "at least one"),
    (lambda: ta.concatenate([ta.ones((2, 2)), ta.ones((3, 3))]), "concatenate"),
    (lambda: ta.stack([ta.ones(2), ta.ones(3)]), "shapes differ"),
    (lambda: ta.split(ta.ones(5), 2), "does not divide into 2"),
    (lambda: ta.pad(ta.ones(2), -1), "must not be negative"),
    (lambda: ta.pad(ta.ones((2, 2)), ((1, 2), (1, 2), (1, 2))), "does not fit the 2 axes"),
    (lambda: ta.pad(ta.ones(2), 1, mode="reflect"), "not supported"),
    (lambda: ta.tril(ta.ones(2)), "at least 2 axes"),
    (lambda: ta.diagonal(ta.ones((2, 2)), axis1=0, axis2=0), "both 0"),
    (lambda: ta.repeat(ta.ones(2), -1), "at least 0"),
    (lambda: ta.repeat(ta.ones(2), [1, 2, 3], axis=0), "3 repeats"),
    (lambda: ta.tile(ta.ones(2), -1), "must not be negative"),
    (lambda: ta.take(ta.ones(3), [5]), "out of bounds"),
    (lambda: ta.take(ta.ones(3), [0.5]), "must be integers"),
    (lambda: ta.take_along_axis(ta.ones((2, 2)), np.array([0]), 0), "differ in number of axes"),
    (lambda: ta.gather(ta.ones((2, 2)), 0, np.zeros((1, 3), int)), "does not fit"),
    (lambda: ta.scatter_add(ta.ones(2), 0, np.zeros(3, int), ta.ones(2)), "larger than src"),
    (lambda: ta.topk(ta.ones(3), 4), "k=4 of an axis with 3"),
    (lambda: ta.median(ta.ones(0)), "no elements"),
    (lambda: ta.norm(ta.ones((2, 2)), ord="fro"), "matrix_norm"),
    (lambda: ta.norm(ta.ones(2), ord=-2), "not supported"),
    (lambda: ta.matmul(ta.ones((2, 3)), ta.ones((2, 3))), "inner sizes differ"),
    (lambda: ta.einsum("ij,jk->ik", ta.ones((2, 3)), ta.ones((2, 3))), "einsum"),
    (lambda: ta.einsum("ij", ta.ones(3)), "einsum"),
    (lambda: ta.linalg.inv(ta.ones((2, 3))), "inv"),
    (lambda: ta.linalg.inv(ta.zeros((2, 2))), "singular"),
    (lambda: ta.linalg.cholesky(-ta.eye(2)), "positive"),
    (lambda: ta.linalg.solve(ta.eye(2), ta.ones(3)), "solve"),
    (lambda: ta.nn.functional.conv2d(ta.ones((1, 2, 5, 5)), ta.ones((1, 3, 3, 3))), "channels"),
    (lambda: ta.nn.functional.max_pool2d(ta.ones((1, 1, 2, 2)), 3), "max_pool2d"),
    (lambda: ta.exp(ta.ones(2), ta.ones(2)), "exp"),
    (lambda: ta.sum(ta.ones(2), dtype="float64"), "dtype"),
    (lambda: ta.ones(2) + "a", "add: b must be a tensor, an array or numbers, not str"),
    (lambda: ta.ones(2) * 1j, "multiply: b must be a tensor, an array or numbers, not complex"),
    (lambda: ta.logical_and(ta.ones(2), None), "logical_and: b must be a tensor"),
    (lambda: ta.where(ta.ones(2), ta.ones(2)), "where takes 3 inputs (condition, a, b), got 2"),
    (lambda: ta.exp(ta.ones(2), ta.ones(2)), "exp takes 1 input (x), got 2"),
    (lambda: ta.add(ta.ones(2), 1, out=ta.ones(2)), "add has no parameter 'out'"),
    (lambda: ta.ones(2)[np.array([True])], "boolean index of shape (1,) at axis 0 does not fit"),
    (lambda: ta.ones((2, 3, 4))[..., np.ones((3, 3), bool)], "(3, 3) at axis 1 does not fit"),
    (lambda: ta.zeros(2, 3), "3 is not a dtype"),
    (lambda: ta.zeros(None), "a shape is an int or a sequence of ints, not None"),
    (lambda: ta.zeros(2.5), "not 2.5"),
    (lambda: ta.zeros((2, -1)), "no negative sizes"),
    (lambda: ta.zeros(2, dtype="abc"), "'abc' is not a dtype"),
    (lambda: ta.ones(2).astype(None), "dtype None is not supported"),
    (lambda: ta.Tensor(1.0, device=3), "a device is named by a string"),
    (lambda: ta.ones(2).to(None), "a device is named by a string"),
    (lambda: ta.Tensor([np.nan], dtype="int64"), "NaN, infinite or too large for int64"),
    (lambda: ta.Tensor("a"), "Tensor: data must be a tensor, an array or numbers, not str"),
    (lambda: ta.full(2, None), "not NoneType"),
    (lambda: ta.full(2, 1j), "not complex"),
    (lambda: ta.arange("a"), "arange: stop must be a number, not 'a'"),
    (lambda: ta.linspace("a", 1), "linspace: start must be a number, not 'a'"),
    (lambda: ta.random.normal(0, "a"), "normal: scale must be a number, not 'a'"),
    (lambda: ta.random.randint(0, 1000, 5, dtype="uint8"), "uint8 holds numbers up to 255"),
    (lambda: ta.random.randint(2.9), "whole number"),
    (lambda: ta.random.permutation(2.9), "whole number"),
    (lambda: ta.random.permutation(-1), "whole number of at least 0"),
    (lambda: ta.random.rand(-1), "no negative sizes"),
    (lambda: ta.pad(ta.ones(2), 1.7), "pad_width must hold integers"),
    (lambda: ta.pad(ta.ones(2), 1, constant_values=np.ones(2)), "not supported"),
    (lambda: ta.roll(ta.ones(2), (1, 2, 3), (0, 0)), "differ in number"),
    (lambda: ta.scatter_add(ta.ones(2), 0, [0], 1.0), "larger than src ()"),
    (lambda: ta.concatenate(None), "needs a list of arrays"),
    (lambda: ta.sum([ta.ones(1), ta.ones(1)]), "sum: x is a list of Tensors"),
    (lambda: ta.matmul([[1.0], [2.0, 3.0]], ta.ones(2)), "unequal lengths"),
    (lambda: ta.add(ta.ones(2, dtype="int8"), [300]), "add: b"),
    (lambda: ta.ones(2).astype("complex64"), "not supported"),
]


@pytest.mark.parametrize("k", range(len(WRONG)))
def test_wrong_calls_get_one_clear_error(k):
    call, said = WRONG[k]
    with pytest.raises((ValueError, TypeError, IndexError, NotImplementedError)) as caught:
        call()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


ONE_ARRAY = """
sum mean prod max min amax amin var std all any argmax argmin logsumexp cumsum cumprod norm median
transpose squeeze flip flatten unstack sort argsort nonzero clip round exp trace
"""


@pytest.mark.parametrize("name", ONE_ARRAY.split())
def test_numbers_in_lists_are_arrays_and_anything_else_is_refused(name):
    f = getattr(ta, name)
    rows = [[0.5, -1.0], [2.0, 0.25]]
    np.testing.assert_array_equal(f(rows), f(np.array(rows)))
    with pytest.raises(ta.errors.DTypeError, match=r"x must be a .* not NoneType"):
        f(None)


def test_lists_beside_tensors_are_as_weak_as_numbers():
    x = ta.Tensor([1.0, 2.0], requires_grad=True)
    y = (x ** [3.0, 1.0] + [1, 2]) * np.float32(1)
    assert y.dtype == np.float32 and (ta.ones(2, dtype="float64") * [0.1, 1]).numpy()[0] == 0.1
    y.backward(np.array([2.0, -1.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, -1.0])
    assert isinstance(ta.add([1, 2], [3, 4]), np.ndarray)
    np.testing.assert_array_equal(ta.add([1, 2], [3, 4]), [4, 6])
    for product in (
        x @ [1.0, -1.0],
        [1.0, -1.0] @ x,
        ta.dot(x, [1, -1]),
        ta.vecdot([1, -1], x),
        ta.einsum("i,i", x, [1, -1]),
        ta.linalg.solve([[-1.0]], ta.Tensor([[1.0]]))[0, 0],
    ):
        assert product.item() == -1.0 and product.dtype == np.float32
    np.testing.assert_array_equal(ta.concatenate([x, [5.0]]).numpy(), [1, 2, 5])
    assert ta.sum(x=[1, 2]) == 3 and ta.stack([x[0], 7.0]).tolist() == [1.0, 7.0]


def test_too_large_numbers_become_infinite_in_silence():
    x = ta.ones(2)
    x[0] = 1e300
    assert np.isinf([ta.Tensor(1e300).item(), ta.full(1, 1e300).item(), x[0].item()]).all()
    with pytest.raises(ta.errors.ValueRangeError, match="int64"):
        ta.arange(2)[0] = np.nan


def test_small_differences_from_numpy():
    t, a = ta.arange(4), np.arange(4)
    np.testing.assert_array_equal(ta.roll(t, (1, 2), 0).numpy(), np.roll(a, (1, 2), 0))
    np.testing.assert_array_equal(ta.roll(t, (1, 2)).numpy(), np.roll(a, (1, 2)))
    assert [p.tolist() for p in ta.split(t, np.int64(2))] == [[0, 1], [2, 3]]
    assert ta.pad(ta.ones(1), 1, constant_values=np.array([3.0])).tolist() == [3, 1, 3]
    assert ta.prod(ta.ones(2, dtype="int8"), axis=()).dtype == np.int64
    assert ta.prod(ta.ones(2), axis=()).dtype == np.float32
    rounded = ta.round(ta.Tensor([15, 25, -35]), -1)
    assert rounded.tolist() == [20, 20, -40] and rounded.dtype == np.int64
    assert ta.full(2, ta.Tensor(1.5, dtype="float64")).dtype == np.float64
    assert ta.arange(ta.Tensor(3)).dtype == np.int64
    x = ta.Tensor(np.arange(24.0).reshape(2, 3, 4))
    mask = np.arange(12).reshape(3, 4) % 5 == 0
    np.testing.assert_array_equal(x[..., mask].numpy(), x.numpy()[..., mask])
    np.testing.assert_array_equal(x[:, mask].numpy(), x.numpy()[:, mask])


def test_random_rows_and_half_open_ranges():
    rows = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    for given in (rows, np.array(rows), ta.Tensor(rows)):
        assert sorted(ta.random.permutation(given).tolist()) == rows
    ta.random.manual_seed(0)
    x = ta.random.uniform(1, 2, 100_000, dtype="float16")
    assert x.max().item() < 2.0 and x.min().item() == 1.0
