"""Products by our own kernels: against float64 NumPy, for any layout, cut, and width of vectors."""

import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launching import launched

from tinygrad_ai.kernels.cpu.gemm import emit_product, prepared
from tinygrad_ai.kernels.cpu.matmul import matmul
from tinygrad_ai.kernels.cpu.memory import address
from tinygrad_ai.kernels.cpu.pack import emit_pack
from tinygrad_ai.kernels.cpu.plans import Host, planned

GUARD = 64  # elements on each side that nobody may write
LAYOUTS = ["rows", "columns", "spaced", "reversed", "one row", "one column"]
sizes = st.sampled_from([1, 1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 37])


@st.composite
def machines(draw, dtype):
    """Hosts of any kind: AVX-512, AVX2, SSE or NEON, scalars; small caches force blocks of k."""
    lanes = draw(st.sampled_from([1, 2, 4, 8, 16]))
    registers, second = draw(st.sampled_from([8, 16, 32])), draw(st.sampled_from([512, 1 << 20]))
    return Host(lanes, np.dtype(dtype).itemsize, registers, 32 << 10, second)


def laid_out(rng, shape, layout, dtype):
    """Random numbers of a shape whose last two axes lie in memory as ``layout`` says."""
    *batch, rows, columns = shape
    if layout == "columns":
        return rng.standard_normal((*batch, columns, rows)).astype(dtype).swapaxes(-1, -2)
    if layout == "spaced":
        return rng.standard_normal((*batch, 2 * rows, 3 * columns)).astype(dtype)[..., ::2, ::3]
    if layout == "one row":
        return np.broadcast_to(rng.standard_normal((*batch, 1, columns)).astype(dtype), shape)
    if layout == "one column":
        return np.broadcast_to(rng.standard_normal((*batch, rows, 1)).astype(dtype), shape)
    x = rng.standard_normal(shape).astype(dtype)
    return x[..., ::-1, ::-1] if layout == "reversed" else x


