"""Kernels on disk: whatever is wrong with the folder, results are right, at worst later."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai import kernels
from tinygrad_ai.jit import cache

STEP = """
import sys, numpy as np, tinygrad_ai as ta
x = np.linspace(-1, 1, 12, dtype="f").reshape(3, 4)
step = ta.jit(lambda x: ta.tanh(x @ x.T).sum(1))
assert np.allclose(step(ta.Tensor(x)).numpy(), np.tanh(x @ x.T).sum(1), 1e-5)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder, of a process that knows no kernels yet."""
    monkeypatch.setenv("TINYGRAD_AI_CACHE", str(tmp_path))
    forget(monkeypatch)
    return tmp_path / "kernels"


def forget(monkeypatch):
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(cache, "_warned", False)


def compute(size=5):
    x = np.linspace(-1, 1, 3 * size, dtype="f").reshape(3, size)
    step = ta.jit(lambda x: ta.exp(x @ x.T) - x.sum())
    np.testing.assert_allclose(step(ta.Tensor(x)).numpy(), np.exp(x @ x.T) - x.sum(), 1e-5)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def counted(monkeypatch):
    """How many kernels are compiled from here on."""
    made, compile_it = [], cache.machine_code
    monkeypatch.setattr(cache, "machine_code", lambda text: made.append(text) or compile_it(text))
    return made


def test_kernels_are_compiled_once_and_found_again(folder, monkeypatch):
    made = counted(monkeypatch)
    compute()
    kept, count = files(folder), len(made)
    assert len(kept) == count > 0
    compute()
    forget(monkeypatch)
    compute()
    assert len(made) == count and files(folder) == kept


@pytest.mark.parametrize(
    "spoil",
    [
        lambda code: b"",
        lambda code: code[:20],
        lambda code: code[:-7],
        lambda code: code[:60] + bytes([code[60] ^ 1]) + code[61:],
        lambda code: b"\0" * len(code),
        lambda code: code + b"more",
    ],
    ids=["empty", "short", "truncated", "a bit", "zeros", "longer"],
)
def test_what_is_not_whole_is_compiled_again(folder, monkeypatch, spoil):
    compute()
    kept = files(folder)
    for path in folder.iterdir():
        path.write_bytes(spoil(path.read_bytes()))
    forget(monkeypatch)
    made = counted(monkeypatch)
    compute()
    assert len(made) == len(kept) and files(folder) == kept


def test_other_emitters_or_cpus_find_nothing(folder, monkeypatch):
    compute()
    names = set(files(folder))
    forget(monkeypatch)
    monkeypatch.setattr(cache, "_surroundings", lambda: "another CPU")
    compute()
    assert len(set(files(folder)) - names) == len(names)


def test_what_code_depends_on_is_in_its_name(tmp_path, monkeypatch):
    """Every emitter's source, the compiler, the CPU, and the width of vectors."""
    found = cache._surroundings.__wrapped__
    names = [found(), found()]
    (tmp_path / "emitter.py").write_text("pass")
    for owner, name, value in [
        (kernels, "__path__", [*kernels.__path__, str(tmp_path)]),
        (cache.llvmlite, "__version__", "0"),
        (cache.llvm, "get_host_cpu_name", lambda: "another"),
        (cache, "host_features", lambda: "+fewer"),
        (cache, "host_bytes", lambda: 1),
    ]:
        monkeypatch.setattr(owner, name, value)
        names.append(found())
    assert names[0] == names[1] and len(set(names)) == len(names) - 1


def test_vectors_of_other_widths_have_kernels_of_their_own(tmp_path):
    kept = set()
    for bits in (256, 32, 256):
        environment = {"TINYGRAD_AI_CACHE": str(tmp_path), "TINYGRAD_AI_SIMD": str(bits)}
        subprocess.run([sys.executable, "-c", STEP], env=os.environ | environment, check=True)
        before, kept = kept, set(files(tmp_path / "kernels"))
        assert (kept > before) if bits == 32 else (kept == before or not before)


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache"


