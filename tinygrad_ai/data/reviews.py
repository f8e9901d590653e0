"""Film reviews with their verdict: Rotten Tomatoes sentences (bundled) and IMDB."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai.data import store
from tinygrad_ai.data.store import Remote
from tinygrad_ai.errors import DataError
from tinygrad_ai.files import atomic_write, make_folder

Reviews: TypeAlias = tuple[list[str], np.ndarray[Any, Any]]

IMDB = Remote(
    "aclImdb_v1.tar.gz",
    ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
    "sha256:c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
TABLES = {"train": "imdb_train.tsv.gz", "test": "imdb_test.tsv.gz"}
MEMBER = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt")


def rotten_tomatoes() -> Reviews:
    """8,530 sentences of film reviews (Pang and Lee 2005): ``(texts, labels)``.

    Returns a list of strings and int64 labels of shape (N,), 0 negative, 1 positive; in one fixed
    shuffled order, because a file that holds one label after the other has a one-sided tail.
    """
    return store.read(store.BUNDLED / "rt_polarity_8530.tsv.gz", _table)


def imdb() -> tuple[Reviews, Reviews]:
    """IMDB reviews (Maas et al. 2011): ``((texts, labels), (texts, labels))``, train and test.

    Each of the form and the fixed shuffled order of :func:`rotten_tomatoes`. Reviews of one film
    never stand in both train and test, but do stand side by side in a part split off train.

    The two tables ``label<TAB>text`` come from ``TINYGRAD_AI_DATA``/imdb or the cache folder;
    otherwise they are made, in the cache folder, from the original ``aclImdb_v1.tar.gz`` (25,000
    and 25,000 reviews, 84 MB), found there or downloaded. Raises DataError where a file is damaged
    or cannot be had.
    """
    folder = store.locate("imdb", *TABLES.values())
    if folder is None:
        (tables,) = store.obtain("imdb", [IMDB], _unpacked)
        folder = store.cached("imdb")
        make_folder(folder)
        for split, content in tables.items():
            with atomic_write(folder / TABLES[split]) as temporary:
                temporary.write_bytes(content)
    train, test = (store.read(folder / name, _table) for name in TABLES.values())
    return train, test


def _table(path: Path) -> Reviews:
    """``label<TAB>text`` lines. Only a line feed ends a line: reviews may hold U+0085."""
    try:
        lines = store.unpack(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error}") from None
    for number, line in enumerate(lines, 1):
        if line[:2] not in ("0\t", "1\t"):
            raise DataError(f"line {number} is not label<TAB>text: {line[:40]!r}")
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(lines)).tolist()
    labels = np.array([lines[i][0] == "1" for i in order], np.int64)
    return [lines[i][2:] for i in order], labels


def _unpacked(remote: Remote, path: Path) -> dict[str, bytes]:
    """The two tables of the archive. It is read as a stream; nothing is extracted to disk.

    Raises DataError with the reason alone where the archive is damaged or is another one.
    """
    import tarfile  # noqa: PLC0415  (heavy, and needed once)

    remote.verify(path.read_bytes(), b"")
    rows: dict[str, list[str]] = {split: [] for split in TABLES}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                found = MEMBER.fullmatch(member.name) if member.isfile() else None
                file = archive.extractfile(member) if found else None
                if found and file:
                    text = file.read().decode("utf-8").replace("\n", " ")
                    rows[found[1]].append(f"{int(found[2] == 'pos')}\t{text}\n")
    except (tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"not a whole archive: {error}") from None
    if not all(rows.values()):
        raise DataError("no reviews in it (aclImdb/train/pos/0_9.txt…)")
    return {s: gzip.compress("".join(lines).encode("utf-8"), mtime=0) for s, lines in rows.items()}