def strides_of(x):
    return tuple(s // x.itemsize for s in x.strides)


def launch(text, units, cuts, *operands):
    """Run a kernel on its units, cut at ``cuts``."""
    launched(text, operands, units, 0, sorted(c % (units + 1) for c in cuts))


def multiplied(product, packings, a, b, plus=None, cuts=()):
    """C, whose sums have ``plus`` added; fails where anything outside it was written."""
    shape = (*product.batch, product.m, product.n)
    memory = np.full(int(np.prod(shape)) + 2 * GUARD, 12345, product.dtype)
    c = memory[GUARD:-GUARD].reshape(shape)
    c[...] = np.nan
    operands = [c, a, b, *([] if plus is None else [plus])]
    for number, packing in packings.items():
        count = int(np.prod(packing.batch)) * packing.size
        panels = np.full(count + 2 * GUARD, 12345, product.dtype)
        launch(emit_pack(packing), packing.units, cuts, panels[GUARD:], operands[number])
        assert (panels[:GUARD] == 12345).all() and (panels[-GUARD:] == 12345).all()
        operands[number] = panels[GUARD:]
    launch(emit_product(product), product.units, cuts, *operands)
    assert (memory[:GUARD] == 12345).all() and (memory[-GUARD:] == 12345).all()
    return c


def close(found, a, b, plus=0.0):
    """Within the bound of a sum of k rounded products, in the worst case."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = np.abs(a) @ np.abs(b) + np.abs(plus)
    assert found.shape == bound.shape
    error = np.abs(found - (a @ b + plus))
    assert (error <= (a.shape[-1] + 1) * np.finfo(found.dtype).eps * bound).all()


@given(st.data(), sizes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_any_layout_batch_width_and_cut(data, m, n, k, seed):
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    machine = data.draw(machines(dtype))
    batch = data.draw(st.sampled_from([(), (3,), (2, 3)]))
    own_a, own_b = (tuple(data.draw(st.sampled_from([1, x])) for x in batch) for _ in range(2))
    rng = np.random.default_rng(seed)
    a = laid_out(rng, (*own_a, m, k), data.draw(st.sampled_from(LAYOUTS)), dtype)
    b = laid_out(rng, (*own_b, k, n), data.draw(st.sampled_from(LAYOUTS)), dtype)
    a, b = np.broadcast_to(a, (*batch, m, k)), np.broadcast_to(b, (*batch, k, n))
    plus = steps = None
    if data.draw(st.booleans()):  # rows of their own, or one for all, further apart than C's
        own = (*(data.draw(st.sampled_from([1, x])) for x in (*batch, m)), n + 3)
        plus = rng.standard_normal(own).astype(dtype)[..., :n]
        plus = np.broadcast_to(plus, (*batch, m, n))
        steps = strides_of(plus)[:-1]
    p, packings = prepared((*batch, m, n), k, strides_of(a), strides_of(b), dtype, steps, machine)
    whole = multiplied(p, packings, a, b, plus)
    close(whole, a, b, 0.0 if plus is None else plus)
    cuts = data.draw(st.lists(st.integers(0, 1000), min_size=1, max_size=3))
    np.testing.assert_array_equal(whole, multiplied(p, packings, a, b, plus, cuts))


@given(st.data(), st.integers(1, 40), st.integers(1, 60), st.integers(1, 50))
def test_no_choice_changes_a_bit(data, m, n, k):
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    small = Host(4, 4, 16, 32 << 10, 1 << 20)
    reference = multiplied(*prepared((m, n), k, (k, 1), (n, 1), machine=small), a, b)
    p, _ = prepared((m, n), k, (k, 1), (n, 1), machine=data.draw(machines("float32")))
    plan = replace(
        p.plan,
        rows=data.draw(st.integers(1, 9)),
        vectors=data.draw(st.integers(1, 3)),
        depth=data.draw(st.integers(1, k)),
        panels=data.draw(st.integers(1, 3)),
    )
    np.testing.assert_array_equal(reference, multiplied(replace(p, plan=plan), {}, a, b))
    turned = np.asfortranarray(b)
    p, packings = prepared((m, n), k, (k, 1), strides_of(turned))
    np.testing.assert_array_equal(reference, multiplied(p, packings, a, turned))


def test_what_is_added_is_added_to_the_whole_product():
    """Also where k is done in blocks: the bits are those of two operations."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((19, 50)).astype("f"), rng.standard_normal((50, 37)).astype("f")
    d = rng.standard_normal((19, 40)).astype("f")[:, 1:38]
    whole = multiplied(*prepared((19, 37), 50, (50, 1), (37, 1)), a, b)
    for second in (1 << 20, 1 << 9):
        machine = Host(4, 4, 16, 32 << 10, second)
        p, packings = prepared((19, 37), 50, (50, 1), (37, 1), plus=(40,), machine=machine)
        np.testing.assert_array_equal(whole + d, multiplied(p, packings, a, b, d))


@pytest.mark.parametrize(("lanes", "registers"), [(16, 32), (8, 16), (4, 8), (1, 16)])
def test_steps_that_crowd_in_the_cache_are_packed(lanes, registers):
    """A lies in 512 columns of which 135 are read; B in 512, of which 130 are."""
    rng = np.random.default_rng(1)
    machine = Host(lanes, 4, registers, 32 << 10, 1 << 10)
    a, b = rng.standard_normal((2, 9, 512)).astype("f"), rng.standard_normal((9, 512)).astype("f")
    a, b = a[..., :135].swapaxes(1, 2), np.broadcast_to(b[:, :130], (2, 9, 130))
    p, packings = prepared((2, 135, 130), 9, strides_of(a), strides_of(b), machine=machine)
    assert list(packings) == [1, 2]
    assert (packings[1].batch, packings[2].batch) == ((2,), (1,))
    for depth in (4, 9):
        cut = replace(p, plan=replace(p.plan, depth=depth))
        close(multiplied(cut, packings, a, b, cuts=(3, 70)), a, b)
    assert not prepared((2, 135, 130), 9, (0, 9, 1), (0, 500, 1), machine=machine)[1]


def test_matrices_that_a_batch_repeats_are_packed_once():
    _, packings = prepared((5, 4, 8, 9), 7, (0, 56, 7, 1), (0, 63, 1, 7))
    packing = packings[2]
    assert packing.batch == (1, 4)
    assert packing.units == 4 * -(-9 // packing.width)


@pytest.mark.parametrize("registers", [8, 16, 32])
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_plans_fit_the_host_and_feed_threads(lanes, registers):
    machine = Host(lanes, 4, registers, 32 << 10, 1 << 20)
    for m, n, k in [
        (1, 1, 1),
        (128, 784, 128),
        (16, 12544, 144),
        (2048, 2048, 2048),
        (3, 5, 10**6),
    ]:
        plan = planned(1, m, n, k, (k, 1), machine)
        assert plan.rows * plan.vectors + plan.vectors + 1 <= registers
        assert plan.rows <= m
        assert plan.depth * plan.width * 4 <= machine.second // 4 or plan.depth == 1
    down, across = planned(1, 16, 12544, 144, (144, 1), machine).blocks(16, 12544)
    assert down * across >= 8
    down, across = planned(1, 2048, 128, 128, (128, 1), machine).blocks(2048, 128)
    assert across == 1, "a unit that rows feed reads all columns"


def test_nothing_outside_the_operands_is_read():
    """Operands end where a page that nobody may read begins."""
    if sys.platform == "win32":
        pytest.skip("needs mprotect")
    program = """
import ctypes, mmap
import numpy as np
from tinygrad_ai.kernels.cpu.matmul import matmul
libc = ctypes.CDLL(None)
def at_the_end(x):
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    place = np.frombuffer(memory, np.uint8)
    assert libc.mprotect(ctypes.c_void_p(place.ctypes.data + size), mmap.PAGESIZE, 0) == 0
    found = place[size - x.nbytes : size].view(x.dtype).reshape(x.shape)
    found[...] = x
    return found
rng = np.random.default_rng(0)
for m, n, k in [(3, 5, 7), (17, 19, 18)]:
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    left = at_the_end(a), at_the_end(np.ascontiguousarray(a.T)).T
    right = at_the_end(b), at_the_end(np.ascontiguousarray(b.T)).T
    right += (at_the_end(np.repeat(b, 2, 1))[:, 1::2],)
    for x in left:
        for y in right:
            out = at_the_end(np.empty((m, n)))
            np.testing.assert_allclose(matmul(x, y, out), a @ b, atol=1e-12)
print("whole")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "whole\n", said.stderr or f"ended with {said.returncode}"


def test_matmul_of_arrays():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((4, 1, 6, 5)), rng.standard_normal((3, 5, 7)).astype("f")
    found = matmul(a, b)
    assert found.dtype == np.float64
    close(found, a, b)
    out = np.empty((4, 3, 7, 6)).swapaxes(-1, -2)
    assert matmul(a, b, out) is out
    np.testing.assert_array_equal(out, found)
    square = rng.standard_normal((6, 6))
    wanted = square @ square
    np.testing.assert_allclose(matmul(square, square, square), wanted, atol=1e-14)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("layout", ["rows", "columns", "reversed"])
def test_matmul_into_memory_that_an_operand_shares(layout, right):
    """Many tiles: the first would be written before the last has read its row and column."""
    n = 70
    rng = np.random.default_rng(4)
    begin = rng.standard_normal(3 * n * n)
    other = rng.standard_normal((n, n))
    for shift in (0, 1, n, n * n // 2, n * n - 1, n * n, -1, -n, -n * n + 1, -n * n):
        memory = begin.copy()
        a = memory[n * n : 2 * n * n].reshape(n, n)
        a = {"rows": a, "columns": a.T, "reversed": a[::-1, ::-1]}[layout]
        c = memory[n * n + shift : 2 * n * n + shift].reshape(n, n)
        x, y = (other, a) if right else (a, other)
        wanted, expected = x @ y, begin.copy()
        assert matmul(x, y, c) is c
        np.testing.assert_allclose(c, wanted, atol=1e-12)
        expected[n * n + shift : 2 * n * n + shift] = c.ravel()
        np.testing.assert_array_equal(memory, expected)


def test_matmul_with_panels_of_any_size_and_arrays_that_nobody_may_write():
    rng = np.random.default_rng(5)
    for n in (7, 40, 129):  # panels in the frame of the call, and in memory of their own
        a, b = rng.standard_normal((2, 3, n, n))
        a.flags.writeable = b.flags.writeable = False
        close(matmul(a, b.swapaxes(-1, -2)), a, b.swapaxes(-1, -2))


def test_matmul_into_awkward_memory():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((2, 5, 5))
    bytes_ = np.zeros(5 * 5 * 8 + 1, np.uint8)
    for out in (
        bytes_[1:].view("f8").reshape(5, 5),
        np.empty((5, 5)).T,
        np.empty((10, 10))[::2, ::2],
    ):
        assert matmul(a, b, out) is out
        close(out, a, b)
    locked = np.zeros((5, 5))
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        matmul(a, b, locked)
    assert not locked.any()


def test_what_only_says_that_it_is_an_array():
    """A proxy has the class of what it stands for, but no memory."""
    a, out = np.ones((3, 3)), np.ones((3, 3))
    proxy = weakref.proxy(a)
    assert isinstance(proxy, np.ndarray)
    for pair in ((proxy, a), (a, proxy), (a, a, weakref.proxy(out)), (a, [[1.0]])):
        with pytest.raises(TypeError, match="NumPy arrays, not"):
            matmul(*pair)
    with pytest.raises(TypeError, match="stands in memory"):
        address(proxy)
    assert address(a) == a.__array_interface__["data"][0]


def test_matmul_of_awkward_memory():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((6, 5))
    records = np.zeros(30, [("tag", "u1"), ("x", "f8")])  # 9 bytes from number to number
    records["x"] = a.ravel()
    for b in (records["x"].reshape(6, 5), a.astype(">f8"), a[::-1, ::-1]):
        np.testing.assert_allclose(matmul(b.T, b), b.T @ b, atol=1e-14)


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0, 2, 3), (3, 1))])
def test_matmul_without_elements(shapes):
    a, b = map(np.ones, shapes)
    np.testing.assert_array_equal(matmul(a, b), a @ b)


def test_matmul_says_what_it_does_not_take():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="float32 and float64, not float64 and int64"):
        matmul(x, np.ones((3, 2), np.int64))
    with pytest.raises(ValueError, match=r"\(2, 3\) @ \(2, 3\)"):
        matmul(x, x)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        matmul(x, np.ones(3))
    with pytest.raises(ValueError, match="broadcast"):
        matmul(np.ones((2, 2, 3)), np.ones((3, 3, 2)))
    with pytest.raises(TypeError, match="but out float32"):
        matmul(x, x.T, np.ones((2, 2), "f"))
    with pytest.raises(ValueError, match=r"but out \(3, 2\)"):
        matmul(x, x.T, np.ones((3, 2)))