def one_warning(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert len(caught) == 1 and "cannot be kept" in str(caught[0].message), caught
    assert "TINYGRAD_AI_CACHE" in str(caught[0].message)


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_AI_CACHE", str(unwritable(tmp_path)))
    forget(monkeypatch)
    one_warning(lambda: (compute(), compute(6)))


def test_a_disk_that_is_full_is_one_warning_and_leaves_nothing(folder, monkeypatch):
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    one_warning(lambda: (compute(), compute(6)))
    assert not list(folder.iterdir())


def test_a_folder_that_can_only_be_read_serves_what_it_has(folder, monkeypatch):
    compute()
    forget(monkeypatch)

    def denied(path, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute()
    one_warning(lambda: (compute(6), compute(7)))


def test_folders_where_kernels_should_be_are_one_warning(folder, monkeypatch):
    compute()
    for path in folder.iterdir():
        path.unlink()
        path.mkdir()
    forget(monkeypatch)
    one_warning(lambda: (compute(), compute()))
    assert all(path.is_dir() for path in folder.iterdir()), "something is left behind"


def test_a_home_that_cannot_be_written(tmp_path):
    """Without a folder named, and where the platform's cannot be made."""
    (tmp_path / ".cache").write_text("")
    environment = {k: v for k, v in os.environ.items() if k != "TINYGRAD_AI_CACHE"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env={**environment, **home, "LOCALAPPDATA": str(tmp_path / ".cache")},
        capture_output=True,
        text=True,
    )
    written = sys.platform == "darwin"  # whose folder is elsewhere in the home
    assert done.returncode == 0 and done.stderr.count("Warning") == (not written), done.stderr


def test_processes_that_fill_it_at_once(tmp_path):
    environment = {**os.environ, "TINYGRAD_AI_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", STEP], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        assert not process.communicate()[1] and process.returncode == 0
    assert all(p.suffix == ".o" for p in (tmp_path / "kernels").iterdir())


FORK = """
import os, numpy as np, tinygrad_ai as ta
x = np.linspace(-1, 1, 300 * 400, dtype="f").reshape(300, 400)
step = ta.jit(lambda x, k: ta.tanh(x) * k - ta.exp(x))
expected = np.tanh(x) * 2 - np.exp(x)
def check():
    assert np.allclose(step(ta.Tensor(x), np.float32(2)).numpy(), expected, 1e-5, 1e-5)
check()
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        check()  # a plan that the parent compiled, with threads of its own
        ta.jit(lambda x: x * 3)(ta.Tensor(x))
        os._exit(0)
    children.append(child)
    check()
for child in children:
    assert os.waitpid(child, 0)[1] == 0
check()
"""


FORK_WHILE_COMPILING = """
import os, signal, threading, time, tinygrad_ai as ta
from llvmlite.binding.ffi import register_lock_callback
ta.jit(lambda x: x * 2)(ta.ones(3))
other = threading.Thread(target=lambda: ta.jit(ta.tanh)(ta.ones(3)))
inside = threading.Event()
def acquired():
    if threading.current_thread() is other and not inside.is_set():
        inside.set()
        time.sleep(0.2)
register_lock_callback(acquired, lambda: None)
other.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    ta.jit(ta.exp)(ta.ones(3))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child waits for the parent's compiler"
"""


FORK_WHILE_RUNNING = """
import os, signal, threading, tinygrad_ai as ta
step = ta.jit(lambda x: x * 2)
step(ta.ones(3))
inside, over = threading.Event(), threading.Event()
def run():
    with step._lock:
        inside.set()
        over.wait()
threading.Thread(target=run).start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(step(ta.ones(3)).tolist() != [2.0] * 3)
status = os.waitpid(child, 0)[1]
over.set()
assert status == 0, "the child waits for the parent's step"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize(
    ("program", "threads"),
    [(FORK, 1), (FORK, 3), (FORK_WHILE_COMPILING, 1), (FORK_WHILE_RUNNING, 1)],
)
def test_children_of_a_fork_run_steps(tmp_path, program, threads):
    environment = {
        **os.environ,
        "TINYGRAD_AI_CACHE": str(tmp_path),
        "TINYGRAD_AI_NUM_THREADS": str(threads),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
