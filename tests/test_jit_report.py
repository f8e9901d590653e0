"""What a compiled step says of itself, against what is counted by hand."""

import re

import numpy as np
import pytest

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import nn, optim
from tinygrad_ai.jit.cost import flops
from tinygrad_ai.jit.launches import Call, Work
from tinygrad_ai.jit.program import Var
from tinygrad_ai.jit.report import WIDTH, least, lines, short
from tinygrad_ai.train import Trainer

RNG = np.random.default_rng(0)


def tensor(*shape, dtype="float32", requires_grad=False):
    return ta.Tensor(RNG.standard_normal(shape).astype(dtype), requires_grad=requires_grad)


def execution(step):
    """What the only plan of a step runs."""
    ((plan,),) = step.plans.values()
    return plan.running


def listed(step):
    """The lines of the report as tuples, without times."""
    launches = execution(step).launches
    return [x[:6] for x in lines(launches, [0.0] * len(launches))]


def line_of(step, name):
    (found,) = [x for x in listed(step) if x[0] == name]
    return found


def reason(step, name):
    """Why ``name`` is no part of an earlier kernel."""
    (found,) = re.findall(rf"^  (.*): .*\b{name}\b", step.report(), re.MULTILINE)
    return found


# ------------------------------------------------------------------------------ bytes and FLOPs


def test_flops_and_bytes_of_a_layer_and_its_loss_are_those_of_the_hand():
    """Every array once; two FLOPs for each product, one for each element made or summed up.

    The bias is added by the product, whose FLOPs are those of its multiplications alone.
    """
    x, w, b = tensor(64, 48), tensor(48, 32), tensor(32)
    step = ta.jit(lambda x, w, b: (ta.relu(x @ w + b) ** 2).mean(1).sum())
    step(x, w, b)
    assert listed(step) == [
        ("matmul+add", "64×32 Σ48", 1, 4 * (64 * 48 + 48 * 32 + 32), 4 * 64 * 32, 2 * 64 * 48 * 32),
        ("relu+power+mean", "64×32", 1, 4 * 64 * 32, 4 * 64, 3 * 64 * 32),
        ("sum", "64", 1, 4 * 64, 4, 64),
    ]


def test_an_update_reads_and_writes_weights_and_slots():
    p = tensor(30, 40, requires_grad=True)
    adam = optim.Adam([p])

    @ta.jit
    def step():
        adam.zero_grad()
        p.sum().backward()
        adam.step()

    step()
    (_, size, count, read, written, work) = line_of(step, "adam")
    assert (size, count, written) == ("30×40", 1, 3 * 4 * 1200)
    assert 3 * 4 * 1200 < read < 4 * 4 * 1200 + 100  # the gradient is the same everywhere
    assert work % 1200 == 0 and 10 <= work // 1200 <= 20


def test_only_what_is_seen_of_an_array_counts():
    """A slice, something broadcast, rows that are gathered, an array read twice."""
    x, b, table = tensor(10, 6, 8), tensor(8), tensor(1000, 8)
    index = ta.Tensor(np.arange(6))
    for f, read in (
        (lambda: x[3] * 2, 48),
        (lambda: x[3] * x[3] + x[4], 96),
        (lambda: ta.broadcast_to(b, (6, 8)) + x[0], 8 + 48),
        (lambda: ta.take(table, index, 0) + b, 48 + 8 + 2 * 6),  # indices have 8 bytes
        (lambda: x[1:] - x[:-1], 480),  # all of it, though both have 432
    ):
        step = ta.jit(f)
        step()
        ((_, _, _, found, _, _),) = listed(step)
        assert found == 4 * read


