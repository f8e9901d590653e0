"""Where a compiled step could differ from the plain function without anybody noticing."""

import copy
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
from twice import numbers, same

import tinygrad_ai as ta
from tinygrad_ai import config, nn, optim
from tinygrad_ai.errors import (
    DTypeError,
    GraphError,
    ShapeError,
)

# ---------------------------------------------------------------------------- NumPy beside tensors

A, M = np.array([1.0, -2.0]), np.array([[1.0, 2.0], [3.0, 4.0]], "f")
MIXED = {
    "an array times": lambda t: A * t,
    "a 32-bit array plus": lambda t: M + t,
    "an array minus": lambda t: A - t,
    "an array over": lambda t: A / t,
    "an array to the power of": lambda t: abs(A) ** t,
    "floor and remainder": lambda t: A // t + M % t,
    "a matrix times": lambda t: M @ t,
    "smaller": lambda t: t > A,
    "equal": lambda t: (t == A) | (t != M),
    "masks": lambda t: np.array([True, False]) & (t > 0),
    "float32": lambda t: np.float32(2) * t,
    "float64": lambda t: np.float64(2) - t,
    "int64": lambda t: np.int64(3) ** t,
    "no axes": lambda t: np.array(2, "f") * t,
    "a scalar compared": lambda t: np.float32(0.5) >= t,
    "np.add": lambda t: np.add(A, t),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("wrap", [lambda f: f, ta.jit], ids=["eager", "compiled"])
def test_numpy_on_the_left_of_a_tensor(wrap, name):
    """A tensor, of the dtype that NumPy gives two arrays; gradients flow."""
    f, plain = MIXED[name], np.array([0.5, 3.0], "f")
    found = wrap(f)(ta.Tensor(plain))
    expected = f(plain)
    assert isinstance(found, ta.Tensor) and found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, 1e-6)
    if found.dtype.kind == "f":
        x = ta.Tensor(plain, requires_grad=True)
        f(x).sum().backward()
        assert x.grad.dtype == np.float32


def test_numpys_functions_name_ours():
    t, array = ta.ones(2), np.ones(2)
    np.testing.assert_array_equal(np.asarray(t), [1.0, 1.0])
    for wrap in (lambda f: f, ta.jit):
        with pytest.raises(DTypeError, match=r"np\.sin does not take tensors") as raised:
            wrap(np.sin)(t)
        assert "tinygrad_ai.sin does" in raised.value.__notes__[0]
        with pytest.raises(DTypeError, match=r"np\.add\.reduce does not take tensors") as raised:
            wrap(np.add.reduce)(t)
        assert "x.numpy()" in raised.value.__notes__[0]
        with pytest.raises(DTypeError, match=r"np\.multiply .* nor put them into arrays"):
            wrap(lambda t: array.__imul__(t))(t)


def test_the_line_of_an_error_inside_numpy_is_the_users():
    with pytest.raises(GraphError, match=r"the values of a tensor.*test_jit_semantics\.py:\d+"):
        ta.jit(lambda t: np.stack([t, t]))(ta.ones(2))


# -------------------------------------------------------------------------------- second runs


@pytest.mark.parametrize("wrap", [lambda f: f, ta.jit], ids=["eager", "compiled"])
def test_a_checkpoint_moves_running_statistics_once(wrap):
    """And leaves the gradients and the random numbers of the plain function."""
    found, x = [], ta.Tensor(numbers(6, 3), dtype="float32")
    for checkpointed in (ta.checkpoint, lambda f: f):
        ta.random.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.4), nn.BatchNorm1d(4, momentum=0.3)
        )
        inner = checkpointed(model)

        @wrap
        def step(x, inner=inner, model=model):
            model.zero_grad()
            (inner(inner(x) @ ta.ones((4, 3))) ** 3).sum().backward()

        for _ in range(2):
            step(x)
        found.append(
            {k: v.numpy().copy() for k, v in model.state_dict().items()}
            | {f"{k}.grad": p.grad.numpy().copy() for k, p in model.named_parameters()}
            | {"next": ta.random.rand(2).numpy()}
        )
    assert found[0]["1.num_batches_tracked"] == 4
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, 1e-5, 1e-5, err_msg=name)


def test_seeding_inside_is_refused():
    def step(x):
        ta.random.manual_seed(3)
        return x * ta.random.rand(3)

    before = ta.random.generator().state_dict()
    with pytest.raises(GraphError, match=r"manual_seed in the function.*test_jit_semantics\.py:"):
        ta.jit(step)(ta.ones(3))
    assert ta.random.generator().state_dict() == before


