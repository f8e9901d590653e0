"""``tinygrad-ai train``: trains a program's model, shows the result and writes it to a folder."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tinygrad_ai import io, plots
from tinygrad_ai.errors import DataError
from tinygrad_ai.examples import PROGRAMS, Program, Run, Settings
from tinygrad_ai.train.terminal import Terminal

NAME = "train"
HELP = "train a model and write it to a folder"
DESCRIPTION = (
    "Train a program's model, measure it on test data and write model.safetensors, history.csv, "
    "curves.png and confusion.png to a folder. Ctrl-C ends training; what was trained until then "
    "is measured and written, and the exit status is 130."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("program", metavar="PROGRAM", nargs="?", help="see --list")
    parser.add_argument("--list", action="store_true", help="list the programs and exit")
    parser.add_argument("--data", metavar="NAME", help="data set to learn from, see --list")
    parser.add_argument("--epochs", type=_count, metavar="N", help="passes over the data")
    parser.add_argument("--batch-size", type=_count, metavar="N", help="samples a step")
    parser.add_argument("--lr", type=_rate, metavar="X", help="learning rate at its peak")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="random seed (0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(cpu)")
    parser.add_argument("--no-jit", action="store_true", help="do not compile the training step")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (runs/PROGRAM)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; everything else goes to stderr"
    )


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; returns whether Ctrl-C ended the training."""
    if arguments.list:
        print(_listing())
        return False
    program, settings = _chosen(arguments, parser)
    say = Terminal(sys.stderr if arguments.json else sys.stdout)
    out = arguments.out or Path("runs") / program.name
    _writable(out)
    run = program.prepare(settings)
    say.write(f"{program.name}: {program.summary}, learning from {settings.data}\n\n")
    say.write(f"{run.summary}\n\n")

    began = time.perf_counter()
    history = run.fit(True)
    seconds = time.perf_counter() - began
    test = run.test()
    if history.interrupted:
        say.write(f"interrupted after {len(history.epochs)} whole epochs\n")
    say.write("test: " + ", ".join(f"{name} {value:.4f}" for name, value in test.items()))
    say.write(f" (trained for {seconds:.1f} s)\n\n")
    say.write("\n".join(run.show(say)) + "\n\n")
    _keep(out, program, settings, run, history, say)
    if arguments.json:
        result = {
            "program": program.name,
            "data": settings.data,
            "epochs": len(history.epochs),
            "seconds": round(seconds, 3),
            "train": {name: values[-1] for name, values in history.history.items()},
            "test": test,
            "out": str(out),
            "interrupted": history.interrupted,
        }
        print(json.dumps(result))
    return history.interrupted


def _chosen(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> tuple[Program, Settings]:
    """The program and its settings: its defaults for the data, where nothing else was asked for."""
    if arguments.program is None:
        parser.error("name a PROGRAM\n   " + ", ".join(PROGRAMS))
    if arguments.program not in PROGRAMS:
        parser.error(_no("program", arguments.program, list(PROGRAMS)))
    program = PROGRAMS[arguments.program]
    known = {settings.data: settings for settings in program.defaults}
    data = arguments.data or program.defaults[0].data
    if data not in known:
        parser.error(_no("data", data, list(known)))
    asked = {
        name: getattr(arguments, name)
        for name in ("epochs", "batch_size", "lr")
        if getattr(arguments, name) is not None
    }
    return program, dataclasses.replace(
        known[data],
        **asked,
        seed=arguments.seed,
        device=arguments.device,
        jit=not arguments.no_jit,
    )


def _keep(
    out: Path, program: Program, settings: Settings, run: Run, history: Any, say: Terminal
) -> None:
    """Writes what was trained and measured; pictures only where they can be drawn."""
    metadata = {"program": program.name, "settings": dataclasses.asdict(settings)} | run.metadata
    io.save(run.model, out / "model.safetensors", metadata)
    history.to_csv(out / "history.csv")
    written = ["model.safetensors", "history.csv"]
    if not history.epochs:
        say.write("no pictures: no epoch was finished\n")
    elif not plots.available():
        say.write("no pictures: they need matplotlib; pip install 'tinygrad_ai[plot]'\n")
    else:
        for name, draw in run.pictures.items():
            draw(out / name)
            written.append(name)
    say.write(f"written to {out}: {', '.join(written)}\n")


def _writable(out: Path) -> None:
    """Raises DataError now, rather than after training, where ``out`` cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(
            f"--out {out}: cannot write there: {error.strerror or error}",
            "   help: choose a folder you may write to",
        ) from None


def _listing() -> str:
    width = max(map(len, PROGRAMS))
    lines = []
    for program in PROGRAMS.values():
        lines.append(f"{program.name:<{width}}  {program.summary}")
        for s in program.defaults:
            facts = f"--epochs {s.epochs} --batch-size {s.batch_size} --lr {s.lr:g}"
            lines.append(f"{'':<{width}}  --data {s.data:<14} {facts}")
    return "\n".join(lines)


def _no(kind: str, wanted: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"no {kind} {wanted!r}{hint}\n   there are {', '.join(known)}"


def _count(text: str) -> int:
    return _number(text, int, lambda n: n >= 1, "a whole number of at least 1")


def _seed(text: str) -> int:
    return _number(text, int, lambda n: n >= 0, "a whole number of at least 0")


def _rate(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < math.inf, "a positive number")


def _number(text: str, kind: Any, fits: Any, wanted: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not fits(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number
