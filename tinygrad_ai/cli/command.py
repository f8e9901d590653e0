"""Arguments, exit status, and errors as one clear line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from tinygrad_ai.cli import INTERRUPTED, check, predict, train
from tinygrad_ai.errors import TinygradError
from tinygrad_ai.train.terminal import Terminal

DONE, FAILED, WRONG_USAGE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage before them."""

    def error(self, message: str) -> NoReturn:
        lines = message.split("\n")
        more = [*lines[1:], f"   help: {self.prog} --help"]
        self.exit(WRONG_USAGE, "\n".join([f"{self.prog}: error: {lines[0]}", *more]) + "\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        terminal = Terminal(file)
        terminal.write(message)
        terminal.finish()


class Version(argparse.Action):
    """Prints the installed version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            version = metadata.version("tinygrad_ai")
        except metadata.PackageNotFoundError:
            version = "of a checkout that is not installed"
        parser._print_message(f"tinygrad-ai {version}\n", sys.stdout)
        parser.exit()


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="tinygrad-ai",
        description="Train small models and use them.",
        epilog="Exit status: 0 done, 1 the run failed, 2 wrong usage, 130 ended by Ctrl-C (what "
        "was trained until then is kept).",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (train, predict, check):
        sub = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.DESCRIPTION,
            parents=[common],
            allow_abbrev=False,
        )
        module.arguments(sub)
        sub.set_defaults(run=module.run, parser=sub)
    return top


def run(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns the exit status; KeyboardInterrupt passes through."""
    try:
        status = _run(argv)
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        status = stop.code if isinstance(stop.code, int) else WRONG_USAGE
    for lost in filter(None, map(_flushed, (sys.stdout, sys.stderr))):
        if status == DONE and not isinstance(lost, BrokenPipeError):
            _complain(f"tinygrad-ai: error: cannot print: {lost.strerror or lost}")
            status = FAILED
    return status


def _run(argv: Sequence[str] | None) -> int:
    arguments = argparse.Namespace(debug=False)
    try:
        arguments, unknown = parser().parse_known_args(argv)
        if unknown:
            arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        interrupted = arguments.run(arguments, arguments.parser)
    except BrokenPipeError:  # `| head` has read what it wanted
        return DONE
    except Exception as error:
        if arguments.debug:
            raise
        _complain(_described(error))
        return FAILED
    return INTERRUPTED if interrupted else DONE


def _described(error: Exception) -> str:
    ours = isinstance(error, TinygradError)
    headline = str(error) if ours else f"{type(error).__name__}: {error}"
    notes = [*getattr(error, "__notes__", ()), *([] if ours else ["   help: --debug shows where"])]
    return "\n".join([f"tinygrad-ai: error: {headline}", *notes])


def _complain(text: str) -> None:
    Terminal(sys.stderr).write(text + "\n")


def _flushed(stream: Any) -> OSError | None:
    """Why what was printed to ``stream`` cannot be delivered, if so; then it is dropped.

    Otherwise Python would try again at its end, and complain in words of its own.
    """
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
