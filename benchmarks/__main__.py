"""``python -m benchmarks``: this library beside torch, JAX, tinygrad, HIPS autograd and NumPy.

Needs the extra ``bench``; what is not installed is said to be missing. Every framework runs in a
process of its own, on one core and on all; its first steps must agree with float64 gradients
derived by hand before it is timed, and then the frameworks take turns (A B C A B C …).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure, report, scaling
from benchmarks.adapters import ADAPTERS
from benchmarks.crew import Crew, Worker, cores
from benchmarks.machine import machine
from benchmarks.workloads import WORKLOADS
from tinygrad_ai.config import cache_folder
from tinygrad_ai.files import atomic_write


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    everything = [*WORKLOADS]
    add("--quick", action="store_true", help="one core, fewer rounds: about two minutes")
    add("--only", nargs="+", metavar="NAME", choices=everything, default=everything,
        help=f"workloads: {', '.join(WORKLOADS)}")  # fmt: skip
    add("--adapters", nargs="+", metavar="NAME", choices=ADAPTERS,
        help=f"frameworks: {', '.join(ADAPTERS)}")  # fmt: skip
    add("--threads", choices=["1", "all"], help="one core or all; default both")
    add("--no-starts", action="store_true", help="leave out imports, first calls and memory")
    add("--json", type=Path, metavar="FILE", help="every round of everything")
    add("--markdown", type=Path, metavar="FILE", help="the tables")
    add("--plot", type=Path, metavar="FILE", help="bars of relative speed (PNG)")
    add("--scaling", type=Path, metavar="FILE",
        help="instead: step time against sizes and cores, drawn to FILE (PNG)")  # fmt: skip
    return parser.parse_args(given)


def missing(names: Sequence[str]) -> dict[str, str]:
    """Why some cannot run here; said at once, and recorded."""
    found = {name: why for name in names if (why := ADAPTERS[name].missing())}
    for name, why in found.items():
        print(f"missing: {ADAPTERS[name].title}: {why}")
    return found


def core_counts(options: argparse.Namespace) -> list[int]:
    """One core and all, or what was asked for."""
    if options.threads is None:
        return [1] if options.quick else sorted({1, cores()})
    return [1 if options.threads == "1" else cores()]


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    effort = measure.QUICK if options.quick else measure.FULL
    if options.scaling is not None:
        scale(options, effort)
    else:
        compare(options, effort)


def scale(options: argparse.Namespace, effort: measure.Effort) -> None:
    """Curves instead of tables."""
    asked = options.adapters or scaling.ADAPTERS_SCALED
    absent = missing(asked)
    chosen = [name for name in asked if name not in absent]
    found = scaling.curves(chosen, effort, measure.Progress(sys.stderr))
    with atomic_write(options.scaling) as file:
        scaling.plot(found, file)
    print(scaling.table(found))
    rows = [
        r.record() | {"axis": axis, "at": at}
        for axis, row in found.items()
        for at, results in row.items()
        for r in results.values()
    ]
    _write(options.json, {"machine": machine(), "missing": absent, "scaling": rows})


def compare(options: argparse.Namespace, effort: measure.Effort) -> None:
    """Tables, one number of cores after the other, then the starts."""
    asked, tell = options.adapters or list(ADAPTERS), measure.Progress(sys.stderr)
    absent = missing(asked)
    adapters = [name for name in asked if name not in absent]
    about: dict[str, Any] = {
        "machine": machine(), "quick": options.quick, "probes": {}, "missing": absent
    }  # fmt: skip
    cache = cache_folder() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    lines: list[report.Line] = []
    for count in core_counts(options):
        with Worker("ours_jit", count, cache) as worker:
            about["probes"][count] = peak, bandwidth = worker.ask("probe")
        with Crew(adapters, count, cache) as crew:
            about["frameworks"] = crew.versions()
            if not lines:
                print(report.heading(about))
            print(f"{count} core(s): {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s\n")
            for name in options.only:
                row = measure.steady(WORKLOADS[name], crew, effort, tell)
                lines.append(report.line(row, (peak, bandwidth)))
                print(f"{tell.clear()}{report.detail(lines[-1])}\n", flush=True)
        print(report.summary([line for line in lines if line.cores == count]), "\n")
    begun: list[measure.Start] = []
    trained = [WORKLOADS[n] for n in options.only if WORKLOADS[n].kind == "training"]
    if not options.no_starts:
        chosen = trained[:1] if options.quick else trained
        begun = measure.starts(chosen, adapters, 1, effort, tell)
        print(f"{tell.clear()}{report.starting(begun)}\n")
    record = about | {
        "results": [r.record() for line in lines for r in line.results.values()],
        "floors": [{"workload": x.workload, "cores": x.cores, "seconds": x.floor} for x in lines],
        "starts": [vars(s) for s in begun],
    }
    _write(options.json, record)
    if options.markdown is not None:
        with atomic_write(options.markdown) as file:
            file.write_text(report.markdown(about, lines, begun))
    if options.plot is not None:
        with atomic_write(options.plot) as file:
            report.plot(lines, file)


def _write(path: Path | None, record: dict[str, Any]) -> None:
    if path is not None:
        with atomic_write(path) as file:
            file.write_text(json.dumps(record, indent=1, default=str))


if __name__ == "__main__":
    main()
