"""What a compiled function does to the world is what the plain one does, call after call."""

import inspect
import re
import threading
import time

import numpy as np
import pytest
from stepping import X, Y, leaf, mlp, same_state, state_of, training_step

import tinygrad_ai as ta
from tinygrad_ai import nn, optim
from tinygrad_ai.errors import GraphError
from tinygrad_ai.jit.threads import Pace, _pools
from tinygrad_ai.transforms.tree import flatten


def line_of(function, text):
    """``file:line`` of the first line of ``function`` that contains ``text``."""
    lines, first = inspect.getsourcelines(function)
    return (
        f"{__file__.rsplit('/', 1)[-1]}:{first + next(k for k, s in enumerate(lines) if text in s)}"
    )


# ------------------------------------------------------------------------------------- state

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "plain SGD": lambda p: optim.SGD(p, lr=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_leaves_what_the_eager_one_leaves(name):
    """Parameters, running statistics, gradients, slots, step counts, and the generator."""
    states = []
    for wrap in (lambda f: f, ta.jit):
        model = mlp()
        optimizer = OPTIMIZERS[name](model.parameters())
        step = wrap(training_step(model, optimizer))
        losses = []
        for x, y in zip(X, Y, strict=True):
            losses.append(step(ta.Tensor(x), ta.Tensor(y)))
        states.append({"loss": [loss.item() for loss in losses], **state_of(model, optimizer)})
        if isinstance(step, type(ta.jit(len))):
            assert step.captures == 1
    same_state(states[1], states[0])


def test_elementwise_updates_have_eagers_bits():
    """No sum is reordered in them."""
    results = []
    for wrap in (lambda f: f, ta.jit):
        x = leaf(0.3, -1.7, 2.9)
        optimizer = optim.SGD([x], lr=0.1, momentum=0.9)

        @wrap
        def step(optimizer=optimizer, x=x):
            optimizer.zero_grad()
            (x * x * 0.5 + x).sum().backward()
            optimizer.step()

        for _ in range(5):
            step()
        results.append((x.numpy().tobytes(), x.grad.numpy().tobytes()))
    assert results[0] == results[1]


def test_reads_and_writes_happen_in_program_order():
    x, y = ta.Tensor(np.array([1.0, 2.0])), ta.Tensor(np.array([5.0, 7.0]))

    @ta.jit
    def step(a):
        first = x * 1
        x[...] = y + a
        y[:] = x * 2
        x[...] = x + first
        return first, x, y + 0

    for _ in range(3):
        old_x, old_y = x.numpy().copy(), y.numpy().copy()
        first, x_now, y_now = step(ta.Tensor(np.array([10.0, 20.0])))
        new = old_y + np.array([10, 20])
        np.testing.assert_array_equal(first.numpy(), old_x)
        np.testing.assert_array_equal(x.numpy(), new + old_x)
        np.testing.assert_array_equal(y.numpy(), 2 * new)
        np.testing.assert_array_equal(x_now.numpy(), x.numpy())
        np.testing.assert_array_equal(y_now.numpy(), y.numpy())
    assert x_now is not x and not np.shares_memory(x_now.numpy(), x.numpy())


def test_values_of_tensors_are_swapped_by_writing_each_to_the_other():
    x, y = ta.Tensor(np.array([1.0, 2.0])), ta.Tensor(np.array([5.0, 7.0]))

    @ta.jit
    def swap():
        kept = x * 1
        x[...] = y
        y[...] = kept

    swap()
    np.testing.assert_array_equal([x.numpy(), y.numpy()], [[5, 7], [1, 2]])
    swap()
    np.testing.assert_array_equal([x.numpy(), y.numpy()], [[1, 2], [5, 7]])


def test_what_was_handed_out_does_not_change_later():
    w = leaf(1.0, 2.0)

    @ta.jit
    def step(x):
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss, w.detach() * x, x, w.grad

    kept = []
    for k in range(4):
        x = ta.Tensor(np.array([k, k + 1.0]))
        outputs = (*step(x), w.grad)
        kept.append((outputs, [o.numpy().copy() for o in outputs]))
    for outputs, values in kept:
        for output, value in zip(outputs, values, strict=True):
            np.testing.assert_array_equal(output.numpy(), value)
    assert not np.shares_memory(outputs[3].numpy(), w.grad.numpy())
    outputs[2][...] = -1
    np.testing.assert_array_equal(x.numpy(), [3, 4])


def test_gradients_add_up_across_calls():
    """No zero_grad in the step: what is there is added to, and None starts from nothing."""
    w = leaf(1.0, -2.0)

    @ta.jit
    def step(x):
        (w * x).sum().backward()

    for k in range(1, 4):
        step(ta.Tensor(np.array([1.0, 3.0])))
        np.testing.assert_array_equal(w.grad.numpy(), [k, 3 * k])
    assert step.captures == 2 and "gradient was there" in step.explain_retrace()
    w.grad = None
    step(ta.Tensor(np.array([1.0, 3.0])))
    np.testing.assert_array_equal(w.grad.numpy(), [1, 3])
    assert step.captures == 2


def test_zero_grad_alone_leaves_none():
    w = leaf(1.0)
    optimizer = optim.SGD([w], lr=0.1)
    w.grad = ta.Tensor(np.array([3.0]))
    step = ta.jit(lambda: optimizer.zero_grad())
    step()
    assert w.grad is None
    w.grad = ta.Tensor(np.array([3.0]))
    step()
    assert w.grad is None


def test_arguments_get_gradients():
    step = ta.jit(lambda x: (x * x).sum().backward())
    for k in range(3):
        x = leaf(1.0, k)
        step(x)
        np.testing.assert_array_equal(x.grad.numpy(), [2, 2 * k])


def test_an_argument_that_is_also_closed_over_is_one_tensor():
    w = leaf(1.0, 2.0)
    step = ta.jit(lambda x: ((w * x).sum()).backward())
    step(w)
    np.testing.assert_array_equal(w.grad.numpy(), [2, 4])


def test_the_same_tensor_twice_as_argument():
    w = leaf(1.0, 2.0)
    step = ta.jit(lambda a, b: (a * a * b).sum().backward())
    step(w, w)
    np.testing.assert_array_equal(w.grad.numpy(), 3 * np.array([1.0, 4.0]))


def test_two_networks_two_optimizers():
    """A step of a generator and its critic, each with an optimiser of its own."""
    states = []
    for wrap in (lambda f: f, ta.jit):
        ta.random.manual_seed(1)
        maker = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 5))
        critic = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1))
        of_maker = optim.Adam(maker.parameters(), lr=0.01)
        of_critic = optim.RMSprop(critic.parameters(), lr=0.01)

        @wrap
        def step(real, maker=maker, critic=critic, of_maker=of_maker, of_critic=of_critic):
            noise = ta.random.randn(8, 2)
            of_critic.zero_grad()
            fake = maker(noise)
            worse = critic(fake.detach()).mean() - critic(real).mean()
            worse.backward()
            of_critic.step()
            of_maker.zero_grad()
            loss = -critic(fake).mean()
            loss.backward()
            of_maker.step()
            return worse, loss

        for x in X[:4]:
            step(ta.Tensor(x))
        states.append(state_of(nn.ModuleList([maker, critic]), of_maker, of_critic))
    same_state(states[1], states[0])


