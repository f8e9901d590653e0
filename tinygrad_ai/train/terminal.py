"""What a stream can show: colours, characters beyond ASCII, a line rewritten in place."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from tinygrad_ai.errors import DataError

STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32}


class Terminal:
    """``stream`` and what it can show; every text goes through :meth:`paint` and :meth:`glyphs`.

    Colours need a terminal and no ``NO_COLOR`` (https://no-color.org) in the environment; blocks
    and lines need an encoding that has them. ``stream`` may be None, as Python has it for one that
    is closed. What cannot be written must not end a training: it is dropped; ``error`` says why.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | None = None
        is_tty = stream is not None and not stream.closed and stream.isatty()
        self.is_terminal = is_tty and os.environ.get("TERM") != "dumb"
        self.colours = self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def columns(self) -> int:
        """The width: that of the terminal or of ``COLUMNS``, else 80."""
        return shutil.get_terminal_size().columns

    def paint(self, text: str, style: str) -> str:
        """``text`` in a style of ``STYLES``, or as it is."""
        return f"\033[{STYLES[style]}m{text}\033[0m" if self.colours and text else text

    def glyphs(self, wanted: str, plain: str) -> str:
        """``wanted`` where the stream's encoding has all its characters, else ``plain``."""
        try:
            wanted.encode(getattr(self.stream, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            return plain
        return wanted

    def write(self, text: str) -> None:
        """Writes ``text`` at once, characters that the encoding lacks as "?"."""
        if self.stream is None or self.stream.closed or self.error:
            return
        encoding = getattr(self.stream, "encoding", None) or "ascii"
        try:
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except OSError as error:
            self.error = error

    def finish(self) -> None:
        """Raises DataError where something was dropped, unless nobody reads any more."""
        if self.error and not isinstance(self.error, BrokenPipeError):
            raise DataError(f"cannot print: {self.error.strerror or self.error}")
