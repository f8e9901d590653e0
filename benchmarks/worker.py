"""A process that holds one framework: ``python -m benchmarks.worker ADAPTER CORES``.

Requests and answers are pickles on standard input and output; see :class:`Worker` for what can be
asked. An answer is ("done", value) or ("failed", message).
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from typing import Any, BinaryIO


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at most so far (Linux; 0 elsewhere)."""
    key = "VmHWM" if peak else "VmRSS"
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
    except (OSError, StopIteration):
        return 0


def hold(cores: int) -> None:
    """Run on ``cores`` of the cores that are allowed (where the system can be told)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


class Worker:
    """The methods are the requests."""

    def __init__(self, adapter: str) -> None:
        from importlib import import_module  # noqa: PLC0415 - after the cores are set

        start = time.perf_counter()
        module = import_module(f"benchmarks.adapters.{adapter}")
        self.import_seconds = time.perf_counter() - start
        self.framework = module.Adapter()
        self.imported = resident()
        self.contender: Any = None

    def hello(self) -> dict[str, Any]:
        """The framework's version, and what importing it took."""
        return {
            "version": self.framework.version,
            "import_seconds": self.import_seconds,
            "import_bytes": self.imported,
        }

    def prepare(self, w: Any, truths: Any) -> dict[str, Any]:
        """Make a workload ready, judge its first calls, and say what the very first took."""
        from benchmarks import gate  # noqa: PLC0415 - NumPy, which some frameworks import late

        case = w.case()
        self.contender = None
        contender = self.framework.contender(w, case)
        found, first = gate.outcome(contender)
        wrong = gate.objections(found, truths[0], case.weights)
        for truth in truths[1:]:  # by now compiled code is replayed
            later, _ = gate.outcome(contender)
            wrong += gate.later_objections(later, truth)
        self.contender = contender
        return {"first_call": first, "objections": wrong, "facts": contender.facts()}

    def first(self, w: Any) -> dict[str, Any]:
        """The first call of a workload, and the memory that some calls took beyond imports."""
        case = w.case()
        contender = self.framework.contender(w, case)
        start = time.perf_counter()
        contender.wait(contender.call())
        seconds = time.perf_counter() - start
        for _ in range(3):
            contender.wait(contender.call())
        return {"first_call": seconds, "peak_bytes": max(0, resident(peak=True) - self.imported)}

    def time(self, calls: int) -> float:
        """Seconds of one call, of ``calls`` in a row; if several, after one for the caches."""
        from benchmarks.harness import clock  # noqa: PLC0415 - NumPy

        contender, last = self.contender, [None]

        def call() -> None:
            last[0] = contender.call()

        if calls > 1:
            call()
            contender.wait(last[0])
        return clock(call, calls, lambda: contender.wait(last[0]))

    def probe(self) -> tuple[float, float]:
        """Peak FLOP/s and bytes/s of a process with these cores."""
        from benchmarks import roofline  # noqa: PLC0415 - NumPy

        return roofline.probe()


def serve(worker: Worker, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is nothing more to read."""
    while True:
        try:
            name, args = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = "done", getattr(worker, name)(*args)
        except Exception as error:
            traceback.print_exc()
            line = next(iter(str(error).strip().splitlines()), "")
            known = type(error).__name__ == "Unsupported"
            answer = "failed", line if known else f"{type(error).__name__}: {line}"
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Serve; whatever the framework prints goes to standard error."""
    adapter, cores = sys.argv[1], int(sys.argv[2])
    hold(cores)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Worker(adapter), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
