"""The measurements: steady state in interleaved rounds, and starts in fresh processes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import gate
from benchmarks.crew import Crew, Failed, Worker
from benchmarks.harness import Timing
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Effort:
    """How long to look: ``seconds`` for a workload, in turns of about ``turn`` seconds."""

    seconds: float
    rounds: tuple[int, int]  #: at least, at most
    patience: float  #: seconds for getting ready
    turn: float = 0.01


QUICK = Effort(2.0, (5, 40), 20.0)
FULL = Effort(20.0, (11, 200), 300.0)


@dataclass(frozen=True)
class Result:
    """One workload in one framework on so many cores; ``refused`` says why it was not timed."""

    workload: str
    adapter: str
    cores: int
    timing: Timing | None = None
    refused: str = ""
    first_call: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        if self.timing is not None:
            found |= {"minimum": self.timing.minimum, "median": self.timing.median}
        return found


def steady(
    w: Workload, crew: Crew, effort: Effort, tell: Callable[[str], None]
) -> dict[str, Result]:
    """Every framework's time for ``w``: A B C A B C …, by turns of some calls each."""
    truths = gate.reference(w, w.case())
    results: dict[str, Result] = {}
    calls: dict[str, int] = {}
    turns = 0.0
    for adapter in crew.adapters:
        tell(f"{w.name}: {adapter} gets ready")
        try:
            made = crew.ask(adapter, "prepare", w, truths, patience=effort.patience)
            if made["objections"]:
                raise Failed("computes something else: " + "; ".join(made["objections"][:2]))
            once = statistics.median(crew.ask(adapter, "time", 1) for _ in range(3))
        except Failed as error:
            results[adapter] = Result(w.name, adapter, crew.count, refused=str(error))
            continue
        calls[adapter] = max(1, round(effort.turn / once))
        turns += once * (calls[adapter] + (calls[adapter] > 1))
        results[adapter] = Result(
            w.name, adapter, crew.count, None, "", made["first_call"], made["facts"]
        )
    least, most = effort.rounds
    rounds = min(most, max(least, round(effort.seconds / turns))) if calls else 0
    tell(f"{w.name}: {rounds} rounds")
    seconds: dict[str, list[float]] = {adapter: [] for adapter in calls}
    for _ in range(rounds):
        for adapter, count in list(calls.items()):
            try:
                seconds[adapter].append(crew.ask(adapter, "time", count))
            except Failed as error:
                del calls[adapter]
                results[adapter] = Result(w.name, adapter, crew.count, refused=str(error))
    for adapter in calls:
        r = results[adapter]
        timing = Timing(tuple(seconds[adapter]))
        results[adapter] = Result(r.workload, adapter, r.cores, timing, "", r.first_call, r.facts)
    return results


@dataclass(frozen=True)
class Start:
    """A framework's way to a first result, in seconds and bytes; ``refused`` if there is none."""

    workload: str
    adapter: str
    import_seconds: float = 0.0
    import_bytes: int = 0
    cold: float = 0.0  #: the first call with an empty cache
    warm: float = 0.0  #: the first call of another process, with what the first one left
    cold_bytes: int = 0  #: resident at most, over imports, with an empty cache
    warm_bytes: int = 0  #: the same of the other process
    refused: str = ""


def starts(
    workloads: Sequence[Workload],
    adapters: Sequence[str],
    count: int,
    effort: Effort,
    tell: Callable[[str], None],
) -> list[Start]:
    """Every framework's first calls, each in a process of its own."""
    found = []
    for w in workloads:
        for adapter in adapters:
            tell(f"{w.name}: {adapter} starts, with a cold and a warm cache")
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                try:
                    runs = [_start(w, adapter, count, Path(folder), effort) for _ in range(2)]
                except Failed as error:
                    found.append(Start(w.name, adapter, refused=str(error)))
                    continue
            cold, warm = runs
            found.append(
                Start(
                    w.name,
                    adapter,
                    min(r["import_seconds"] for r in runs),
                    warm["import_bytes"],
                    cold["first_call"],
                    warm["first_call"],
                    cold["peak_bytes"],
                    warm["peak_bytes"],
                )
            )
    return found


def _start(w: Workload, adapter: str, count: int, cache: Path, effort: Effort) -> dict[str, Any]:
    with Worker(adapter, count, cache) as worker:
        return worker.ask("hello") | worker.ask("first", w, patience=effort.patience)


class Progress:
    """What is being done, on one line of a terminal."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.start = stream, time.monotonic()

    def __call__(self, text: str) -> None:
        if self.stream.isatty():
            spent = time.monotonic() - self.start
            print(f"\r\033[K{spent:5.0f} s  {text}", end="", file=self.stream, flush=True)

    def clear(self) -> str:
        """What takes the line away again."""
        return "\r\033[K" if self.stream.isatty() else ""