@pytest.mark.parametrize(("groups", "stride", "rank"), [(1, 1, 2), (2, 1, 2), (1, 2, 2), (2, 2, 1)])
def test_convolutions_and_their_gradients_cost_the_same(groups, stride, rank):
    """Two for each weight that meets each result, whichever of the three is computed."""
    x = tensor(3, 4, *(9, 8)[:rank], requires_grad=True)
    w = tensor(6, 4 // groups, *(3, 2)[:rank], requires_grad=True)
    conv = F.conv2d if rank == 2 else F.conv1d

    @ta.jit
    def step():
        y = conv(x, w, stride=stride, groups=groups)
        (y * y).sum().backward()
        return y

    y = step()
    found = [e for e in execution(step).program.equations if e.operation.kind == "contraction"]
    assert len(found) == 3
    assert {flops(e) for e in found} == {2 * y.size * w.size // 6}


def test_an_einsum_costs_two_for_each_product():
    step = ta.jit(lambda a, b: ta.einsum("bik,kbj->jbi", a, b))
    step(tensor(2, 3, 4), tensor(4, 2, 5))
    assert sum(map(flops, execution(step).program.equations)) == 2 * 2 * 3 * 4 * 5


def test_what_only_moves_elements_costs_nothing():
    step = ta.jit(lambda x: ta.concatenate([x.T, x[::-1, :3].T, ta.take(x, [0, 2], 1).T]))
    step(tensor(3, 4))
    assert listed(step) and all(work == 0 for *_, work in listed(step))


# --------------------------------------------------------------------------- folding and layout


def recurrent(time=30):
    model = nn.LSTM(5, 8)
    x = tensor(3, time, 5)
    sgd = optim.SGD(model.parameters(), lr=0.1)

    @ta.jit
    def step():
        sgd.zero_grad()
        (model(x)[0] ** 2).mean().backward()
        sgd.step()

    step()
    return step


def test_time_steps_share_lines():
    short_, long = (recurrent(time) for time in (10, 30))
    assert len(execution(long).launches) > 2.5 * len(execution(short_).launches)
    assert abs(len(listed(long)) - len(listed(short_))) < 4
    (products,) = [x for x in listed(long) if x[1] == "3×32 Σ8" and x[0] == "linear+add"]
    assert products[2] == 30 and products[5] == 30 * 2 * 3 * 32 * 8
    for x in listed(long):
        assert x[2] >= 1
    assert sum(x[2] for x in listed(long)) == len(execution(long).launches)


def test_a_report_fits_a_terminal_and_its_sums_are_right():
    step = recurrent()
    for times in (False, True):
        text = step.report(times)
        assert max(map(len, text.splitlines())) <= WIDTH
        total = next(x for x in text.splitlines() if x.startswith("total")).split()
        assert total[1] == str(len(execution(step).launches))
        for k, column in ((2, 3), (3, 4), (4, 5)):
            assert total[k] == short(sum(x[column] for x in listed(step)))
        assert ("GFLOP/s" in text) is times and (total[-1] == "100%") is times
    shares = [int(x) for x in re.findall(r"(\d+)%$", text, re.MULTILINE)][:-1]
    assert 80 <= sum(shares) <= 120  # rounded


def test_long_names_go_on_in_the_next_line():
    step = ta.jit(lambda x: ta.exp(ta.sin(ta.tanh(ta.sqrt(ta.abs(ta.log1p(ta.cos(x) ** 2)))))) + 1)
    step(tensor(5, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    text = step.report(times=True)
    names = "".join(re.findall(r"^ *([a-z0-9+]+\+?)(?:  |$)", text, re.MULTILINE))
    assert "cos+power+log1p+abs+sqrt+tanh+sin+exp+add" in names.replace(" ", "")
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1k"), (401408, "401k"), (999_600, "1M"),
     (2.56e9, "2.56G"), (3e12, "3T"), (4e15, "4e+03T")],
)  # fmt: skip
def test_numbers_have_three_digits(n, text):
    assert short(n) == text


def test_composites_have_the_users_names():
    step = ta.jit(lambda x, y: F.cross_entropy(F.softmax(x * 2), y))
    step(tensor(4, 5), ta.Tensor(np.arange(4)))
    assert "multiply+softmax" in step.report() and "cross_entropy" in step.report()
    assert "amax" not in step.report()


# ------------------------------------------------------------------------------------- reasons


def test_reasons_for_what_was_not_fused():
    x, w = tensor(8, 6, requires_grad=True), tensor(6, 5)
    sgd = optim.SGD([x], lr=0.1)

    @ta.jit
    def step(y):
        sgd.zero_grad()
        h = ta.relu(x @ w)
        (h - y).sum(0).tanh().max().backward()
        sgd.step()

    step(tensor(8, 5))
    assert "a product of matrices: matmul×2" in step.report()
    assert reason(step, "relu") == "it reads what a kernel of a single operation makes"
    assert reason(step, "sgd") == "an optimiser's update, done in place"
    assert "a reduction over leading axes: sum" in step.report()
    assert "NumPy calls: 0" in step.report() and "left to NumPy" not in step.report()


@pytest.mark.parametrize(
    ("f", "name", "why"),
    [
        (lambda x: (ta.exp(x).sum(1), ta.tanh(x.reshape(8, 3).sum(1))), "sum", "another length"),
        (lambda x: ta.tanh(ta.exp(x).T + x.reshape(6, 4)), "add", "in another order"),
        (lambda x: ta.exp(x).sum(1).sum(), "sum", "another number of elements"),
        (lambda x: (ta.exp(x), ta.tanh(ta.arange(3.0) + 1)), "add", "shares no array"),
    ],
)
def test_reasons_between_loops(f, name, why):
    step = ta.jit(f)
    step(tensor(4, 6))
    assert why in reason(step, name)


def test_a_kernel_is_full():
    def f(x):
        for k in range(70):
            x = x * (k + 2)
        return x

    step = ta.jit(f)
    step(tensor(3))
    assert "at most 60 operations" in reason(step, "multiply")


@pytest.mark.parametrize(
    ("f", "name", "why"),
    [
        (lambda x: ta.sort(x), "sort", "does not say how to lower it"),
        (lambda x: ta.exp(x.astype("float16")), "exp", "no kernel holds float16"),
        (lambda x: x.astype("int64") @ x.T.astype("int64"), "matmul", "a product of int64"),
        (lambda x: ta.exp(x[:0]), "exp", "no elements"),
    ],
)
def test_calls_of_numpy_say_why(f, name, why):
    step = ta.jit(f)
    step(tensor(4, 6))
    left = step.report().split("left to NumPy:\n")[1]
    assert re.search(rf"{why}: .*{name}", left)
    assert f"numpy {name} " in step.report()


# --------------------------------------------------------------------------------------- times


def test_timing_changes_nothing():
    """Neither parameters, slots, statistics, gradients and the generator, nor later results."""
    results = []
    for timed in (False, True):
        ta.random.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Tanh(), nn.Linear(8, 3)
        )
        total = ta.Tensor(np.zeros(3, "f"))
        adam = optim.Adam(model.parameters(), lr=0.1)

        @ta.jit
        def step(x, y, model=model, total=total, adam=adam):
            adam.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            adam.step()
            total[...] = total + ta.sort(out.detach().sum(0))
            return loss

        rng = np.random.default_rng(1)
        seen = []
        for _ in range(4):
            x, y = rng.standard_normal((7, 6)).astype("f"), rng.integers(0, 3, 7)
            seen.append(step(ta.Tensor(x), ta.Tensor(y)).numpy().tobytes())
            if timed:
                assert "GB/s" in step.report(times=True)
        seen += [v.numpy().tobytes() for v in model.state_dict().values()]
        seen += [p.grad.numpy().tobytes() for p in model.parameters()]
        seen += [
            np.asarray(v).tobytes()
            for slots in adam.state_dict()["state"].values()
            for v in slots.values()
        ]
        results.append([*seen, total.numpy().tobytes(), str(ta.random.generator().state_dict())])
    assert results[0] == results[1]


def test_arguments_are_not_kept_by_timing():
    step = ta.jit(lambda x: x * 2 + 1)
    step(tensor(50))
    held = dict(execution(step).memory)
    step.report(times=True)
    assert execution(step).memory.keys() == held.keys()
    assert all(execution(step).memory[v] is array for v, array in held.items())


def test_times_grow_with_the_work():
    step = ta.jit(lambda a, b: (a @ a.T, b + 1))
    step(tensor(256, 256), tensor(16))
    times = dict(
        zip((x.name for x in execution(step).launches), execution(step).times(), strict=True)
    )
    assert times["matmul"] > 20 * times["add"] > 0


def test_a_call_that_refuses_the_stand_ins_has_no_time():
    """Random numbers are no positive definite matrix."""
    step = ta.jit(lambda x: (ta.linalg.cholesky(x), x * 2))
    step(ta.Tensor(np.eye(3)))
    text = step.report(times=True)
    assert re.search(r"numpy cholesky .*– +– +– +–", text)
    assert re.search(r"^multiply .*\d%$", text, re.MULTILINE)


def test_the_least_of_several():
    spent = []

    def run(count):
        spent.append(count)

    found = least([run])
    assert found[0] > 0 and spent[0] == 1 and max(spent) > 1


def test_bytes_of_one_root_are_no_more_than_it_has():
    """Windows that overlap, and a launch that goes on writing where another began."""
    a, b = Var((10,), np.dtype("float32")), Var((4,), np.dtype("float64"))
    assert Work("", [], [b, a, a], {0}, {1: 7, 2: 7}).moved() == (40, 32)
    assert Work("", [], [b, a], set(), {0: 1}).moved() == (40, 8)
    assert Call("", [], [b, a], {0, 1}, {}, print, "").moved() == (0, 72)


# -------------------------------------------------------------------------------- how to reach it


def test_a_report_before_any_call():
    assert "it has not been called" in ta.jit(lambda x: x).report()
    debugged = ta.jit(lambda x: x + 1, debug=True)
    debugged(tensor(2))
    assert "debug=True" in debugged.report()


def test_a_step_of_no_launches_has_a_report():
    step = ta.jit(lambda x: x)
    step(tensor(3))
    for times in (False, True):
        assert re.search(r"^total +0 ", step.report(times), re.MULTILINE)


def test_each_signature_has_its_table():
    def double(x):
        return x * 2

    step = ta.jit(double)
    step(tensor(3))
    step(tensor(4, 5, dtype="float64"))
    assert "double(float32[3])\n" in step.report()
    assert "double(float64[4, 5])\n" in step.report()


def test_a_trainer_reports_its_step():
    x, y = RNG.standard_normal((20, 4)).astype("f"), RNG.integers(0, 3, 20)
    trainer = Trainer(nn.Linear(4, 3), "cross_entropy", "adam")
    assert "nothing was trained yet" in trainer.report()
    trainer.fit(x, y, batch_size=10, progress=False)
    text = trainer.report(times=True)
    assert "train_step(float32[10, 4], int64[10])" in text
    assert "linear" in text and "adam" in text and "100%" in text
    trainer.jit = False
    trainer.fit(x, y, batch_size=10, progress=False)
    assert "jit=False" in trainer.report()


def test_a_trainer_says_why_its_step_is_eager():
    class Peeking(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if x.sum().item() > 1e6 else 1)

    trainer = Trainer(Peeking(4, 3), "cross_entropy", "adam")
    with pytest.warns(UserWarning, match="not compiled"):
        trainer.fit(RNG.standard_normal((6, 4)).astype("f"), np.arange(6) % 3, progress=False)
    assert "runs eagerly: " in trainer.report() and "item()" in trainer.report()
