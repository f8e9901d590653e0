"""``tinygrad-ai check``: are the gradients right, would the tests notice if not, who else is."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections import Counter
from typing import Any

from tinygrad_ai.errors import DataError
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing.corner_cases import CORNER_CASES, Outcome, run_corner_cases
from tinygrad_ai.testing.frameworks import framework_names
from tinygrad_ai.testing.mutation import MutationScore, mutation_score
from tinygrad_ai.testing.records import RecordResult, check_record
from tinygrad_ai.train.terminal import Terminal

NAME = "check"
HELP = "check values and gradients of every operation"
DESCRIPTION = (
    "Check every operation: values against references, gradients against differences, and what "
    "must hold for any gradient. --mutate breaks the operations on purpose and counts how many "
    "mistakes these checks notice; --corner-cases runs the cases in which autodiff libraries have "
    "been wrong, on another library too."
)
OURS = "tinygrad_ai"
GOAL = 0.98  #: the mutation score that counts as passed


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--op", metavar="NAME", help="this operation only")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--mutate", action="store_true", help="print the mutation score")
    what.add_argument("--corner-cases", action="store_true", help="run the corner cases")
    parser.add_argument(
        "--against", metavar="NAME", help="run the corner cases on torch, jax or autograd too"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="random seed (0)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; progress goes to stderr"
    )


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; exits with status 1 where a check fails. False: nothing interrupted."""
    if arguments.against is not None and not arguments.corner_cases:
        parser.error("--against goes with --corner-cases")
    if arguments.op is not None and arguments.corner_cases:
        parser.error("--op does not go with --corner-cases")
    if arguments.op is not None:
        _known("operation", arguments.op, list(PRIMITIVES), parser)
    if arguments.corner_cases:
        passed = _corner_cases(arguments, parser)
    elif arguments.mutate:
        passed = _mutate(arguments)
    else:
        passed = _check(arguments)
    if not passed:
        parser.exit(1)
    return False


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _known(what: str, name: str, names: list[str], parser: argparse.ArgumentParser) -> None:
    """Wrong usage, with the nearest name, where ``name`` is not one of ``names``."""
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        better = f", did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
        parser.error(f"no {what} {name!r}{better}")


# ----------------------------------------------------------------------------- every operation


def _check(arguments: argparse.Namespace) -> bool:
    names = [arguments.op] if arguments.op else list(PRIMITIVES)
    err = Terminal(sys.stderr)
    results = []
    for k, name in enumerate(names, 1):
        _progress(err, k, len(names), name)
        results.append(check_record(PRIMITIVES[name], arguments.seed))
    _progress_done(err)
    verdicts = Counter(result.verdict for result in results)
    if arguments.json:
        body = {"seed": arguments.seed, "operations": [r.to_json() for r in results]}
        print(json.dumps(body | {"verdict": "fail" if verdicts["fail"] else "pass"}))
    else:
        Terminal(sys.stdout).write(_check_table(results, verdicts))
    return not verdicts["fail"]


def _check_table(results: list[RecordResult], verdicts: Counter[str]) -> str:
    width = max(len(r.name) for r in results)
    lines = [f"{'operation':{width}}  {'kind':11} {'checks':>6}  {'margin':>8}  verdict"]
    for r in results:
        margin = "-" if r.margin is None else f"{r.margin:.2g}"
        lines.append(f"{r.name:{width}}  {r.kind:11} {r.checks:6}  {margin:>8}  {r.verdict}")
        lines += [f"   {line}" for line in r.text.splitlines()]
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    lines.append(f"{len(results)} operations: {said} (margin: worst error / tolerance)")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------- mutation score


def _mutate(arguments: argparse.Namespace) -> bool:
    names = [arguments.op] if arguments.op else None
    err = Terminal(sys.stderr)
    total = len(names or PRIMITIVES) + (names is None)  # the engine is one more
    done = 0

    def progress(name: str, part: MutationScore) -> None:
        nonlocal done
        done += 1
        _progress(err, done, total, f"{name}: {part.killed} of {part.total} killed")

    jobs = 1 if names else min(os.cpu_count() or 1, 8)
    score = mutation_score(names, seed=arguments.seed, jobs=jobs, progress=progress)
    _progress_done(err)
    if arguments.json:
        print(json.dumps({"seed": arguments.seed} | score.to_json()))
    else:
        Terminal(sys.stdout).write(score.text() + "\n")
    return score.score >= GOAL


# --------------------------------------------------------------------------------- corner cases


def _corner_cases(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    names = [OURS]
    if arguments.against is not None:
        _known("framework", arguments.against, framework_names(), parser)
        names += [arguments.against] * (arguments.against != OURS)
    columns = {}
    for name in names:
        print(f"running {len(CORNER_CASES)} cases on {name}", file=sys.stderr)
        columns[name] = _outcomes(name)
    if arguments.json:
        cases = {name: [o.to_json() for o in outcomes] for name, outcomes in columns.items()}
        print(json.dumps({"cases": cases, "right": {n: _right(o) for n, o in columns.items()}}))
    else:
        Terminal(sys.stdout).write(_corner_table(columns))
    return all(outcome.ok for outcome in columns[OURS])


def _outcomes(name: str) -> list[Outcome]:
    try:
        return run_corner_cases(name)
    except ImportError as error:
        raise DataError(
            f"{name} is not installed: {error}", f"   help: pip install {name}"
        ) from None


def _right(outcomes: list[Outcome]) -> int:
    return sum(outcome.ok for outcome in outcomes)


def _corner_table(columns: dict[str, list[Outcome]]) -> str:
    wide = max(len(case.id) for case in CORNER_CASES)
    lines = [f"{'case':{wide}}  " + "".join(f"{name:16}" for name in columns) + "gave instead"]
    for row in zip(*columns.values(), strict=True):
        gave = "; ".join(o.gave() for o in row if not o.ok)
        cells = "".join(f"{o.verdict:16}" for o in row)
        lines.append(f"{row[0].case.id:{wide}}  {cells}{gave}".rstrip())
    for name, outcomes in columns.items():
        lines.append(f"{name}: {_right(outcomes)} of {len(outcomes)} right{_others(outcomes)}")
    lines.append("(other choice: a subgradient or a policy at a singular point, not a mistake)")
    return "\n".join(lines) + "\n"


def _others(outcomes: list[Outcome]) -> str:
    counts: Counter[str] = Counter(o.verdict for o in outcomes if not o.ok)
    return "".join(f", {count} {verdict}" for verdict, count in sorted(counts.items()))


# ------------------------------------------------------------------------------------- progress


def _progress(err: Terminal, done: int, total: int, text: str) -> None:
    """On a terminal one line rewritten in place; else a line now and then."""
    if err.is_terminal:
        err.write(f"\r\033[K{done}/{total} {text}")
    elif done == total or done % 20 == 0:
        err.write(f"{done}/{total} {text}\n")


def _progress_done(err: Terminal) -> None:
    err.write("\r\033[K" if err.is_terminal else "")


__all__: list[Any] = ["DESCRIPTION", "HELP", "NAME", "arguments", "run"]
