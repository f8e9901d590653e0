"""Kernels that move elements: scattering with addition, copies, concatenation, slices put back."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from launching import check, guarded, launched

import tinygrad_ai as ta
from tinygrad_ai.errors import IndexRangeError
from tinygrad_ai.jit.step import jit
from tinygrad_ai.kernels.cpu.arrays import run
from tinygrad_ai.kernels.cpu.copy import copy_units, emit_copy, emit_zeros, zeros_units
from tinygrad_ai.kernels.cpu.scatter import Scatter, emit_scatter, scatter_units
from tinygrad_ai.ops.index import scatter

DTYPES = st.sampled_from(["float32", "float64"])


@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from([1, 2, 4, 16]),
    DTYPES,
    st.sampled_from(["int32", "int64"]),
)
def test_rows_are_added_at_their_indices_in_order(width, size, rows, lanes, dtype, kind):
    rng = np.random.default_rng(width + 40 * rows)
    index = rng.integers(-size, size, rows).astype(kind)
    g = rng.standard_normal((rows, width)).astype(dtype)
    wanted = np.zeros((size, width), dtype)
    for k, row in zip(index, g, strict=True):
        wanted[k] += row
    s = Scatter(rows, width, size, kind, dtype)
    memory, out = guarded(wanted.shape, dtype)
    units = scatter_units(s, lanes)
    for splits in ((), (units // 2,), tuple(range(1, units))):
        out[:] = 7.0
        launched(emit_scatter(s, lanes), [out, g, index], units, 0, splits)
        found = check(memory, wanted.shape, wanted, dtype)
        np.testing.assert_array_equal(found, wanted)  # the order is that of the indices


def test_an_index_outside_the_table_adds_nothing():
    index = np.array([0, 3, -4, 2, 1 << 40, -(1 << 40)])
    g = np.ones((6, 5))
    memory, out = guarded((3, 5), "float64")
    s = Scatter(6, 5, 3, "int64", "float64")
    launched(emit_scatter(s), [out, g, index], scatter_units(s))
    check(memory, (3, 5), np.array([1.0, 0, 1])[:, None] * np.ones(5), "float64")


@st.composite
def copies(draw):
    """A shape, and two arrays of which views of that shape can be taken."""
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    shape[-1] = draw(st.integers(1, 37))
    steps = [draw(st.lists(st.integers(1, 4), min_size=len(shape), max_size=len(shape)))] * 2
    orders = [draw(st.permutations(range(len(shape)))) for _ in range(2)]
    return tuple(shape), steps, orders


@given(copies(), st.sampled_from(["float32", "float64", "int32", "int64", "bool"]))
def test_copies_between_any_strides(case, dtype):
    shape, steps, orders = case
    rng = np.random.default_rng(0)
    memories, views = [], []
    for step, order in zip(steps, orders, strict=True):
        whole = [shape[k] * step[k] for k in order]
        memory = (rng.random(int(np.prod(whole)) + 8) * 100).astype(dtype)
        view = memory[4:-4].reshape(whole).transpose(np.argsort(order))
        memories.append(memory)
        views.append(view[tuple(slice(None, None, s) for s in step)])
    target, source = views
    wanted = memories[0].copy()
    place = np.ndarray(shape, dtype, wanted, 4 * wanted.itemsize, target.strides)
    place[...] = source
    strides = [tuple(s // v.itemsize for s in v.strides) for v in views]
    units = copy_units(shape, *strides)
    text = emit_copy(shape, *strides, dtype)
    launched(text, [memories[0][4:], memories[1][4:]], units, 0, (units // 2,))
    np.testing.assert_array_equal(memories[0], wanted)


@pytest.mark.parametrize(("dtype", "kind"), [("bool", "i8"), ("int32", "i32"), ("int64", "i64")])
def test_scattered_elements_have_the_type_and_the_alignment_of_memory(dtype, kind):
    text = emit_copy((8,), (3,), (1,), dtype, 4)
    call = next(line for line in text.splitlines() if "call" in line and "scatter" in line)
    assert f"<4 x {kind}>" in call and f"i32 {np.dtype(dtype).itemsize}," in call


@pytest.mark.parametrize("size", [1, 17, 4096, 5000, 12288])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_zeros(size, dtype):
    memory = np.ones(size + 32, dtype)
    launched(emit_zeros(size, dtype), [memory[16:]], zeros_units(size), 0, (1,))
    assert not memory[16:-16].any() and memory[:16].all() and memory[-16:].all()


@pytest.mark.parametrize("last", [True, False])
def test_rows_put_together_from_pieces_are_copied_piece_by_piece(last):
    """As heads side by side are, (batch, heads, time, width) to (batch, time, heads·width)."""
    x = ta.Tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 12)))

    def f(x):
        y = x.transpose(0, 2, 1, 3).reshape(2, 5, 36)
        return y if last else ta.tanh(y) * 2

    step = ta.jit(f)
    np.testing.assert_allclose(step(x).numpy(), f(x).numpy(), rtol=1e-14)
    assert "gather" not in step.source()


def test_concatenate_stack_and_slices_of_a_compiled_function_are_native():
    rng = np.random.default_rng(0)
    a, b, g = (ta.Tensor(rng.standard_normal(s)) for s in ((3, 4), (3, 9), (2, 2)))

    def f(a, b, g):
        joined = ta.concatenate([a, b[:, ::-2], a], 1), ta.concatenate([a.T, b.T], 0)
        stacked = ta.stack([a, a * 2, b[:, 1:5]], -1), ta.stack([a.T, a.T])
        back = ta.grad(lambda a: (a[1:, ::-2] * g).sum() + (a[-1, 1:3] * g[0]).sum())(a)
        return *joined, *stacked, back

    step = jit(f)
    for _ in range(2):
        for mine, eager in zip(step(a, b, g), f(a, b, g), strict=True):
            np.testing.assert_array_equal(mine.numpy(), eager.numpy())
    assert "numpy" not in step.report()


def test_stacking_equal_parts_compiles_one_kernel():
    x = ta.Tensor(np.arange(60.0).reshape(12, 5))
    step = jit(lambda x: ta.stack([x[k] for k in range(12)], 1))
    np.testing.assert_array_equal(step(x).numpy(), x.numpy().T)
    assert re.search(r"concatenate +\d+ +12 ", step.report())
    assert step.source().count("define void") == 1


@pytest.mark.parametrize(
    ("keys", "joined", "zeroed"),
    [
        ([(slice(None), k) for k in range(6)], True, False),
        ([(slice(None), 4), (slice(0, 2), 1), (slice(2, 4), slice(0, 2))], True, True),
        ([(3, None, slice(None, None, -2)), (slice(0, 3), slice(1, None, 3))], True, True),
        ([(slice(None), slice(0, 3)), (slice(None), slice(2, 6))], False, True),
    ],
)
def test_slices_that_do_not_overlap_are_put_back_without_additions(keys, joined, zeroed):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6))
    weights = [rng.standard_normal(x[key].shape) for key in keys]

    def f(x):
        return ta.grad(
            lambda x: sum((x[k] ** 2 * w).sum() for k, w in zip(keys, weights, strict=True))
        )(x)

    step, wanted = jit(f), np.zeros_like(x)
    for key, w in zip(keys, weights, strict=True):
        wanted[key] += 2 * x[key] * w
    for _ in range(2):
        np.testing.assert_allclose(step(ta.Tensor(x)).numpy(), wanted, rtol=1e-14)
    report = step.report()
    assert ("slices" in report) is joined and ("zeros" in report) is zeroed
    assert "numpy" not in report


def test_the_gradient_of_an_embedding_is_native():
    rng = np.random.default_rng(0)
    table, g = ta.Tensor(rng.standard_normal((7, 19))), ta.Tensor(rng.standard_normal((2, 3, 19)))
    index = ta.Tensor(np.array([[0, 3, -1], [3, 3, 6]]))

    def f(table, index, g):
        return ta.grad(lambda table: (ta.take(table, index, 0) * g).sum())(table)

    step = jit(f)
    wanted = f(table, index, g).numpy()
    np.testing.assert_allclose(step(table, index, g).numpy(), wanted, rtol=1e-14)
    assert "numpy" not in step.report() and "scatter" in step.report()


def test_an_eager_embedding_takes_the_kernel_and_still_refuses_indices_outside():
    rng = np.random.default_rng(0)
    g = rng.standard_normal((4096, 64)).astype(np.float32)
    index = rng.integers(-100, 100, 4096)
    params = {"spec": ("array", slice(None)), "shape": (100, 64)}
    found = run("scatter", [g, index], params)
    wanted = np.zeros((100, 64), np.float32)
    np.add.at(wanted, index, g)
    np.testing.assert_array_equal(found, wanted)
    index[5] = 100
    with pytest.raises(IndexRangeError):
        scatter(g, index, **params)
