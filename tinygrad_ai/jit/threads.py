"""The threads that share a step's launches: they wait in native code, and sleep when nothing comes.

A step is posted as a job (see :mod:`tinygrad_ai.jit.driver`); the caller is part 0 of it. What is
computed does not depend on how many threads there are. After a fork the child starts its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter

import numpy as np

from tinygrad_ai.jit.driver import JOB, driver


class Pool:
    """``parts`` threads, the caller's among them."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.busy = threading.Lock()
        self._job = np.zeros(JOB, np.int64)
        self._counter = np.zeros(1, np.int64)
        self._address = self._job.ctypes.data
        self._asleep = [False] * parts
        self._wake = [threading.Semaphore(0) for _ in range(parts)]
        for part in range(1, parts):
            threading.Thread(target=self._work, args=(part,), daemon=True).start()

    def run(self, launches: int, count: int) -> None:
        """All ``count`` launches at an address, done together."""
        run, post, _ = driver()
        counter = self._counter.ctypes.data
        base = int(self._counter[0])
        self._job[1:] = launches, count, self.parts, counter, base
        post(self._address)
        try:
            for part in range(1, self.parts):
                if self._asleep[part]:
                    self._wake[part].release()
        finally:  # the others wait for this part, whatever interrupts
            run(launches, count, 0, self.parts, counter, base)

    def _work(self, part: int) -> None:
        _, _, serve = driver()
        seen = np.zeros(1, np.int64)
        address = seen.ctypes.data
        while True:
            before = seen[0]
            serve(self._address, part, address)
            if seen[0] == before:
                self._asleep[part] = True
                if self._job[0] == seen[0]:  # else a job was posted just before
                    self._wake[part].acquire()
                self._asleep[part] = False


class Pace:
    """How many threads a step is worth just now: what was faster lately, one or all.

    On cores that others use, threads wait for each other longer than they work. The least of the
    last few times counts. What is not in use is tried now and then, so that its times stay fresh:
    so seldom that this costs about a fiftieth of the time, and several times in a row, because at
    the first the others may take a nap.
    """

    LATELY, COST = 8, 0.02
    TRIAL = 3  # calls in a row
    OFTEN, SELDOM = 16, 256  # calls between trials, at least and at most

    def __init__(self, most: int) -> None:
        self.most = most
        self._since = 0  # calls since the last trial
        #: what to do next whatever the times say, from the end
        self._planned = [1] * self.TRIAL + [most] * self.TRIAL
        self._times: dict[int, deque[float]] | None = None

    def __call__(self, run: Callable[[int], bool]) -> bool:
        """``run`` with a number of threads; what it returns."""
        if self.most == 1:
            return run(1)
        if self._times is None:  # memory is touched for the first time: that tells nothing
            self._times = {count: deque(maxlen=self.LATELY) for count in (1, self.most)}
            return run(self.most)
        count = self._planned.pop() if self._planned else self._next(self._times)
        began = perf_counter()
        done = run(count)
        self._times[count].append(perf_counter() - began)
        return done

    def _next(self, times: dict[int, deque[float]]) -> int:
        least = {count: min(lately) for count, lately in times.items()}
        best, other = sorted(least, key=least.__getitem__)
        self._since += 1
        if self._since < self._patience(least[other] / least[best]):
            return best
        self._since = 0
        self._planned = [other] * (self.TRIAL - 1)
        return other

    def _patience(self, ratio: float) -> float:
        """The calls between two trials of what takes ``ratio`` times as long."""
        return min(max(self.TRIAL * (ratio - 1) / self.COST, self.OFTEN), self.SELDOM)


_pools: dict[int, Pool] = {}
_making = threading.Lock()


def run_launches(launches: int, count: int, threads: int) -> None:
    """``count`` launches at an address, by as many threads; by one where the others are busy."""
    pool = _pool(threads) if threads > 1 else None
    if pool is not None and pool.busy.acquire(blocking=False):
        try:
            pool.run(launches, count)
        finally:
            pool.busy.release()
    else:
        driver()[0](launches, count, 0, 1, 0, 0)


def _pool(threads: int) -> Pool:
    found = _pools.get(threads)
    if found is None:
        with _making:
            found = _pools.setdefault(threads, _pools.get(threads) or Pool(threads))
    return found


def _after_fork() -> None:
    _pools.clear()  # their threads stayed with the parent
    _making.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_making.acquire, after_in_parent=_making.release, after_in_child=_after_fork
    )
