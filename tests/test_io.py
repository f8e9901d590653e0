"""Model files: what goes in comes out, and a file that is something else says so."""

import os
import stat
import sys

import numpy as np
import pytest
import safetensors.numpy as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_ai import io
from tinygrad_ai.errors import DataError, DTypeError, ValueRangeError

REAL = [np.float16, np.float32, np.float64, np.bool_]
REAL += [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]

arrays = st.sampled_from(REAL).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
keys = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1)
leaves = st.one_of(
    arrays,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8")),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=3),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


class Boxed:
    """The least a Tensor offers to be saved."""

    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


class Module:
    def __init__(self, **state):
        self.state = state

    def state_dict(self):
        return self.state


def same(a, b):
    """Equal in type and structure; arrays in dtype, shape and every bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    else:
        assert a == b or (a != a and b != b)


@given(st.dictionaries(keys, trees, max_size=4))
def test_round_trip(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("io") / "x.safetensors"
    io.save(tree, path)
    same(io.load(path), tree)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: x[:, ::2],
        lambda x: np.broadcast_to(x[0], (3, 5)),
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: x[1, 1],
        lambda x: x[:0],
    ],
)
def test_layouts(view, tmp_path):
    x = view(np.arange(35, dtype=np.float32).reshape(7, 5))
    io.save({"x": x, "boxed": Boxed(x)}, tmp_path / "f")
    for loaded in io.load(tmp_path / "f").values():
        np.testing.assert_array_equal(loaded, x)
        assert loaded.shape == x.shape and loaded.dtype == np.float32 and loaded.flags.writeable


def test_modules_and_other_programs(tmp_path):
    """A state dict comes back flat; the names in the file are what other programs expect."""
    w, b = np.ones((2, 3), np.float32), np.zeros(3, np.float64)
    module = Module(**{"fc1.weight": Boxed(w), "fc1.bias": Boxed(b)})
    io.save(module, tmp_path / "module")
    same(io.load(tmp_path / "module"), {"fc1.weight": w, "fc1.bias": b})
    assert set(reference.load_file(tmp_path / "module")) == {"fc1.weight", "fc1.bias"}

    state = {
        "model": module,
        "optimizer": {"state": {0: {"m": w}}, "lr": 0.1, "betas": (0.9, 0.99)},
    }
    io.save(state, tmp_path / "both")
    names = {"model.fc1.weight", "model.fc1.bias", "optimizer.state.0.m"}
    assert set(reference.load_file(tmp_path / "both")) == names
    loaded = io.load(tmp_path / "both")
    same(loaded["optimizer"], state["optimizer"])
    same(loaded["model"]["fc1.weight"], w)

    reference.save_file({"a.b": w}, tmp_path / "foreign", {"format": "pt"})
    same(io.load(tmp_path / "foreign"), {"a.b": w})
    assert io.read_metadata(tmp_path / "foreign") == {"format": "pt"}


def test_numbers_survive(tmp_path):
    state = {
        "step": 2**127 + 1,
        "nan": float("nan"),
        "inf": -np.inf,
        "eps": 1e-300,
        "np": np.int8(3),
    }
    io.save(state, tmp_path / "f")
    loaded = io.load(tmp_path / "f")
    assert loaded["step"] == 2**127 + 1 and loaded["inf"] == -np.inf and loaded["eps"] == 1e-300
    assert np.isnan(loaded["nan"]) and loaded["np"].dtype == np.int8 and loaded["np"].shape == ()
    io.save({"x": np.float64(0.1)}, tmp_path / "f")
    assert io.load(tmp_path / "f") == {"x": 0.1}


def test_metadata(tmp_path):
    metadata = {"program": "mnist-mlp", "epochs": 3, "history": [0.5, None], "tinygrad_ai": "mine"}
    io.save({}, tmp_path / "f", metadata=metadata)
    assert io.read_metadata(tmp_path / "f") == metadata and io.load(tmp_path / "f") == {}
    io.save({"x": np.ones(2)}, tmp_path / "f")
    assert io.read_metadata(tmp_path / "f") == {}


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.ones(2), DTypeError, "takes a module or a dict, not ndarray"),
        ({"a": {"x": object()}}, DTypeError, "a.x: cannot save a object"),
        ({"x": np.ones(2, complex)}, DTypeError, "x: cannot save a ndarray: dtype complex128"),
        ({"x": np.array(["a"])}, DTypeError, "dtype <U1 is not supported"),
        ({(1, 2): np.ones(1)}, DTypeError, r"the dict has the key \(1, 2\)"),
        ({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, ValueRangeError, "the name 'a.b'"),
        ({"__metadata__": np.ones(1)}, ValueRangeError, "cannot be named '__metadata__'"),
    ],
)
def test_what_cannot_be_saved(state, error, message, tmp_path):
    with pytest.raises(error, match=message):
        io.save(state, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_is_no_json(tmp_path):
    with pytest.raises(DTypeError, match="metadata must hold JSON values"):
        io.save({}, tmp_path / "f", metadata={"x": object()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + b"\0" * 40, "looks like a zip archive"),
        (b"\x80\x02}q\x00.", "looks like a pickle"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 8, "looks like an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "looks like a NumPy .npy file"),
        (b"<!DOCTYPE html><html></html>", "looks like an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1", "looks like a Git LFS pointer"),
        (b"hello", r"5 bytes that start with b'hello'"),
    ],
)
def test_a_foreign_file_says_what_it_is(content, message, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(content)
    for read in (io.load, io.read_metadata):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_never_loaded(tmp_path_factory, part):
    path = tmp_path_factory.mktemp("io") / "model"
    io.save({"x": np.arange(50), "n": 3}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        io.load(path)


def test_missing_files_dtypes_and_damaged_structure(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*nowhere: No such file"):
        io.load(tmp_path / "nowhere")
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "bf16").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f")
    with pytest.raises(DataError, match="dtype that NumPy does not have"):
        io.load(tmp_path / "bf16")
    for record in ("{", "[]", "{}", '{"structure": {"array": "x"}}', '{"structure": {"a": 1}}'):
        reference.save_file({}, tmp_path / "f", {"tinygrad_ai": record})
        with pytest.raises(DataError, match="metadata is damaged"):
            io.load(tmp_path / "f")


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: io.save({}, tmp_path / "f"), lambda: io.load(tmp_path / "f")):
        with pytest.raises(DataError, match="need the package safetensors") as caught:
            call()
        assert "pip install 'tinygrad_ai[files]'" in caught.value.__notes__[0]


# atomic_write


def test_atomic_write_replaces_only_on_success(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), io.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with io.atomic_write(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".csv" and temporary != path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    io.save({"x": np.ones(3)}, tmp_path / "f")

    def disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(DataError, match=r"cannot write .*f: No space left") as caught:
        io.save({"x": np.zeros(3)}, tmp_path / "f")
    assert "make room" in caught.value.__notes__[0]
    assert io.load(tmp_path / "f")["x"].sum() == 3 and len(list(tmp_path.iterdir())) == 1


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(DataError, match=r"cannot write .*nowhere.f: No such file") as caught:
        io.save({}, tmp_path / "nowhere" / "f")
    assert "create the folder" in caught.value.__notes__[0]
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"cannot write .*folder: Is a directory"):
        io.save({}, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and links")
def test_modes_and_links(tmp_path):
    """A file gets the user's ordinary mode, and a link stays a link."""
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    io.save({"n": 1}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and io.load(tmp_path / "target") == {"n": 1}
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "target")}
    assert len(modes) == 1


