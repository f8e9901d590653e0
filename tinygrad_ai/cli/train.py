"""``tinygrad-ai train``: trains a program's model, shows the result and writes it to a folder."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tinygrad_ai import io, plots
from tinygrad_ai.errors import DataError
from tinygrad_ai.examples import PROGRAMS, Program, Run, Settings
from tinygrad_ai.files import check_writable, make_folder
from tinygrad_ai.train import Diverged, History
from tinygrad_ai.train.terminal import Terminal

MODEL, CURVE = "model.safetensors", "history.csv"
MOST = 1_000_000  # epochs, samples a step
NAME = "train"
HELP = "train a model and write it to a folder"
DESCRIPTION = (
    "Train a program's model, write model.safetensors and history.csv to a folder, measure it on "
    "test data, and draw curves.png and other pictures. Ctrl-C ends training; what was trained "
    "until then is written and measured, and the exit status is 130. An earlier model in the "
    "folder is replaced once an epoch is whole. Where the loss is no longer finite, the last whole "
    "epoch is written and the exit status is 1. BLAS uses one thread, unless OPENBLAS_NUM_THREADS, "
    "OMP_NUM_THREADS or MKL_NUM_THREADS says otherwise."
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
    parser.add_argument("--out", type=_folder, metavar="DIR", help="folder (runs/PROGRAM)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; everything else goes to stderr"
    )


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; returns whether Ctrl-C ended the training."""
    results = Terminal(sys.stdout)
    if arguments.list:
        results.write((json.dumps(_catalogue()) if arguments.json else _listing()) + "\n")
        results.finish()
        return False
    program, settings = _chosen(arguments, parser)
    say = Terminal(sys.stderr) if arguments.json else results
    out = arguments.out or Path("runs") / program.name
    _writable(out)
    run = program.prepare(settings)
    say.write(f"{program.name}: {program.summary}, learning from {settings.data}\n\n")
    say.write(f"{run.summary}\n\n")

    began = time.perf_counter()
    with OneInterrupt() as ctrl_c:
        try:
            history = run.fit(True)
        except Diverged as error:
            ctrl_c.wait()
            if epochs := len(error.history.epochs):
                names = ", ".join(_keep(out, program, settings, run, error.history))
                whole = f"{epochs} whole epoch{'s' * (epochs != 1)}"
                error.add_note(f"   written to {out}, as after the {whole} before: {names}")
            raise
        ctrl_c.wait()
        seconds = time.perf_counter() - began
        written = _keep(out, program, settings, run, history)
    epochs = len(history.epochs)
    if history.interrupted:
        say.write(f"interrupted after {epochs} whole epoch{'s' * (epochs != 1)}\n")
    test = run.test()
    say.write("test: " + ", ".join(f"{name} {value:.4f}" for name, value in test.items()))
    say.write(f" (trained for {seconds:.1f} s)\n")
    if not test["loss"] < run.chance:
        say.write(
            f"no better than guessing, whose loss is {run.chance:.4f}"
            + ("" if history.interrupted else ": try another --lr or more --epochs")
            + "\n"
        )
    say.write("\n" + "\n".join(run.show(say)) + "\n\n")
    if written:
        written += _drawn(out, run, history, say)
        say.write(f"written to {out}: {', '.join(written)}\n")
    else:
        say.write(f"nothing written: no epoch was finished, and {out} holds an earlier model\n")
    if arguments.json:
        result = {
            "program": program.name,
            "data": settings.data,
            "epochs": epochs,
            "seconds": round(seconds, 3),
            "train": _plain({name: values[-1] for name, values in history.history.items()}),
            "test": _plain(test),
            "out": str(out),
            "interrupted": history.interrupted,
        }
        results.write(json.dumps(result) + "\n")
    results.finish()
    return history.interrupted


def _plain(numbers: dict[str, float]) -> dict[str, float | None]:
    """``numbers`` for JSON, which has no NaN and no infinity."""
    return {name: x if math.isfinite(x) else None for name, x in numbers.items()}


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


def _keep(out: Path, program: Program, settings: Settings, run: Run, history: History) -> list[str]:
    """Writes what was trained, in the place of an earlier run's files; returns their names.

    Nothing is written where no epoch was finished and there is an earlier model to lose.
    """
    if not history.epochs and (out / MODEL).exists():
        return []
    make_folder(out)
    metadata = {"program": program.name, "settings": dataclasses.asdict(settings)} | run.metadata
    io.save(run.model, out / MODEL, metadata)
    history.to_csv(out / CURVE)
    for name in run.pictures:
        (out / name).unlink(missing_ok=True)  # of an earlier run
    return [MODEL, CURVE]


def _drawn(out: Path, run: Run, history: History, say: Terminal) -> list[str]:
    """Draws the pictures where there is something to draw, and to draw with; their names."""
    if not history.epochs:
        say.write("no pictures: no epoch was finished\n")
    elif not plots.available():
        say.write("no pictures: they need matplotlib; pip install 'tinygrad_ai[plot]'\n")
    else:
        for name, draw in run.pictures.items():
            draw(out / name)
        return list(run.pictures)
    return []


def _writable(out: Path) -> None:
    """Raises DataError now, rather than after training, where a file cannot be written to ``out``.

    The folder itself is made when there is something to put into it.
    """
    there = next(folder for folder in [out, *out.absolute().parents] if os.path.lexists(folder))
    try:
        io.check_savable(there / MODEL)
        check_writable(there / CURVE)
    except DataError as error:
        raise DataError(f"--out {out}: {error}", *getattr(error, "__notes__", ())) from None


class OneInterrupt:
    """A block in which Ctrl-C raises KeyboardInterrupt at most once.

    Further ones, and all of them after :meth:`wait`, are held back until the block is over.
    """

    def __enter__(self) -> OneInterrupt:
        self.waiting = self.pressed = False
        self.before = signal.signal(signal.SIGINT, self._handle)
        return self

    def wait(self) -> None:
        """From here on the block is not to be interrupted."""
        self.waiting = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.waiting:
            self.pressed = True
        else:
            self.waiting = True
            raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self.before)
        if self.pressed:
            raise KeyboardInterrupt


def _catalogue() -> list[dict[str, Any]]:
    return [
        {
            "program": program.name,
            "summary": program.summary,
            "defaults": [dataclasses.asdict(settings) for settings in program.defaults],
        }
        for program in PROGRAMS.values()
    ]


def _listing() -> str:
    width = max(map(len, PROGRAMS))
    lines = []
    for program in PROGRAMS.values():
        lines.append(f"{program.name:<{width}} {program.summary}")
        for s in program.defaults:
            facts = f"--epochs {s.epochs} --batch-size {s.batch_size} --lr {s.lr:g}"
            lines.append(f"{'':<{width}} --data {s.data:<14} {facts}")
    return "\n".join(lines)


def _no(kind: str, wanted: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"no {kind} {wanted!r}{hint}\n   there are {', '.join(known)}"


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of the folder is empty")
    return Path(text)


def _count(text: str) -> int:
    wanted = f"a whole number of at least 1 and at most {MOST:,}"
    return _number(text, int, lambda n: 1 <= n <= MOST, wanted)


def _seed(text: str) -> int:
    wanted = "a whole number of at least 0, below 2^63"
    return _number(text, int, lambda n: 0 <= n < 2**63, wanted)


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
