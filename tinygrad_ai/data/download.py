"""Downloads: several addresses in turn, a time-out, progress on stderr, nothing half-written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from tinygrad_ai.errors import DataError
from tinygrad_ai.files import atomic_write, make_folder

T = TypeVar("T")
TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 18


def download(
    addresses: Sequence[str], target: Path, accept: Callable[[Path], T], timeout: float = TIMEOUT
) -> T:
    """Fetches ``target`` from the first address that sends it whole and that ``accept`` takes.

    ``accept(path)`` raises DataError where the content is wrong; its result is returned. When every
    address fails, nothing is left behind and one DataError lists what each of them answered, a note
    a line. ``timeout`` is in seconds and counts from the last byte received.
    """
    make_folder(target.parent)
    failures = []
    for address in addresses:
        try:
            with atomic_write(target) as temporary:
                with temporary.open("wb") as file:
                    _fetch(address, file, timeout)
                accepted = accept(temporary)
            return accepted
        except (DataError, OSError) as error:
            failures.append(f"   {address}: {error or type(error).__name__}")
    raise DataError(f"no address sent {target.name}", *failures)


def _fetch(address: str, file: BinaryIO, timeout: float) -> None:
    """Copies the answer to ``file``; raises DataError where fewer bytes come than were announced.

    ``HTTPResponse.read(n)`` itself takes a connection that closes early for the end of the body.
    """
    # heavy, and seldom needed
    import http.client  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            announced = answer.headers["Content-Length"]
            received = 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                received += len(chunk)
                _progress(address, received, announced, end="\r")
    except http.client.HTTPException as error:
        raise DataError(str(error) or type(error).__name__) from None
    _progress(address, received, announced, end="\n")
    if announced and received != int(announced):
        raise DataError(f"only {received} of {announced} bytes came")


def _progress(address: str, received: int, announced: str | None, end: str) -> None:
    """One line on stderr, kept up to date on a terminal, written once elsewhere."""
    if end == "\n" or sys.stderr.isatty():
        total = f" of {int(announced) / 1e6:.1f}" if announced else ""
        print(f"{address}  {received / 1e6:.1f}{total} MB", end=end, file=sys.stderr, flush=True)
