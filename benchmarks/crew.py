"""Workers seen from the parent: started with their cores and caches, asked, ended."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATIENCE = 300.0  #: seconds that a request may take before its worker is ended
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class Failed(Exception):
    """A worker could not do what it was asked for; the message says why."""


def cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(count: int, cache: Path) -> dict[str, str]:
    """Thread counts, the CPU as the device, and every framework's cache under ``cache``."""
    own = {name: str(count) for name in THREADS}
    own |= {
        "DEV": "CPU",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(count),  # more would be left behind by a timeout
        "CACHEDB": str(cache / "tinygrad.db"),
        "TINYGRAD_AI_CACHE": str(cache / "ours"),
    }
    if count == 1:
        own["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**os.environ, **own}


class Worker:
    """A process of :mod:`benchmarks.worker`; a context manager that ends it."""

    def __init__(self, adapter: str, count: int, cache: Path) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", adapter, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(count, cache),
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def ask(self, name: str, *args: Any, patience: float = PATIENCE) -> Any:
        """What the worker's method ``name`` gives; raises Failed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        impatient = threading.Timer(patience, self.process.kill)
        impatient.start()
        try:
            pickle.dump((name, args), self.process.stdin)
            self.process.stdin.flush()
            kind, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            self.process.wait()
            impatient.join(0.1)
            late = not impatient.is_alive()
            raise Failed(f"took over {patience:.0f} s" if late else self._last_words()) from None
        finally:
            impatient.cancel()
        if kind == "failed":
            raise Failed(answer)
        return answer

    def pause(self, paused: bool = True) -> None:
        """Stand still, threads that wait for work by spinning too, or go on (where one can)."""
        if hasattr(signal, "SIGSTOP") and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)
            if paused and hasattr(os, "waitid"):  # a signal arrives when the system finds time
                os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"ended: {lines[-1] if lines else f'exit status {self.process.returncode}'}"


class Crew:
    """A worker for each of ``adapters``, all with ``count`` cores; replaced when they end.

    One runs at a time: the others stand still meanwhile.
    """

    def __init__(self, adapters: list[str], count: int, cache: Path) -> None:
        self.adapters, self.count, self.cache = adapters, count, cache
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: Any) -> None:
        for worker in self.workers.values():
            worker.__exit__()

    def ask(self, adapter: str, name: str, *args: Any, patience: float = PATIENCE) -> Any:
        """As :meth:`Worker.ask`; a worker that has ended is started anew for the next request."""
        worker = self.workers.get(adapter)
        if worker is None:
            worker = self.workers[adapter] = Worker(adapter, self.count, self.cache)
        worker.pause(False)
        try:
            return worker.ask(name, *args, patience=patience)
        except Failed:
            if worker.process.poll() is not None:
                self.workers.pop(adapter).__exit__()
            raise
        finally:
            worker.pause()

    def versions(self) -> Mapping[str, str]:
        """Of the frameworks that can be imported; the reason of the others."""
        found = {}
        for adapter in self.adapters:
            try:
                found[adapter] = self.ask(adapter, "hello")["version"]
            except Failed as error:
                found[adapter] = f"cannot be imported: {error}"
        return found
