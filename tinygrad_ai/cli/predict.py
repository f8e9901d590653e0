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
BAR = 20  # characters for a probability of 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.safetensors of a run")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture of a digit")
    parser.add_argument("--json", action="store_true", help="print one JSON object for all")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; False: nothing was interrupted."""
    model = _model(arguments.model)
    pages = np.stack([scan(path) for path in arguments.images])
    with no_grad():
        probabilities = functional.softmax(model(Tensor(pages)), axis=-1).numpy()
    if arguments.json:
        results = [
            {"image": str(path), "digit": int(row.argmax()), "probabilities": row.tolist()}
            for path, row in zip(arguments.images, probabilities.astype(float), strict=True)
        ]
        print(json.dumps({"model": str(arguments.model), "predictions": results}))
        return False
    say = Terminal(sys.stdout)
    for path, page, row in zip(arguments.images, pages, probabilities, strict=True):
        say.write(f"{path}: {say.paint(str(row.argmax()), 'bold')} ({row.max():.1%})\n\n")
        say.write("\n".join(_lines(page, row, say)) + "\n\n")
    return False


def _model(path: Path) -> Any:
    """The model in a file of ``tinygrad-ai train``, in evaluation mode."""
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
    lines = []
    for digit, (row, p) in enumerate(zip(portrait(page, say), probabilities, strict=True)):
        bar = (full * round(BAR * float(p))).ljust(BAR)
        best = digit == probabilities.argmax()
        text = f"{digit} {say.paint(bar, 'green') if best else bar} {p:7.2%}"
        lines.append(f"  {row}   {text}")
    return lines
