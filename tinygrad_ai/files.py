"""Files are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinygrad_ai.errors import DataError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` when the block ends well.

    When the block raises, the temporary file is removed and an older ``path`` stays as it was. A
    symbolic link is followed. The temporary name keeps the suffix, for writers that choose a format
    by it. Raises DataError where the folder is missing or cannot be written.

    >>> with atomic_write("history.csv") as temporary:
    ...     temporary.write_text("epoch,loss")
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield temporary
        with temporary.open("rb+") as written:  # on disk before the old file goes
            os.fsync(written.fileno())
        try:
            temporary.replace(target)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """The folder and those above it, where they are missing; raises DataError where it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot create the folder {path}: {error.strerror or error}") from None


def _unwritable(path: str | os.PathLike[str], error: OSError) -> DataError:
    return DataError(
        f"cannot write {os.fspath(path)}: {error.strerror or error}",
        f"   help: create the folder {Path(path).resolve().parent} or choose one you may write to",
    )
