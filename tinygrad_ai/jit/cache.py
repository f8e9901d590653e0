"""Compiled kernels in memory and on disk, by what they were made of.

A file holds the SHA-256 of the object code and the code. Its name is the digest of the kernel's
key, of this package's own emitters, of llvmlite's version and of the CPU, so nothing stale is
found; a file that is not whole is compiled again. Files are written to a temporary name and
renamed: of two processes that write the same, the last one wins. Where nothing can be written a
warning says so, once, and every process compiles for itself.
"""

from __future__ import annotations

import gc
import hashlib
import os
import secrets
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from tinygrad_ai import kernels
from tinygrad_ai.config import cache_folder
from tinygrad_ai.kernels.cpu.machine import Native, machine_code
from tinygrad_ai.kernels.cpu.simd import KERNEL, host_bytes, host_features

_loaded: dict[str, Native] = {}
_warned = False


def compiled(key: str, source: Callable[[], str]) -> Native:
    """The kernel called ``kernel`` in the LLVM IR that ``source()`` gives, found by ``key``.

    ``key`` must tell all kernels of different code apart.
    """
    digest = _digest(key)
    found = _loaded.get(digest)
    if found is None:
        found = _loaded[digest] = Native(_code(digest, source), "kernel", len(KERNEL.args))
    return found


def object_code(source: str) -> bytes:
    """The host's object code of LLVM IR."""
    return _code(_digest(source), lambda: source)


def _digest(key: str) -> str:
    return hashlib.sha256(f"{_surroundings()}\n{key}".encode()).hexdigest()


def _code(digest: str, source: Callable[[], str]) -> bytes:
    """What the file of that name holds; compiled, and written to it, if there is none."""
    path = cache_folder() / "kernels" / f"{digest}.o"
    code = _read(path)
    if code is None:
        code = machine_code(source())
        gc.collect(0)  # what stands for LLVM IR in Python are cycles
        _write(path, code)
    return code


@cache
def _surroundings() -> str:
    """What else the code depends on: the emitters, the compiler, the CPU."""
    emitters = hashlib.sha256()
    for folder in (*kernels.__path__, Path(__file__).parent):
        for path in sorted(Path(folder).rglob("*.py")):
            emitters.update(path.read_bytes())
    vectors = f"{host_bytes()} {host_features()}"
    cpu = f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {vectors}"
    return f"{emitters.hexdigest()} llvmlite {llvmlite.__version__} {cpu}"


def _read(path: Path) -> bytes | None:
    """The code in a file; None where there is none, or it is not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    global _warned
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        if not _warned:
            _warned = True
            warnings.warn(
                f"compiled kernels cannot be kept in {path.parent} ({error.strerror or error}): "
                "every process compiles for itself; TINYGRAD_AI_CACHE names another folder",
                stacklevel=2,
            )
