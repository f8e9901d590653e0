"""How good the programs of ``tinygrad-ai train`` get, beside the same programs in torch.

``python -m benchmarks.quality [--only PROGRAM …] [--seeds 0 1 2] [--json FILE]`` (extra ``bench``)
trains every program with its defaults, each seed in a process of its own, ours and torch's twin
(``benchmarks/twins/``) in turns: ours through the command line. With ``--json`` finished runs are
kept in FILE and are not repeated while the program's settings are the same, so that it can be
stopped and goes on where it was. Both have one thread, and the seconds in the table are the
processor's, which other work on the machine changes least; with ``--threads all`` both take as many
as they like, and the seconds are those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.twins import twin
from tinygrad_ai.cli import THREADS
from tinygrad_ai.examples import PROGRAMS, Program, Settings
from tinygrad_ai.files import atomic_write

#: {"program", "by", "threads", "settings", "seconds", "cpu_seconds" (the processor's), "test"}
Result = dict[str, Any]
BY = ("ours", "torch")


def settings_of(program: Program, small: bool, seed: int) -> Settings:
    """The program's defaults for its bundled (first) or its full (last) data set."""
    return replace(program.defaults[0 if small else -1], seed=seed)


def run(program: str, small: bool, seed: int, by: str, threads: str) -> Result:
    """Trains and tests in a fresh process. Raises RuntimeError with its errors where it fails."""
    settings = settings_of(PROGRAMS[program], small, seed)
    with tempfile.TemporaryDirectory() as out:
        ours = ["tinygrad_ai", "train", program, "--json", "--data", settings.data, "--out", out]
        theirs = ["benchmarks.quality", "--twin", program, *["--small"] * small]
        module = [*(ours if by == "ours" else theirs), "--seed", str(seed)]
        printed, errors = Path(out, "stdout"), Path(out, "stderr")
        began = time.perf_counter()
        with printed.open("w") as stdout, errors.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(dict.fromkeys(THREADS, "1") if threads == "1" else {})},
            )
            _, status, usage = os.wait4(process.pid, 0)  # it knows the processor's time
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"{program}, seed {seed}, {by}:\n{errors.read_text()[-2000:]}")
        test = json.loads(printed.read_text().splitlines()[-1])["test"]
    facts = {"program": program, "by": by, "threads": threads, "settings": asdict(settings)}
    busy = usage.ru_utime + usage.ru_stime
    return {**facts, "seconds": round(seconds, 1), "cpu_seconds": round(busy, 1), "test": test}


def collect(
    programs: Iterable[str],
    seeds: Iterable[int],
    sides: Iterable[str],
    small: bool,
    threads: str,
    jobs: int,
    path: Path | None,
    say: Callable[[str], None],
) -> list[Result]:
    """The results of all runs; those that ``path`` holds are taken from there."""
    kept: list[Result] = json.loads(path.read_text()) if path and path.exists() else []
    results = [result for result in kept if _up_to_date(result)]
    known = {_key(result) for result in results}
    wanted = [
        (program, small, seed, by, threads)
        for program in programs
        for seed in seeds
        for by in sides
        if (program, by, threads, settings_of(PROGRAMS[program], small, seed)) not in known
    ]
    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(run, *one) for one in wanted]):
            result = future.result()
            results.append(result)
            say(json.dumps(result))
            if path:
                with atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(results, indent=1))
    finally:  # after an error or Ctrl-C no further run is begun
        pool.shutdown(cancel_futures=True)
    return results


def _key(result: Result) -> tuple[str, str, str, Settings]:
    settings = Settings(**result["settings"])
    return result["program"], result["by"], result["threads"], settings


def _up_to_date(result: Result) -> bool:
    """Whether the program still has the settings that the result was made with."""
    program, _, _, settings = _key(result)
    return any(replace(d, seed=settings.seed) == settings for d in PROGRAMS[program].defaults)


def table(results: list[Result]) -> str:
    """Markdown: for each program and measure, mean ± half of the range over the seeds."""
    lines = [
        "| program | data | threads | measure | seeds | ours | torch | seconds, ours | torch |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for program, data, threads in dict.fromkeys(map(_row, results)):
        rows = [r for r in results if _row(r) == (program, data, threads)]
        sides = [[r for r in rows if r["by"] == by] for by in BY]
        measures = rows[0]["test"]
        for measure in [m for m in measures if not m.endswith("loss")] or list(measures):
            scores = [_spread([r["test"][measure] for r in side], 4) for side in sides]
            clock = "cpu_seconds" if threads == "1" else "seconds"
            times = [_spread([r[clock] for r in side], 0) for side in sides]
            seeds = len({r["settings"]["seed"] for r in rows})
            cells = [program, data, threads, measure, str(seeds), *scores, *times]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, str, str]:
    return result["program"], result["settings"]["data"], result["threads"]


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, metavar="PROGRAM", default=PROGRAMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--by", nargs="+", choices=BY, default=BY, help="run only one of the two")
    parser.add_argument("--small", action="store_true", help="the bundled data sets")
    parser.add_argument("--threads", choices=["1", "all"], default="1", help="of both (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep finished runs here")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (1)")
    parser.add_argument("--twin", choices=PROGRAMS, metavar="PROGRAM", help="one run of torch's")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --twin")
    asked = parser.parse_args()
    if asked.twin:
        settings = settings_of(PROGRAMS[asked.twin], asked.small, asked.seed)
        print(json.dumps({"test": twin(asked.twin)(settings)}))
    else:
        say = partial(print, file=sys.stderr, flush=True)
        what = asked.only, asked.seeds, asked.by, asked.small, asked.threads
        print(table(collect(*what, asked.jobs, asked.json, say)))


if __name__ == "__main__":
    main()
