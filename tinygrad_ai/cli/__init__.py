"""The command ``tinygrad-ai``. This module imports nothing heavy: see :func:`main`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (``sys.argv`` by default) and returns the exit status.

    BLAS gets one thread unless the user set a number: products as small as a digit classifier's
    wait for a second thread more than it works, and the number decides how sums are rounded. NumPy
    reads it when it is imported, which therefore happens here.
    """
    if "numpy" not in sys.modules and not any(name in os.environ for name in THREADS):
        os.environ |= dict.fromkeys(THREADS, "1")
    try:
        from tinygrad_ai.cli.command import run  # noqa: PLC0415 - NumPy comes with it, see above

        return run(argv)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("tinygrad-ai: interrupted\n")
        return INTERRUPTED
