"""Running sums and products beside NumPy's, whose order they have."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from launching import check, guarded, launched

from tinygrad_ai.kernels.cpu.scan import Scan, emit_scan, scan_units


@pytest.mark.parametrize("product", [False, True])
@given(
    batch=st.integers(1, 3),
    steps=st.integers(1, 9),
    width=st.integers(1, 40),
    lanes=st.sampled_from([1, 2, 4, 16]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_runs_are_those_of_numpy(product, batch, steps, width, lanes, dtype):
    rng = np.random.default_rng(steps + 40 * width)
    x = rng.standard_normal((batch, steps, width)).astype(dtype)
    x[rng.random(x.shape) < 0.3] = -0.0
    wanted = (np.cumprod if product else np.cumsum)(x, axis=1)
    s = Scan(batch, steps, width, product, dtype)
    memory, out = guarded(x.shape, dtype)
    units = scan_units(s, lanes)
    for splits in ((), (units // 2,), tuple(range(1, units))):
        out[:] = 7.0
        launched(emit_scan(s, lanes), [out, x], units, 0, splits)
        found = check(memory, x.shape, wanted, dtype)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))