def test_equal_contents_are_equal_bytes(tmp_path):
    metadata = {f"key{i}": f"text {i}" for i in range(8)}
    backwards = dict(reversed(metadata.items()))
    for name, each in (("a", metadata), ("b", metadata), ("c", backwards)):
        io.save({"x": np.ones(3), "y": np.zeros(2)}, tmp_path / name, each)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    assert io.read_metadata(tmp_path / "a") == metadata


@pytest.mark.parametrize("path", [None, 3, b"f"])
def test_a_path_of_another_kind(path):
    for call in (lambda: io.load(path), lambda: io.save({}, path)):
        with pytest.raises(DTypeError, match=f"path must be a string or a Path, not {path!r}"):
            call()


def test_what_a_disk_answers_names_the_file_and_what_a_network_answers_does_not(tmp_path):
    with (
        pytest.raises(DataError, match=r"cannot write .*f: No space"),
        io.atomic_write(tmp_path / "f"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(ConnectionError), io.atomic_write(tmp_path / "f"):
        raise ConnectionResetError(104, "Connection reset by peer")
    assert list(tmp_path.iterdir()) == []


def test_a_trial_of_a_file_leaves_nothing_and_changes_nothing(tmp_path):
    io.check_savable(tmp_path / "new")
    (tmp_path / "old").write_text("old")
    io.check_savable(tmp_path / "old")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("old", "old")]
