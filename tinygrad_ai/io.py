"""Model and state files: safetensors, which hold arrays and text and can run no code.

A file holds every array under its dotted name, so that other tools can read it, and one JSON entry
with the structure that ``load`` gives back: nested dicts, lists, tuples, numbers, strings.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai import dtypes
from tinygrad_ai.errors import DataError, DTypeError, ValueRangeError
from tinygrad_ai.files import atomic_write, check_writable

__all__ = ["atomic_write", "load", "read_metadata", "save"]

RECORD = "tinygrad_ai"  # the metadata entry that is ours

FOREIGN = {
    b"PK": "a zip archive (a PyTorch checkpoint or an .npz file?)",
    b"\x80": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x1f\x8b": "a gzip file",
    b"<": "an HTML or XML page",
    b"{": "JSON text",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


def check_savable(path: str | os.PathLike[str]) -> None:
    """Raises now the DataError that :func:`save` would raise after a long training."""
    _safetensors(".numpy")
    check_writable(path)


def save(
    module_or_dict: Any,
    path: str | os.PathLike[str],
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes a module's ``state_dict()`` or a dict to a safetensors file, whole or not at all.

    A dict may nest dicts, lists, tuples and whatever has a ``state_dict()``; its leaves are tensors
    and arrays (any real dtype of ``tinygrad_ai.dtypes``, any shape, any layout), numbers, strings,
    booleans and None. An array's name in the file is the path to it, joined by dots:
    ``{"model": {"w": x}}`` holds ``model.w``.
    ``metadata`` is free information for :func:`read_metadata`, of JSON values.

    Equal contents give equal bytes.

    Raises DTypeError for a leaf that cannot be stored, ValueRangeError where two arrays would have
    one name or one is called ``__metadata__``, DataError where the file cannot be written or
    safetensors is not installed.
    """
    numpy_format = _safetensors(".numpy")
    _check_path("save", path)
    if not isinstance(module_or_dict, dict) and not hasattr(module_or_dict, "state_dict"):
        raise DTypeError(
            f"save takes a module or a dict, not {type(module_or_dict).__name__}",
            '   help: save({"x": x}, path) stores one array',
        )
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    structure = _encode(module_or_dict, "", arrays)
    record = {"structure": structure, "metadata": dict(metadata or {})}
    try:  # one entry, because safetensors writes several in a random order
        text = json.dumps(record, sort_keys=True)
    except TypeError as error:
        raise DTypeError(f"metadata must hold JSON values: {error}") from None
    with atomic_write(path) as temporary:
        temporary.write_bytes(numpy_format.save(arrays, {RECORD: text}))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`save` was given: a module's flat state dict, or the nested dict; NumPy arrays.

    A safetensors file of another program gives its arrays under their names. Raises DataError where
    the file is missing, truncated, or of another kind, and says what was found.
    """
    arrays, texts = _read(path, with_arrays=True)
    if RECORD not in texts:
        return arrays
    return _understood(path, lambda: _decode(json.loads(texts[RECORD])["structure"], arrays))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``metadata`` given to :func:`save` (or a foreign file's), without reading the arrays.

    Raises DataError as :func:`load` does.
    """
    _, texts = _read(path, with_arrays=False)
    record = texts.pop(RECORD, '{"metadata": {}}')
    return _understood(path, lambda: texts | json.loads(record)["metadata"])


def _safetensors(submodule: str = "") -> Any:
    try:
        return importlib.import_module(f"safetensors{submodule}")
    except ImportError as error:
        raise DataError(
            f"model files need the package safetensors: {error}",
            "   help: pip install 'tinygrad_ai[files]'",
        ) from None


def _check_path(caller: str, path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise DTypeError(f"{caller}: path must be a string or a Path, not {path!r}")


def _encode(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """``value`` as JSON, its arrays put into ``arrays``; a container is ``{kind: content}``."""
    if hasattr(value, "state_dict"):
        value = value.state_dict()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        if bad := [key for key in value if not isinstance(key, str | int)]:
            raise DTypeError(f"{name or 'the dict'} has the key {bad[0]!r}: not a string or an int")
        return {"dict": [[k, _encode(v, _join(name, k), arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, _join(name, i), arrays) for i, v in enumerate(value)]}
    if name in arrays:
        raise ValueRangeError(
            f"two arrays would have the name {name!r} in the file",
            "   help: rename one of the keys; nested keys are joined by dots",
        )
    if name == "__metadata__":
        raise ValueRangeError(f"an array cannot be named {name!r}: the file format uses that name")
    arrays[name] = _array(value, name)
    return {"array": name}


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A Tensor or array as an array in C order, which is what the format holds."""
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value, order="C")
    try:
        dtypes.check(array.dtype)
    except DTypeError as error:
        raise DTypeError(f"{name}: cannot save a {type(value).__name__}: {error}") from None
    return array


def _decode(encoded: Any, arrays: dict[str, Any]) -> Any:
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: _decode(value, arrays) for key, value in content}
    return {"list": list, "tuple": tuple}[kind](_decode(value, arrays) for value in content)


def _read(
    path: str | os.PathLike[str], with_arrays: bool
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The arrays (only where asked for) and the text entries of a safetensors file."""
    library = _safetensors()
    _check_path("load", path)
    try:
        with library.safe_open(os.fspath(path), framework="np") as file:
            texts = dict(file.metadata() or {})
            names = file.keys() if with_arrays else ()
            arrays = {name: file.get_tensor(name) for name in names}
        for array in arrays.values():
            dtypes.check(array.dtype)
        return arrays, texts
    except OSError as error:
        raise DataError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from None
    except library.SafetensorError as error:
        raise DataError(
            f"{os.fspath(path)} is not a whole safetensors file: {_found(Path(path))}",
            f"   found by safetensors: {error}",
        ) from None
    except (TypeError, AttributeError) as error:  # the library's or ours, for bfloat16, float8
        raise DataError(
            f"{os.fspath(path)} holds a dtype that NumPy does not have: {error}",
            "   help: convert the file to float32 where it was made",
        ) from None


def _found(path: Path) -> str:
    """What the first bytes and the size say about a file that is not what it should be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    if size == 0:
        return "it is empty"
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{":
        return f"it looks truncated or damaged: {size} bytes, of which {length} should be header"
    for prefix, kind in FOREIGN.items():
        if start.startswith(prefix):
            return f"it looks like {kind}"
    return f"{size} bytes that start with {start[:8]!r}"


def _understood(path: str | os.PathLike[str], read: Any) -> Any:
    """``read()``, where a damaged structure entry is reported as a DataError."""
    try:
        return read()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{os.fspath(path)}: the entry {RECORD!r} in its metadata is damaged: {error!r}"
        ) from None
