"""Kernels at the width of other machines' vectors, forced by configuration in their own processes.

What each family of kernels does alone is tested for several widths in one process, with this CPU's
instructions: test_vmath, test_gemm, test_kernels_conv, test_kernels_scatter, test_lowering.
"""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from tinygrad_ai.jit import lower_columns, lower_rows
from tinygrad_ai.kernels import cpu

TESTS = Path(__file__).parent
#: The tests that run kernels.
KINDS = "vmath", "gemm", "kernels", "lowering", "eager_kernels", "jit"
FILES = sorted(path for kind in KINDS for path in TESTS.glob(f"test_{kind}*.py"))


def emitters():
    """The names of all functions that write kernels."""
    folder = [import_module(f"{cpu.__name__}.{m.name}") for m in iter_modules(cpu.__path__)]
    modules = [*folder, lower_columns, lower_rows]
    return {name for module in modules for name in vars(module) if name.startswith("emit_")}


def at_width(bits, folder, *command):
    """What a Python process prints whose kernels have vectors of so many bits."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment |= {"TINYGRAD_AI_SIMD": str(bits), "TINYGRAD_AI_CACHE": str(folder)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=TESTS.parent,
        env=environment | {"PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout


@pytest.mark.parametrize("bits", [256, 128, 32])
def test_every_family_of_kernels(bits, tmp_path):
    """AVX2; SSE without fused multiply-add, whose code also Arm's compiler gets; single numbers."""
    assert set(at_width(bits, tmp_path, TESTS / "widths.py", "quick").split()) == emitters()


@pytest.mark.deep
@pytest.mark.parametrize("bits", [512, 256, 128, 32])
def test_every_network(bits, tmp_path):
    assert set(at_width(bits, tmp_path, TESTS / "widths.py").split()) == emitters()


@pytest.mark.deep
@pytest.mark.parametrize("bits", [256, 128, 32])
def test_every_test_of_kernels(bits, tmp_path):
    """About four minutes each."""
    options = ["-q", "-n", "0", "-p", "no:cacheprovider"]
    assert "failed" not in at_width(bits, tmp_path, "-m", "pytest", *options, *map(str, FILES))


def test_a_width_that_is_none_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="TINYGRAD_AI_SIMD is 'avx2', not one of 512, 256"):
        at_width("avx2", tmp_path, "-c", "import tinygrad_ai.kernels.cpu.simd")
