"""What a stream can show: colours, characters beyond ASCII, a line rewritten in place."""

from __future__ import annotations

import os
from typing import TextIO

STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32}


class Terminal:
    """``stream`` and what it can show; every text goes through :meth:`paint` and :meth:`glyphs`.

    Colours need a terminal and no ``NO_COLOR`` (https://no-color.org) in the environment; blocks
    and lines need an encoding that has them.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colours = self.is_terminal and not os.environ.get("NO_COLOR")

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
        encoding = getattr(self.stream, "encoding", None) or "ascii"
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()
