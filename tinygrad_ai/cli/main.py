"""Arguments, exit status, and errors as one clear line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from tinygrad_ai.cli import predict, train

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # 130 = 128 + SIGINT, as shells have it


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage before them."""

    def error(self, message: str) -> NoReturn:
        lines = message.split("\n")
        more = [*lines[1:], f"   help: {self.prog} --help"]
        self.exit(WRONG_USAGE, "\n".join([f"{self.prog}: error: {lines[0]}", *more]) + "\n")


class Version(argparse.Action):
    """Prints the installed version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            version = metadata.version("tinygrad_ai")
        except metadata.PackageNotFoundError:
            version = "of a checkout that is not installed"
        print(f"tinygrad-ai {version}")
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
    for module in (train, predict):
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (``sys.argv`` by default) and returns the exit status."""
    try:
        return _run(parser().parse_args(argv))
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        return stop.code if isinstance(stop.code, int) else WRONG_USAGE


def _run(arguments: argparse.Namespace) -> int:
    try:
        interrupted = arguments.run(arguments, arguments.parser)
    except KeyboardInterrupt:
        print("tinygrad-ai: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.debug:
            raise
        print(_described(error), file=sys.stderr)
        return FAILED
    return INTERRUPTED if interrupted else DONE


def _described(error: Exception) -> str:
    ours = type(error).__module__.startswith("tinygrad_ai")
    headline = str(error) if ours else f"{type(error).__name__}: {error}"
    notes = getattr(error, "__notes__", ["   help: --debug shows where"])
    return "\n".join([f"tinygrad-ai: error: {headline}", *notes])