# ------------------------------------------------------------------------- random numbers


def test_dropout_differs_between_calls_and_is_eagers():
    drop = nn.Dropout(0.5)
    x = ta.Tensor(np.ones(50))
    draws = []
    for f in (drop, ta.jit(lambda x: drop(x))):
        ta.random.manual_seed(3)
        draws.append([f(x).numpy() for _ in range(3)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[1][0] != draws[1][1]).any()


def test_draws_come_in_order_and_unused_ones_count():
    def draws():
        ta.random.randn(3)
        return ta.random.uniform(size=(2,)), ta.random.randint(0, 100, (4,)), ta.random.rand(1)

    step = ta.jit(draws)
    results = []
    for f in (draws, step):
        ta.random.manual_seed(5)
        results.append([a.numpy() for _ in range(3) for a in f()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------- loud errors

LOUD = {
    "item": lambda x: x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "truth": lambda x: x if x.sum() > 0 else -x,
    "repr": lambda x: repr(x),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "tolist": lambda x: x.tolist(),
    "nonzero": lambda x: ta.nonzero(x),
    "mask": lambda x: x[x > 0],
    "np.asarray": lambda x: np.asarray(x),
    "part": lambda x: STATE.__setitem__(x > 0, x.sum()),
}
STATE = ta.Tensor(np.zeros(2))


@pytest.mark.parametrize("name", LOUD)
def test_asking_for_values_names_the_line(name):
    step = ta.jit(LOUD[name])
    with pytest.raises(GraphError) as caught:
        step(ta.Tensor(np.array([1.0, -2.0])))
    first = inspect.getsourcelines(test_asking_for_values_names_the_line)[1]
    line = re.search(r"test_jit\.py:(\d+)", str(caught.value))
    assert line and 0 < first - int(line[1]) < 30, caught.value


def test_what_is_known_can_be_asked():
    @ta.jit
    def step(x):
        assert len(x) == 3 and x.shape == (3, 2) and x.ndim == 2 and x.dtype == "float32"
        return sum(row * k for k, row in enumerate(x))

    x = np.arange(6, dtype="f").reshape(3, 2)
    np.testing.assert_array_equal(step(ta.Tensor(x)).numpy(), x[1] + 2 * x[2])


@pytest.mark.parametrize("source", [time.perf_counter, lambda: np.random.default_rng().random()])
def test_what_changes_by_itself_is_refused(source):
    w = leaf(1.0)
    optimizer = optim.Adam([w])

    @ta.jit
    def step(x):
        (w * x * source()).sum().backward()
        optimizer.step()

    with pytest.raises(GraphError, match="two captures of the function differ"):
        step(ta.Tensor(np.ones(1)))
    assert not optimizer.state and w.grad is None


def test_an_exception_while_capturing_leaves_everything_as_it_was():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    inner = training_step(model, optimizer)

    def step(x, y):
        inner(x, y)
        ta.random.randn(3)
        raise ValueError("in the middle")

    given = ta.Tensor(X[0]), ta.Tensor(Y[0])
    for _ in range(2):
        before = state_of(model, optimizer)
        compiled = ta.jit(step)
        for _ in range(2):
            with pytest.raises(ValueError, match="in the middle"):
                compiled(*given)
            same_state(state_of(model, optimizer), before, 0)
        inner(*given)
    ta.jit(inner)(*given)


def test_debug_runs_eagerly(capsys):
    step = ta.jit(lambda x: (print(x.item()), x * 2)[1], debug=True)
    assert step(ta.Tensor(np.array(3.0))).item() == 6 and "3.0" in capsys.readouterr().out
    decorated = ta.jit(debug=True)(lambda x: float(x))
    assert decorated(ta.Tensor(np.array(3.0))) == 3


# ----------------------------------------------------------------- functions inside functions


def cubed(x):
    return (x**3).sum()


@ta.custom_vjp
def clipped_slope(x):
    return ta.sin(x), lambda g: (ta.clip(g * ta.cos(x), -0.5, 0.5),)


TRANSFORMS = {
    "grad": ta.grad(cubed),
    "value_and_grad": ta.value_and_grad(cubed),
    "vjp": lambda x: ta.vjp(ta.sin, x)[1](x),
    "vmap": lambda x: ta.vmap(lambda row: row * row.sum())(x.reshape(2, -1)),
    "vmap of grad": lambda x: ta.vmap(ta.grad(cubed))(x.reshape(2, -1)),
    "custom_vjp": ta.grad(lambda x: clipped_slope(x).sum()),
    "checkpoint": ta.grad(ta.checkpoint(cubed)),
    "hessian": ta.hessian(cubed),
    "hvp": lambda x: ta.hvp(cubed, x, x),
    "nested jit": lambda x: ta.jit(cubed)(x) * ta.vmap(ta.jit(ta.sin))(x),
    "jvp": lambda x: ta.jvp(ta.sin, (x,), (x,)),
    "stop_gradient": ta.grad(lambda x: (x * ta.stop_gradient(x)).sum()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives_inside(name):
    f, x = TRANSFORMS[name], ta.Tensor(np.array([0.3, -1.2, 2.0, 0.7]))
    step = ta.jit(f)
    for _ in range(2):
        found, expected = step(x), f(x)
        for a, b in zip(flatten(found)[0], flatten(expected)[0], strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-12, 1e-15)


def test_graphs_are_not_cut_silently():
    x = ta.Tensor(np.array([0.5, 2.0]))
    for call in (ta.grad(ta.jit(cubed)), lambda x: ta.jvp(ta.jit(ta.sin), (x,), (x,))):
        with pytest.raises(GraphError, match="depends on argument x, which requires gradients"):
            call(x)
    with pytest.raises(GraphError, match="its graph would be cut"):
        ta.jit(cubed)(leaf(1.0) * 2)
    w = leaf(1.0) * 2
    with pytest.raises(GraphError, match="computed outside of it"):
        ta.jit(lambda x: x * w)(x)
    assert not ta.jit(lambda x: cubed(x).detach())(leaf(1.0)).requires_grad


def test_second_order_backward():
    states = []
    for wrap in (lambda f: f, ta.jit):
        w = leaf(0.5, -0.3)

        @wrap
        def step(x, w=w):
            w.grad = None
            loss = ta.tanh(w * x).sum()
            loss.backward(create_graph=True)
            penalty = (w.grad * w.grad).sum()
            w.grad = None
            penalty.backward()
            return penalty

        value = step(ta.Tensor(np.array([1.0, 2.0])))
        states.append([value.numpy(), w.grad.numpy()])
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, 1e-13)


# ------------------------------------------------------------------------ arguments and results


def test_nested_arguments_and_results():
    @ta.jit
    def step(model, batch, *rest, scale=1):
        x, (y, z) = batch["x"], batch["yz"]
        return {"a": [model(x) * scale, (y, None, "text")], "b": z + rest[0]["n"]}, 7

    model = nn.Linear(2, 2)
    batch = {"x": ta.Tensor(np.ones((1, 2), "f")), "yz": (np.arange(3), ta.Tensor(np.ones(2)))}
    for k in range(3):
        out, seven = step(model, batch, {"n": np.array([k, 1.0])}, scale=2)
        np.testing.assert_allclose(out["a"][0].numpy(), 2 * model(batch["x"]).numpy(), 1e-6)
        np.testing.assert_array_equal(out["a"][1][0].numpy(), [0, 1, 2])
        assert out["a"][1][1:] == (None, "text") and seven == 7
        np.testing.assert_array_equal(out["b"].numpy(), [k + 1, 2])
    assert step.captures == 1
    other = nn.Linear(2, 2)
    out, _ = step(other, batch, {"n": np.array([1.0, 1.0])}, scale=2)
    np.testing.assert_allclose(out["a"][0].numpy(), 2 * other(batch["x"]).numpy(), 1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 3), (2, 1, 4)])
@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int8", "int32", "int64", "uint8", "bool"]
)
def test_dtypes_and_shapes(dtype, shape):
    x = (10 * np.random.default_rng(1).random(shape) - 3 * (dtype[0] in "fi")).astype(dtype)

    def f(x):
        y = ta.where(x > 1, x, x)
        return y, x.sum(), x.reshape(-1), x.T, (x == x), x.astype("float64") * 2

    step = ta.jit(f)
    for _ in range(2):
        for a, b in zip(step(ta.Tensor(x)), f(ta.Tensor(x)), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a.numpy(), b.numpy(), 2e-3 if dtype == "float16" else 1e-6)


def test_functions_without_tensors():
    step = ta.jit(lambda k: (k + 1, "x"))
    assert step(1) == (2, "x") and step(1) == (2, "x") and step(2) == (3, "x")
    assert ta.jit(lambda: None)() is None


def test_arguments_that_lie_otherwise_in_memory():
    step = ta.jit(lambda x: x * 2)
    base = np.arange(24.0).reshape(4, 6)
    for view in (base, base.T.copy().T, base[:, ::-1], np.asfortranarray(base)):
        np.testing.assert_array_equal(step(ta.Tensor.box(view)).numpy(), view * 2)


def test_threads_of_python_may_share_a_step():
    """Several call one step at the same time, and each gets its own result."""
    w = np.random.default_rng(0).standard_normal((40, 40))
    step = ta.jit(lambda x: ta.tanh(x @ w).sum(1))
    inputs = [np.random.default_rng(k).standard_normal((30, 40)) for k in range(4)]
    expected = [np.tanh(x @ w).sum(1) for x in inputs]
    wrong = []

    def work(k):
        for _ in range(25):
            try:
                np.testing.assert_allclose(step(ta.Tensor(inputs[k])).numpy(), expected[k], 1e-10)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


def test_a_step_tells_what_it_is():
    step = ta.jit(lambda x, w: ta.relu(x @ w).sum())
    assert step.explain_retrace() == "it has not been called"
    step(*(ta.Tensor(np.ones((4, 4), "f")) for _ in range(2)))
    assert "matmul" in step.report() and "relu" in step.report()
    assert "define" in step.source()
    assert "matmul(v0, v1)" in step.program() and "return" in step.program()
    assert "lambda" in step.__name__


# ---------------------------------------------------------------------------------------- threads


def test_as_many_threads_as_are_faster_just_now(monkeypatch):
    clock, speed, used = [0.0], {1: 2.0, 2: 1.0}, []
    monkeypatch.setattr("tinygrad_ai.jit.threads.perf_counter", lambda: clock[0])

    def run(count):
        clock[0] += speed[count]
        used.append(count)
        return True

    def after(calls):
        used.clear()
        assert all(pace(run) for _ in range(calls))
        return used[-1]

    pace = Pace(2)
    assert after(10) == 2
    speed[2] = 9.0  # somebody else needs the cores
    assert after(1000) == 1 and used.count(2) < 20
    speed[2] = 1.0
    assert after(Pace.SELDOM + 10) == 2
    speed[1] = 0.9  # now about as fast
    assert after(Pace.SELDOM + 10) == 1
    assert not Pace(2)(lambda count: False)
    one = Pace(1)
    assert one(run) and used[-1] == 1


def test_threads_that_fell_asleep_take_part_again(monkeypatch):
    """After some seconds without a step they leave the native code."""
    monkeypatch.setenv("TINYGRAD_AI_NUM_THREADS", "2")
    x = ta.Tensor(np.linspace(-1.0, 1.0, 120_000).reshape(300, 400))
    step = ta.jit(lambda x: (ta.exp(x) * x).sum(axis=1))
    wanted = step(x).numpy()
    deadline = time.monotonic() + 60
    while not _pools[2]._asleep[1]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(3):
        np.testing.assert_array_equal(step(x).numpy(), wanted)
    assert not _pools[2]._asleep[1], "it did not wake"
