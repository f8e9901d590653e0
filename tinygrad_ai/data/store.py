"""Where the files of a data set are: ``TINYGRAD_AI_DATA``, the cache folder, or the network.

A file is read by one function, given here as ``parse``, and a download is accepted only if that
function accepts it: nothing is kept that could not be read later.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tinygrad_ai import config
from tinygrad_ai.data.download import download
from tinygrad_ai.errors import DataError

T = TypeVar("T")
BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Remote:
    """One file of a data set: its name, the addresses to try in turn, and its checksum.

    ``checksum`` is ``"md5:…"`` or ``"sha256:…"`` of the file, or ``"content-sha256:…"`` of what it
    holds when decompressed (several gzip files hold the same content).
    """

    name: str
    addresses: tuple[str, ...]
    checksum: str

    def verify(self, raw: bytes, content: bytes) -> None:
        """Raises DataError unless the checksum is right; ``content`` is ``raw`` decompressed."""
        kind, _, expected = self.checksum.partition(":")
        algorithm = kind.removeprefix("content-")
        found = hashlib.new(
            algorithm, raw if kind == algorithm else content, usedforsecurity=False
        ).hexdigest()
        if found != expected:
            raise DataError(f"wrong checksum: {kind} is {found}, not {expected}")


def cached(collection: str) -> Path:
    """The folder in which downloads of ``collection`` are kept; it may not exist yet."""
    return config.cache_folder() / "data" / collection


def locate(collection: str, *names: str) -> Path | None:
    """The folder that holds every file named: in ``TINYGRAD_AI_DATA``, or the cache; else None.

    Raises DataError where ``TINYGRAD_AI_DATA`` names what is no folder.
    """
    named = config.data_folder()
    if named and not named.is_dir():
        state = "is a file, not a folder" if named.exists() else "does not exist"
        raise DataError(f"TINYGRAD_AI_DATA names {named}, which {state}")
    folders = [*([named / collection] if named else []), cached(collection)]
    return next((f for f in folders if all((f / name).is_file() for name in names)), None)


def obtain(
    collection: str, remotes: Sequence[Remote], parse: Callable[[Remote, Path], T]
) -> list[T]:
    """``parse(remote, path)`` of every file, downloaded to the cache folder where it is missing.

    ``parse`` raises DataError with the reason alone; the one that leaves here names the file, and
    says how to mend it. Without a network it says which files to put where.
    """
    parsed = []
    for remote in remotes:
        folder = locate(collection, remote.name)
        if folder:
            parsed.append(read(folder / remote.name, partial(parse, remote)))
            continue
        try:
            target = cached(collection) / remote.name
            parsed.append(download(remote.addresses, target, partial(parse, remote)))
        except DataError as error:
            raise _missing(collection, remotes, error) from None
    return parsed


def read(path: Path, parse: Callable[[Path], T]) -> T:
    """``parse(path)``; what is wrong with the file becomes a DataError that names it."""
    try:
        return parse(path)
    except (DataError, OSError) as error:
        ours = path.is_relative_to(config.cache_folder())
        mend = "delete it, and it is fetched again" if ours else "replace it with a whole copy"
        raise DataError(f"{path}: {error}", f"   help: {mend}") from None


def unpack(raw: bytes) -> bytes:
    """The content of a gzip file; raises DataError with the reason alone."""
    try:
        return gzip.decompress(raw)
    except EOFError:
        raise DataError("truncated gzip file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"not a whole gzip file: {error}") from None


def _missing(collection: str, remotes: Sequence[Remote], error: DataError) -> DataError:
    absent = [r.name for r in remotes if locate(collection, r.name) is None]
    return DataError(
        f"{collection} is not on this machine, and not to be had: {error}",
        *getattr(error, "__notes__", ()),
        f"   help: without a network, put {', '.join(absent)} into {cached(collection)}, or "
        f"into a folder {collection}/ inside the one that TINYGRAD_AI_DATA names",
    )