def test_equal_draws_are_two():
    step = ta.jit(lambda: (ta.random.rand(3), ta.random.rand(3), ta.random.randint(0, 9, (4,))))
    ta.random.manual_seed(1)
    compiled = [x.tolist() for _ in range(2) for x in step()]
    ta.random.manual_seed(1)
    assert compiled == [x.tolist() for _ in range(2) for x in step.function()]


# ------------------------------------------------------------- NaNs that do not reach an output

SWALLOWED = {
    "where": lambda g: ta.where(g > 0.5, 1.0, 2.0),
    "where of isnan": lambda g: ta.where(ta.isnan(g), 7.0, g),
    "comparison": lambda g: (g < 1).sum(),
    "unequal to itself": lambda g: (g != g).any(),
    "argmax": lambda g: ta.argmax(g),
    "sort": lambda g: ta.sort(g)[:2],
    "integers": lambda g: (g == 0).astype("int64"),
    "power 0": lambda g: g**0,
    "sign": lambda g: ta.where(g == 0, 0.0, ta.sign(g)),
    "cut away": lambda g: g[3:] * 2,
}
UNDEFINED = {  # 0·∞ inside a rule: at 0 the gradient is 0, as no NaN
    "root of a sum of squares": lambda x: ta.sqrt((x * x).sum()),
    "root": lambda x: ta.where(x > 0.3, ta.sqrt(x), 0.0).sum(),
    "logarithm": lambda x: ta.where(x > 0.3, ta.log(x), x).sum(),
    "division": lambda x: (ta.relu(x - 0.4) / x * 0).sum(),
    "power": lambda x: (ta.maximum(x, 0.0) ** 0.5 * (x > 0.3)).sum(),
}


@pytest.mark.parametrize("inner", UNDEFINED)
def test_gradients_are_guarded_though_no_output_would_be_nan(inner):
    @ta.jit
    def step(x):
        g = ta.grad(UNDEFINED[inner])(x)
        return {name: f(g) for name, f in SWALLOWED.items()}

    for given in ([0.0, 0.0, 0.0, 0.0], [0.5, 1.0, 0.7, 2.0], [0.0, 1.0, 0.0, 2.0]):
        x = ta.Tensor(np.array(given))
        for name, found in step(x).items():
            expected = step.function(x)[name]
            np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-12, err_msg=name)


# -------------------------------------------------------------------------------------- arguments


def test_arguments_are_assigned_to():
    """Each tensor that is passed is then a step of its own."""
    start, new = numbers(2, 3), numbers(4, 3)
    found = []
    for wrap in (lambda f: f, ta.jit):
        a, b = ta.Tensor(start), ta.Tensor(start + 1)

        @wrap
        def step(cache, x):
            turned = cache.T
            cache[0] = x
            cache[...] = cache * 2
            return turned * 1

        outputs = [
            step(t, ta.Tensor(x)).numpy().copy() for t, x in zip((a, a, b, a), new, strict=True)
        ]
        found.append([*outputs, a.numpy(), b.numpy()])
    np.testing.assert_array_equal(np.array(found[1][:4]), np.array(found[0][:4]))
    np.testing.assert_array_equal(found[1][4:], found[0][4:])
    assert step.captures == 2
    with pytest.raises(GraphError, match="to an argument that is a NumPy array"):
        step(start, ta.ones(3))


def test_gradients_that_arguments_have_already():
    first, second, factors = numbers(3), numbers(3), numbers(6, 3)
    found = []
    for wrap in (lambda f: f, ta.jit):
        x, z = (ta.Tensor(v, requires_grad=True) for v in (first, second))

        @wrap
        def step(p, y):
            before = y * 0 if p.grad is None else p.grad * 2
            (p * y).sum().backward()
            return before, p.grad

        seen = []
        for p, y in zip((x, x, z, x, z, x), map(ta.Tensor, factors), strict=True):
            seen += [v.numpy().copy() for v in step(p, y)]
        found.append([*seen, x.grad.numpy(), z.grad.numpy()])
    np.testing.assert_allclose(found[1], found[0], 1e-14)


def test_gradients_that_are_only_added_need_no_capture_of_their_own():
    step = ta.jit(lambda p, y: (p * y).sum().backward())
    for _ in range(3):
        p = ta.Tensor(numbers(3), requires_grad=True)
        step(p, ta.ones(3))
        step(p, ta.ones(3) * 2)
        np.testing.assert_array_equal(p.grad.numpy(), [3.0] * 3)
    assert step.captures == 1


