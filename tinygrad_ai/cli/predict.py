"""``tinygrad-ai predict``: what a trained model makes of pictures of digits, or of texts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai import functional, io
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.data.text import Tokenizer
from tinygrad_ai.errors import DataError, TinygradError
from tinygrad_ai.examples import PROGRAMS, chars, dates, digits, reviews
from tinygrad_ai.examples.art import portrait
from tinygrad_ai.examples.scan import scan
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.terminal import Terminal

NAME = "predict"
HELP = "read pictures of digits, reviews, or go on with a play, with a trained model"
DESCRIPTION = (
    "Of a model of digits: print the digit in each picture, and the probability of every class. A "
    "picture is a PNG or JPEG of one digit, of any size and colour, dark on light or light on "
    "dark. Of a model of film reviews: print whether each text is a positive one, and its words "
    "coloured by what they speak for. Of a model of plays: go on with each text. Of a model of "
    "dates: print each date as 1998-03-03."
)
SUFFIX = ".safetensors"
Answer: TypeAlias = tuple[dict[str, Any], list[str]]  # for JSON, and as lines
Failures: TypeAlias = dict[str, TinygradError]  # the inputs that could not be read, and why
Answers: TypeAlias = tuple[dict[str, Answer], Failures]
BAR, BESIDE = 20, 37  # columns for a probability of 1, at most, and for everything beside it


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="model.safetensors of a run")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture of a digit; a text")
    parser.add_argument("--json", action="store_true", help="print one JSON object for all")


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> bool:
    """Runs the command; False: nothing was interrupted."""
    model, metadata = _model(arguments.model, arguments.inputs)
    kind, read = READERS[metadata["input"]]
    say = Terminal(sys.stdout)
    found, failed = read(model, metadata, arguments, say)
    if arguments.json:
        results = [{kind: given} | answer for given, (answer, _) in found.items()]
        errors = [{kind: given, "error": str(reason)} for given, reason in failed.items()]
        answer = {"model": str(arguments.model), "predictions": results, "errors": errors}
        say.write(json.dumps(answer, allow_nan=False) + "\n")
    else:
        for _, lines in found.values():
            say.write("\n".join(lines) + "\n\n")
    say.finish()
    if failed:
        complaints = Terminal(sys.stderr)
        for reason in failed.values():
            lines = [f"tinygrad-ai: error: {reason}", *getattr(reason, "__notes__", ())]
            complaints.write("\n".join(lines) + "\n")
        parser.exit(1)
    return False


def _each(inputs: list[str], read: Callable[[str], Any]) -> tuple[dict[str, Any], Failures]:
    """What ``read`` makes of each input, and why it could not read the others."""
    found: dict[str, Any] = {}
    failed: Failures = {}
    for given in inputs:
        try:
            found[given] = read(given)
        except TinygradError as error:
            failed[given] = error
    return found, failed


def _digits(
    model: Any, metadata: dict[str, Any], arguments: argparse.Namespace, say: Terminal
) -> Answers:
    """The digits in the pictures."""
    pages, failed = _each(arguments.inputs, lambda given: _page(given, arguments.model))
    if not pages:
        return {}, failed
    with no_grad(), np.errstate(all="ignore"):
        scores = model(Tensor(np.stack(list(pages.values()))))
        probabilities = functional.softmax(scores, axis=-1).numpy().astype(float)
    _finite(probabilities, arguments.model)
    found = {}
    for (path, page), row in zip(pages.items(), probabilities, strict=True):
        answer = {"digit": int(row.argmax()), "probabilities": row.tolist()}
        headline = f"{path}: {say.paint(str(row.argmax()), 'bold')} ({row.max():.1%})"
        found[path] = answer, [headline, "", *_lines(page, row, say)]
    return found, failed


def _page(given: str, model: Path) -> np.ndarray[Any, Any]:
    """The picture in the file ``given``; a text is not taken for the name of a missing one."""
    if not os.path.exists(given):
        raise DataError(
            f"cannot read {given}: No such file; {model} reads pictures of digits, not texts",
            "   help: tinygrad-ai predict MODEL PICTURE…, of PNG or JPEG files",
        )
    return scan(given)


def _reviews(
    model: Any, metadata: dict[str, Any], arguments: argparse.Namespace, say: Terminal
) -> Answers:
    """The verdicts of the reviews, and the words that they come from."""
    tokenizer = Tokenizer.from_state(metadata["vocabulary"])
    with np.errstate(all="ignore"):
        readings, failed = _each(
            arguments.inputs, lambda text: reviews.Reading.of(model, tokenizer, text)
        )
    found = {}
    for text, reading in readings.items():
        _finite([reading.probability, *reading.shares], arguments.model)
        answer = {
            "positive": reading.probability,
            "words": reading.words,
            "shares": reading.shares.tolist(),
        }
        found[text] = answer, reading.lines(say)
    return found, failed


def _beginnings(
    model: Any, metadata: dict[str, Any], arguments: argparse.Namespace, say: Terminal
) -> Answers:
    """How the model goes on after each text."""
    written, failed = _each(arguments.inputs, lambda text: model.write(text, chars.SHOWN, seed=0))
    return {k: ({"written": w}, chars.show(w, say)) for k, w in written.items()}, failed


def _dates(
    model: Any, metadata: dict[str, Any], arguments: argparse.Namespace, say: Terminal
) -> Answers:
    """The dates in ISO 8601."""

    def read(text: str) -> str:
        (written,) = model.dates([text])
        try:
            date.fromisoformat(written)
        except ValueError:
            raise DataError(f"{text!r} reads as {written!r}, which is no date") from None
        return str(written)

    found, failed = _each(arguments.inputs, read)
    return {k: ({"date": d}, [f"{k}: {say.paint(d, 'bold')}"]) for k, d in found.items()}, failed


#: By what a model takes: the name of an input in JSON, and what reads them.
READERS = {
    digits.INPUT: ("image", _digits),
    reviews.INPUT: ("text", _reviews),
    chars.INPUT: ("text", _beginnings),
    dates.INPUT: ("text", _dates),
}


def _finite(numbers: Any, path: Path) -> None:
    if not np.isfinite(numbers).all():
        raise DataError(
            f"{path} gives no probabilities: its weights are not finite or too large",
            "   help: train again with a smaller --lr",
        )


def _model(path: Path, inputs: list[str]) -> tuple[Any, dict[str, Any]]:
    """The model in a file of ``tinygrad-ai train``, in evaluation mode, and its metadata."""
    if path.suffix.lower() != SUFFIX and any(given.endswith(SUFFIX) for given in inputs):
        raise DataError(
            f"{path} is not a model, but one of the inputs is named like one",
            "   help: the model comes first: tinygrad-ai predict MODEL INPUT…",
        )
    if path.is_dir():
        inside = path / f"model{SUFFIX}"
        raise DataError(
            f"{path} is a folder, not a model",
            f"   help: did you mean {inside}?" if inside.is_file() else "",
        )
    metadata = io.read_metadata(path)
    program = PROGRAMS.get(metadata.get("program", ""))
    if program is None or metadata.get("input") not in READERS:
        what = f"the program {program.name}" if program else "something else"
        raise DataError(
            f"{path} reads neither digits nor texts: it is a model of {what}",
            "   help: tinygrad-ai train mnist-mlp, imdb-lstm and char-rnn write models that do",
        )
    model = program.build()
    try:
        model.load_state_dict(io.load(path))
    except TinygradError as error:
        raise DataError(f"{path} does not fit the program {program.name}: {error}") from None
    model.eval()
    return model, metadata


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
