"""How training is going, on stderr: a line rewritten in a terminal, else one line an epoch."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tinygrad_ai.train.callbacks import Callback, Logs
from tinygrad_ai.train.terminal import Terminal

INTERVAL = 0.1  # seconds between two rewritings
BAR = 6, 24  # columns, at least and at most


class Progress(Callback):
    """Reports to ``stream`` (stderr): bar, batch, loss, metrics, samples a second, time to go."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.terminal = Terminal(stream or sys.stderr)
        self.full, self.empty = tuple(self.terminal.glyphs("━─", "=-"))
        self.open_line = False

    def on_epoch_begin(self, epoch: int) -> None:
        self.epoch = epoch
        self.began = self.shown = time.perf_counter()

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        now = time.perf_counter()
        if not self.terminal.is_terminal or now - self.shown < INTERVAL:
            return
        self.shown = now
        share, spent = batch / self.plan.batches, now - self.began
        counted = f"{batch:>{len(str(self.plan.batches))}}/{self.plan.batches}"
        left = f"ETA {_clock(spent / share - spent)}"
        rate = f"{share * self.plan.samples / spent:,.0f}/s"
        self._line([counted, left, *_numbers(logs), rate], share)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        spent = time.perf_counter() - self.began
        self._line([*_numbers(logs), _duration(spent)])

    def on_train_end(self) -> None:
        if self.open_line:  # cut off in the middle of an epoch
            self.terminal.write("\n")

    def _line(self, facts: list[str], share: float | None = None) -> None:
        """Writes the epoch's line, in a terminal over the one before and not wider than it is.

        With ``share`` it begins with a bar and stays open; facts that do not fit are left out.
        """
        paint = self.terminal.paint
        head = f"epoch {self.epoch:>{len(str(self.plan.epochs))}}/{self.plan.epochs}  "
        least = 0 if share is None else BAR[0] + 2
        room = self.terminal.columns - 1 - len(head) - least
        while self.terminal.is_terminal and len("  ".join(facts)) > room and len(facts) > 1:
            facts = facts[:-1]
        text = "  ".join(facts)
        if share is not None:
            width = min(max(room - len(text), 0) + BAR[0], BAR[1])
            done = round(share * width)
            bar = paint(self.full * done, "green") + paint(self.empty * (width - done), "dim")
            text = f"{bar}  {text}"
        start = "\r\033[K" if self.terminal.is_terminal else ""
        end = "\n" if share is None else ""
        self.terminal.write(start + paint(head, "bold") + text + end)
        self.open_line = share is not None


def _numbers(logs: Logs) -> list[str]:
    """Four decimals, which stay in place from line to line, where they say enough."""
    return [
        f"{name} {value:.4f}" if 0.01 <= abs(value) < 1000 else f"{name} {value:.3g}"
        for name, value in logs.items()
    ]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)