@pytest.mark.parametrize(
    "change", [lambda b: b.update(z=b["x"]), lambda b: b.pop("x"), lambda b: b["y"].append(1)]
)
def test_a_changed_container_is_refused(change):
    def step(batch):
        change(batch)
        return ta.ones(3)

    batch = {"x": ta.ones(3), "y": [ta.ones(3)]}
    with pytest.raises(GraphError, match="changes a list or dict that was passed"):
        ta.jit(step)(batch)
    assert list(batch) == ["x", "y"] and len(batch["y"]) == 1


def test_a_tensor_that_cannot_be_written_to_is_refused():
    x = ta.broadcast_to(ta.ones(1), (3,))
    with pytest.raises(ShapeError, match="read-only"):
        ta.jit(lambda y: x.__setitem__(..., y))(ta.ones(3))


# ------------------------------------------------------------------- values, names, copies, methods


@pytest.mark.parametrize(
    "look",
    [
        lambda t: t.numpy(),
        lambda t: t.tolist(),
        lambda t: np.asarray(t),
        lambda t: np.linalg.norm(t.numpy()),
        repr,
        str,
        copy.deepcopy,
        pickle.dumps,
        lambda t: t.detach().numpy(),
        lambda t: ta.save({"t": t}, os.devnull),
    ],
    ids=lambda f: getattr(f, "__name__", "other"),
)
def test_values_of_what_changes_between_calls_are_refused(look):
    closed = ta.zeros((3,))

    def of_state(x):
        look(closed)
        return x * 2

    def of_result(x):
        look(x * 2)
        return x * 2

    for f in (of_state, of_result):
        with pytest.raises(GraphError, match=r"not known while a step is captured.*test_jit_sem"):
            ta.jit(f)(ta.ones((3,)))


def test_values_of_what_the_function_makes_itself_may_be_read():
    step = ta.jit(lambda x: x * float(ta.Tensor([2.0, 3.0]).numpy()[1]))
    assert step(ta.ones((2,))).tolist() == [3, 3]


def test_tensors_kept_in_variables_are_refused_and_taken_back():
    total = ta.zeros(())

    def local(x):
        nonlocal total
        total = total + x.sum()
        return total

    def everywhere(x):
        global _kept
        _kept = _kept + x.sum()
        return _kept

    for f, name in ((local, "variable total"), (everywhere, "global _kept")):
        with pytest.raises(GraphError, match=f"keeps a tensor of the captured step in the {name}"):
            ta.jit(f)(ta.ones((3,)))
    assert total.item() == _kept.item() == 0


_kept = ta.zeros(())


def test_gradient_descent_by_hand():
    def run(wrap):
        p = ta.Tensor([1.0, -2.0], requires_grad=True)

        def step(x):
            p.grad = None
            loss = ((p * x) ** 2).sum()
            loss.backward()
            with ta.no_grad():
                p[...] = p - 0.1 * p.grad
            return loss

        step = wrap(step)
        return [step(ta.Tensor([1.0, 3.0])).item() for _ in range(4)], p.tolist(), p.requires_grad

    assert run(ta.jit) == run(lambda f: f)
    p = ta.Tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="gradients flow through"):
        p[...] = 2.0
    with ta.no_grad(), pytest.raises(GraphError, match="gradients flow through"):
        with ta.enable_grad():
            y = p * 2
        y[...] = 2.0


def test_methods_copies_and_programs():
    class Model:
        scale = 2.0

        @ta.jit
        def double(self, x):
            """Twice."""
            return x * self.scale

    model = Model()
    assert "nothing is compiled: it has not been called" in model.double.report()
    assert model.double.program() == model.double.source() == model.double.report()
    assert model.double(ta.ones((2,))).tolist() == [2, 2]
    assert model.double.__doc__ == "Twice." and model.double.explain_retrace() == "the first call"
    model.double(ta.ones((5,)))
    assert "float32[5]" in model.double.program() and "[2]" not in model.double.program()
    twin = copy.deepcopy(Model.__dict__["double"])
    assert twin.captures == 0 and twin(model, ta.ones((2,))).tolist() == [2, 2]


class Holder:
    """Keeps what it is given."""

    def __init__(self, **kept):
        vars(self).update(kept)


