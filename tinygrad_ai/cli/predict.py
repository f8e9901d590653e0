"""``tinygrad-ai predict``: what a trained model reads in pictures of digits."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai import functional, io
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.errors import DataError, TinygradError
from tinygrad_ai.examples import PROGRAMS
from tinygrad_ai.examples.art import portrait
from tinygrad_ai.examples.digits import INPUT
from tinygrad_ai.examples.scan import scan
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.terminal import Terminal

NAME = "predict"
HELP = "read digits in pictures with a trained model"
DESCRIPTION = (
    "Print the digit in each picture and the probability of every class. A picture is a PNG or "
    "JPEG of one digit, of any size and colour, dark on light or light on dark."
)
SUFFIX = ".safetensors"
BAR, BESIDE = 20, 37  # columns for a probability of 1, at most, and for everything beside it


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.safetensors of a run")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture of a digit")
    parser.add_argument("--json", action="store_true", help="print one JSON object for all")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; False: nothing was interrupted."""
    model = _model(arguments.model, arguments.images)
    pages: dict[Path, Any] = {}
    failed: dict[Path, DataError] = {}
    for path in arguments.images:
        try:
            pages[path] = scan(path)
        except DataError as error:
            failed[path] = error
    read = _read(model, pages, arguments.model)
    say = Terminal(sys.stdout)
    if arguments.json:
        results = [
            {"image": str(path), "digit": int(row.argmax()), "probabilities": row.tolist()}
            for path, row in read.items()
        ]
        errors = [{"image": str(path), "error": str(reason)} for path, reason in failed.items()]
        answer = {"model": str(arguments.model), "predictions": results, "errors": errors}
        say.write(json.dumps(answer, allow_nan=False) + "\n")
    else:
        for path, row in read.items():
            say.write(f"{path}: {say.paint(str(row.argmax()), 'bold')} ({row.max():.1%})\n\n")
            say.write("\n".join(_lines(pages[path], row, say)) + "\n\n")
    say.finish()
    if failed:
        complaints = Terminal(sys.stderr)
        for reason in failed.values():
            lines = [f"tinygrad-ai: error: {reason}", *getattr(reason, "__notes__", ())]
            complaints.write("\n".join(lines) + "\n")
        parser.exit(1)
    return False


def _read(model: Any, pages: dict[Path, Any], path: Path) -> dict[Path, Any]:
    """The probabilities of the ten digits for every page, float64."""
    if not pages:
        return {}
    with no_grad(), np.errstate(all="ignore"):
        scores = model(Tensor(np.stack(list(pages.values()))))
        probabilities = functional.softmax(scores, axis=-1).numpy().astype(float)
    if not np.isfinite(probabilities).all():
        raise DataError(
            f"{path} gives no probabilities: its weights are not finite or too large",
            "   help: train again with a smaller --lr",
        )
    return dict(zip(pages, probabilities, strict=True))


def _model(path: Path, images: list[Path]) -> Any:
    """The model in a file of ``tinygrad-ai train``, in evaluation mode."""
    if path.suffix.lower() != SUFFIX and any(image.suffix == SUFFIX for image in images):
        raise DataError(
            f"{path} is not a model, but one of the pictures is named like one",
            "   help: the model comes first: tinygrad-ai predict MODEL IMAGE…",
        )
    if path.is_dir():
        inside = path / f"model{SUFFIX}"
        raise DataError(
            f"{path} is a folder, not a model",
            f"   help: did you mean {inside}?" if inside.is_file() else "",
        )
    metadata = io.read_metadata(path)
    program = PROGRAMS.get(metadata.get("program", ""))
    if program is None or metadata.get("input") != INPUT:
        what = f"the program {program.name}" if program else "something else"
        raise DataError(
            f"{path} does not read digits: it is a model of {what}",
            "   help: tinygrad-ai train mnist-mlp writes one that does",
        )
    model = program.build()
    try:
        model.load_state_dict(io.load(path))
    except TinygradError as error:
        raise DataError(f"{path} does not fit the program {program.name}: {error}") from None
    model.eval()
    return model


def _lines(page: np.ndarray[Any, Any], probabilities: Any, say: Terminal) -> list[str]:
    """The digit as the model sees it, beside a bar for each class."""
    full = say.glyphs("█", "#")
    width = min(max(say.columns - BESIDE, 1), BAR)
    lines = []
    for digit, (row, p) in enumerate(zip(portrait(page, say), probabilities, strict=True)):
        bar = (full * round(width * float(p))).ljust(width)
        best = digit == probabilities.argmax()
        text = f"{digit} {say.paint(bar, 'green') if best else bar} {p:7.2%}"
        lines.append(f"  {row}   {text}")
    return lines
