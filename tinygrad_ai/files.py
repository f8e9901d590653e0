"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinygrad_ai.errors import DataError

# What a disk answers; other errors inside the block, such as a network's, are not about the file.
DISK = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS")}


class _Tried(Exception):
    """Ends the trial of :func:`check_writable`."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` when the block ends well.

    When the block raises, the temporary file is removed and an older ``path`` stays as it was. A
    symbolic link is followed. The temporary name keeps the suffix, for writers that choose a format
    by it. Raises DataError where the folder is missing or cannot be written, where ``path`` is a
    folder, and where the disk is full.

    >>> with atomic_write("history.csv") as temporary:
    ...     temporary.write_text("epoch,loss")
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
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
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises now the DataError that :func:`atomic_write` would raise later."""
    with suppress(_Tried), atomic_write(path):
        raise _Tried


def make_folder(path: Path) -> None:
    """The folder and those above it, where they are missing; raises DataError where it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot create the folder {path}: {error.strerror or error}") from None


def _unwritable(path: str | os.PathLike[str], error: OSError) -> DataError:
    folder = Path(path).resolve().parent
    if isinstance(error, IsADirectoryError):
        mend = "remove that folder, or choose another name"
    elif error.errno in DISK:
        mend = f"make room on the disk of {folder}, or choose another one"
    elif not folder.exists():
        mend = f"create the folder {folder}"
    else:
        mend = "choose a folder you may write to"
    reason = error.strerror or str(error)
    return DataError(f"cannot write {os.fspath(path)}: {reason}", f"   help: {mend}")