def taking(name):
    """A function that takes from something of that name, and what tells whether it did."""
    rng, legacy, own = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
    counter, held = itertools.count(), Holder(batches=iter([1, 2, 3]))
    pairs, lazy = zip([1, 2], [3, 4], strict=True), (n for n in range(3))
    kinds = {
        "Python's random": (lambda x: x if random.random() < 2 else -x, random.getstate),
        "NumPy's random": (lambda x: x if np.random.rand() < 2 else -x, np.random.get_state),
        "a NumPy Generator": (lambda x: x if rng.random() < 2 else -x, rng.random),
        "a NumPy RandomState": (lambda x: x if legacy.rand() < 2 else -x, legacy.rand),
        "a random.Random": (lambda x: x if own.random() < 2 else -x, own.random),
        "an iterator, counter": (lambda x: x * (next(counter) > -1), lambda: next(counter)),
        "an iterator, batches": (lambda x: x * next(held.batches), lambda: next(held.batches)),
        "an iterator, pairs": (lambda x: x * next(pairs)[0], lambda: next(pairs)),
        "an iterator, lazy": (lambda x: x * (next(lazy) > -1), lambda: next(lazy)),
    }
    return kinds[name]


@pytest.mark.parametrize(
    "name",
    [
        *("Python's random", "NumPy's random", "a NumPy Generator", "a NumPy RandomState"),
        *("a random.Random", "an iterator, counter", "an iterator, batches"),
        *("an iterator, pairs", "an iterator, lazy"),
    ],
)
def test_what_a_step_would_take_once_is_refused_and_given_back(name):
    """Though both captures are alike."""
    random.seed(0)
    np.random.seed(0)
    _, wanted = taking(name)
    wanted = repr(wanted())
    random.seed(0)
    np.random.seed(0)
    function, found = taking(name)
    with pytest.raises(GraphError, match=f"(draws|takes) from {name}"):
        ta.jit(function)(ta.ones((3,)))
    assert repr(found()) == wanted


def test_iterators_that_nobody_takes_from_do_no_harm():
    held = Holder(batches=iter([1]), scale=3.0)
    rng = np.random.default_rng(0)
    step = ta.jit(lambda x: x * held.scale * len(str(rng.bit_generator)) ** 0)
    for _ in range(2):
        assert step(ta.ones((2,))).tolist() == [3, 3]
        rng.random()
    assert step.captures == 1


@pytest.mark.parametrize("every", [1, 2])
def test_a_network_is_copied_and_filled_inside(every):
    """As a target network is, and a layer that begins anew."""

    def make(wrap):
        ta.random.manual_seed(0)
        model, target, fresh = (nn.Linear(2, 2) for _ in range(3))

        @wrap
        def step(x, copied):
            out = target(x), fresh(x)
            with ta.no_grad():
                model.bias[...] = model.bias + 1.0
            if copied:
                target.load_state_dict(model.state_dict())
                nn.init.normal_(fresh.weight)
                nn.init.constant_(fresh.bias, 0.5)
            return out

        return step, [*target.parameters(), *fresh.parameters()]

    x = ta.ones((1, 2))
    same(make, *((x, k % every == 0) for k in range(4)))


@pytest.mark.parametrize("name", ["Module.to", "optimizer"])
def test_what_replaces_arrays_is_refused_inside(name):
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.parameters())
    model(ta.ones((1, 2))).sum().backward()
    optimizer.step()
    before = model.weight.numpy().copy()

    def step():
        if name == "Module.to":
            model.to("cpu")  # where it is
            return model.to(dtype="float64").weight * 1
        optimizer.load_state_dict(optimizer.state_dict())
        return model.weight * 1

    with pytest.raises(GraphError, match=r"that is compiled, at .*test_jit_semantics\.py"):
        ta.jit(step)()
    assert model.weight.dtype == "float32" and (model.weight.numpy() == before).all()


def test_many_captures_are_said_once():
    step = ta.jit(lambda x, scale: x * scale)
    with pytest.warns(
        UserWarning, match=r"captured 16 times.*because argument scale was 14 and is 15"
    ):
        for scale in range(18):
            step(ta.ones((2,)), scale)


def test_blocks_without_kernels_are_a_threads_own():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with config.without_kernels():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(5)
    assert config.uses_kernels()
    with config.without_kernels():
        leave.set()
        thread.join()
        assert not config.uses_kernels()
    assert config.uses_kernels()


@pytest.mark.parametrize(
    ("name", "value"),
    [("KERNELS", "abc"), ("NUM_THREADS", "abc"), ("NUM_THREADS", "0"), ("NUM_THREADS", "-1")],
)
def test_settings_that_mean_nothing_are_refused(name, value):
    program = "import tinygrad_ai as ta; ta.jit(lambda x: x * 2)(ta.ones((2,)))"
    environment = {**os.environ, f"TINYGRAD_AI_{name}": value}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    ).stderr
    assert f"TINYGRAD_AI_{name} must be" in said and f"not '{value}'" in said
