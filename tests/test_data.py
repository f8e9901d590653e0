"""Data sets: the IDX reader, the bundled files, where full sets come from, and downloads."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_ai import data
from tinygrad_ai.data import digits, idx, reviews, store
from tinygrad_ai.data.download import download
from tinygrad_ai.data.store import Remote
from tinygrad_ai.errors import DataError, ValueRangeError

full = pytest.mark.skipif(not os.environ.get("TINYGRAD_AI_DATA"), reason="no full data sets here")
CODES = {np.dtype(dtype): code for code, dtype in idx.TYPES.items()}


def idx_bytes(array):
    """An independent writer of the format."""
    stored = array.dtype.newbyteorder(">")
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, CODES[stored], array.ndim]) + sizes + array.astype(stored).tobytes()


@pytest.fixture(autouse=True)
def folders(request, tmp_path, monkeypatch):
    """No test sees this machine's cache folder or, but for the full sets, its data folder."""
    monkeypatch.setenv("TINYGRAD_AI_CACHE", str(tmp_path / "cache"))
    if "full" not in request.node.name:
        monkeypatch.delenv("TINYGRAD_AI_DATA", raising=False)


@pytest.fixture
def server(monkeypatch):
    """A web server: ``pages[path] = body`` or a function that answers with the handler."""
    pages = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path)
            if callable(page):
                page(self)
            elif page is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    running.pages = pages
    running.base = f"http://127.0.0.1:{running.server_port}/"
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def digest(content):
    return "content-sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def tiny(rng):
    """The content of the four files of a tiny image set: 7 pictures and 3 for testing."""
    contents = []
    for count in (7, 3):
        contents.append(idx_bytes(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)))
        contents.append(idx_bytes(rng.integers(0, 10, count, dtype=np.uint8)))
    return contents


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def install(folder, remotes, contents):
    folder.mkdir(parents=True)
    for remote, content in zip(remotes, contents, strict=True):
        (folder / remote.name).write_bytes(gzip.compress(content))


# IDX


@given(
    st.data(),
    st.sampled_from(sorted(CODES, key=str)),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
def test_idx_reads_what_was_written(draw, dtype, shape):
    array = draw.draw(hnp.arrays(dtype.newbyteorder("="), shape))
    read = idx.parse(idx_bytes(array))
    assert read.shape == array.shape and read.dtype == array.dtype and read.dtype.isnative
    assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"", "starts with nothing"),
        (lambda c: b"\x89PNG" + c, "starts with 89 50 4e 47"),
        (lambda c: c[:2] + b"\x07" + c[3:], "starts with 00 00 07 02"),
        (lambda c: c[:9], "header cut short: 9 bytes of 12"),
        (lambda c: c[:-1], r"\(2, 3\) needs 18 bytes, here are 17"),
        (lambda c: c + b"\0", r"\(2, 3\) needs 18 bytes, here are 19"),
    ],
)
def test_idx_says_what_is_wrong(damage, message):
    with pytest.raises(DataError, match=message):
        idx.parse(damage(idx_bytes(np.ones((2, 3), np.uint8))))


# bundled


def test_mnist_small():
    (x, y), (x_test, y_test) = data.mnist_small()
    assert x.shape == (10_000, 28, 28) and x_test.shape == (2_000, 28, 28)
    assert x.dtype == x_test.dtype == np.float32 and y.dtype == y_test.dtype == np.int64
    assert x.min() == 0 and x.max() == 1
    raw = gzip.decompress((store.BUNDLED / "mnist12k-train-images.idx.gz").read_bytes())[16:]
    np.testing.assert_array_equal(x.reshape(-1) * np.float32(255), np.frombuffer(raw, np.uint8))
    for labels in (y, y_test):  # stratified: every digit has about a tenth
        assert np.all(np.abs(np.bincount(labels, minlength=10) / len(labels) - 0.1) < 0.02)
    x[:] = 7  # a caller's own
    assert data.mnist_small()[0][0].max() == 1


def test_rotten_tomatoes():
    texts, labels = data.rotten_tomatoes()
    assert len(texts) == 8530 and labels.shape == (8530,) and labels.dtype == np.int64
    assert labels.sum() == 4265 and 0.4 < labels[-853:].mean() < 0.6
    raw = gzip.decompress((store.BUNDLED / "rt_polarity_8530.tsv.gz").read_bytes()).decode()
    rows = [f"{label}\t{text}" for text, label in zip(texts, labels, strict=True)]
    assert sorted(rows) == sorted(raw.split("\n")[:-1])
    assert data.rotten_tomatoes()[0] == texts


def test_shakespeare_validation_is_the_tail_of_every_play():
    text, train, validation = (data.shakespeare(split) for split in ("all", "train", "validation"))
    assert len(text) == 1_036_491 == len(train) + len(validation) and len(set(text)) == 76
    assert data.shakespeare() == train
    titles = text.split("\n\nby William Shakespeare\n")
    starts = [text.index(part.rsplit("\n", 1)[-1] + "\n\nby William") for part in titles[:-1]]
    plays = [text[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    assert len(plays) == 8 and "".join(plays) == text
    for play in plays:
        tail = play[-(len(play) // 10) :]
        assert tail in validation and tail not in train and play[: -len(tail)] in train
    with pytest.raises(ValueRangeError, match="split 'test' is none of train, validation, all"):
        data.shakespeare("test")


def test_photo(monkeypatch):
    cat = data.photo()
    assert cat.shape == (213, 320, 3) and cat.dtype == np.uint8 and cat.flags.writeable
    for name in ("astronaut", "coffee", "hubble_deep_field", "rocket"):
        picture = data.photo(name)
        assert picture.shape[1:] == (320, 3) and picture.std() > 10
    with pytest.raises(ValueRangeError, match="no picture 'dog'; there are astronaut, chelsea"):
        data.photo("dog")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="Pillow") as caught:
        data.photo()
    assert "pip install 'tinygrad_ai[plot]'" in caught.value.__notes__[0]


# full sets on this machine


@pytest.mark.parametrize("where", ["named", "cached"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_image_sets_are_found(where, name, tiny, tmp_path, monkeypatch):
    remotes = getattr(digits, name.upper())
    remotes = [Remote(r.name, (), digest(c)) for r, c in zip(remotes, tiny, strict=True)]
    monkeypatch.setattr(digits, name.upper(), remotes)
    if where == "named":
        monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "named"))
        install(tmp_path / "named" / name, remotes, tiny)
    else:
        install(tmp_path / "cache" / "data" / name, remotes, tiny)
    (x, y), (x_test, y_test) = getattr(data, name)()
    assert x.shape == (7, 28, 28) and y.shape == (7,)
    assert x_test.shape == (3, 28, 28) and y_test.shape == (3,)
    np.testing.assert_array_equal(y_test, np.frombuffer(tiny[3][8:], np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: gzip.compress(c)[:-9], "truncated gzip file"),
        (lambda c: b"<html>moved</html>", "not a whole gzip file: Not a gzipped file"),
        (lambda c: gzip.compress(c)[:-8] + bytes(8), "not a whole gzip file: CRC check failed"),
        (lambda c: gzip.compress(b"\0\0\x0d" + c[3:]), "IDX data of shape .* needs"),
        (lambda c: gzip.compress(b"abcd" + c), "no IDX data: it starts with 61 62 63 64"),
        (lambda c: gzip.compress(c[:-1] + bytes([c[-1] ^ 1])), "content-sha256 is .*, not "),
    ],
)
def test_a_damaged_file_is_named(damage, message, tiny, tmp_path, monkeypatch):
    remotes = [Remote(r.name, (), digest(c)) for r, c in zip(digits.MNIST, tiny, strict=True)]
    monkeypatch.setattr(digits, "MNIST", remotes)
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "named"))
    install(tmp_path / "named" / "mnist", remotes, tiny)
    bad = tmp_path / "named" / "mnist" / "t10k-images-idx3-ubyte.gz"
    bad.write_bytes(damage(tiny[2]))
    with pytest.raises(DataError, match=message) as caught:
        data.mnist()
    assert str(caught.value).startswith(str(bad)) and "whole copy" in caught.value.__notes__[0]


def test_images_and_labels_that_do_not_fit(tiny, tmp_path, monkeypatch):
    tiny[1] = idx_bytes(np.zeros(6, np.uint8))
    remotes = [Remote(r.name, (), digest(c)) for r, c in zip(digits.MNIST, tiny, strict=True)]
    monkeypatch.setattr(digits, "MNIST", remotes)
    install(tmp_path / "cache" / "data" / "mnist", remotes, tiny)
    with pytest.raises(DataError, match=r"mnist, train: images uint8 \(7, 28, 28\) and labels"):
        data.mnist()


def test_a_data_folder_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"TINYGRAD_AI_DATA names .*typo, which does not exist"):
        data.mnist()


def test_a_data_folder_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"names .*file, which is a file, not a folder"):
        data.mnist()


def test_the_home_folder_in_a_data_folder(monkeypatch):
    monkeypatch.setenv("TINYGRAD_AI_DATA", "~/digits")
    with pytest.raises(DataError, match=rf"names {Path.home()}.digits"):
        data.mnist()


def test_remote_checksums():
    raw = gzip.compress(b"abc")
    Remote("a", (), "md5:" + hashlib.md5(raw).hexdigest()).verify(raw, b"abc")
    Remote("a", (), "sha256:" + hashlib.sha256(raw).hexdigest()).verify(raw, b"abc")
    Remote("a", (), digest(b"abc")).verify(b"other", b"abc")
    for checksum in ("md5:" + "0" * 32, "sha256:" + "0" * 64, digest(raw)):
        with pytest.raises(DataError, match="wrong checksum"):
            Remote("a", (), checksum).verify(raw, b"abc")


@full
def test_full_mnist():
    (x, y), (x_test, y_test) = data.mnist()
    assert x.shape == (60_000, 28, 28) and y.shape == (60_000,)
    assert x_test.shape == (10_000, 28, 28) and y_test.shape == (10_000,)
    assert y[:5].tolist() == [5, 0, 4, 1, 9] and abs(float(x.mean()) - 0.1307) < 1e-4


@full
def test_full_imdb():
    (texts, labels), (test_texts, test_labels) = data.imdb()
    assert (len(texts), len(test_texts)) == (len(labels), len(test_labels)) == (19_904, 5_000)
    assert labels.dtype == np.int64 and 0.45 < labels.mean() < 0.55 and test_labels.sum() == 2_500


# reviews


def table(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(gzip.compress(content))


def test_only_a_line_feed_ends_a_review(tmp_path):
    folder = tmp_path / "cache" / "data" / "imdb"
    table(folder, "imdb_train.tsv.gz", "1\tgood\x85film\r\u2028, yes\ttwice\n0\t\n".encode())
    table(folder, "imdb_test.tsv.gz", b"0\tbad")
    (texts, labels), test = data.imdb()
    assert sorted(zip(texts, labels.tolist(), strict=True)) == [
        ("", 0),
        ("good\x85film\r\u2028, yes\ttwice", 1),
    ]
    assert test[0] == ["bad"] and test[1].tolist() == [0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\tgood\n2\tbad\n", r"line 2 is not label<TAB>text: '2\\tbad'"),
        (b"", "line 1 is not label<TAB>text: ''"),
        (b"1\tcaf\xe9\n", "not UTF-8 text"),
    ],
)
def test_a_damaged_table_is_named(content, message, tmp_path):
    folder = tmp_path / "cache" / "data" / "imdb"
    table(folder, "imdb_train.tsv.gz", content)
    table(folder, "imdb_test.tsv.gz", content)
    with pytest.raises(DataError, match=message) as caught:
        data.imdb()
    assert str(caught.value).startswith(str(folder / "imdb_train.tsv.gz"))
    assert "delete it" in caught.value.__notes__[0]


def archive_bytes(members):
    """A tar.gz of ``{name: text}``, with a link and a way out of the folder among the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("aclImdb/train/pos/9_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, text in {"../escaped.txt": "x", "aclImdb/README": "x", **members}.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {
    "aclImdb/train/pos/0_9.txt": "a good\none\x85",
    "aclImdb/train/neg/0_3.txt": "a bad one",
    "aclImdb/train/unsup/0_0.txt": "who knows",
    "aclImdb/test/neg/3_1.txt": "terrible",
}


def use_archive(monkeypatch, content, *addresses):
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(reviews, "IMDB", Remote("aclImdb_v1.tar.gz", addresses, checksum))


def test_imdb_is_made_from_the_archive(server, tmp_path, monkeypatch):
    content = archive_bytes(MEMBERS)
    server.pages["/acl"] = content
    use_archive(monkeypatch, content, server.base + "acl")
    named = tmp_path / "named"
    table(named / "imdb", "imdb_train.tsv.gz", b"1\tof another split\n")  # half a set is none
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(named))
    first = data.imdb()
    server.pages.clear()
    for (texts, labels), (test_texts, test_labels) in (first, data.imdb()):
        assert sorted(zip(texts, labels.tolist(), strict=True)) == [
            ("a bad one", 0),
            ("a good one\x85", 1),
        ]
        assert test_texts == ["terrible"] and test_labels.tolist() == [0]
    kept = {path.name for path in (tmp_path / "cache" / "data" / "imdb").iterdir()}
    assert kept == {"aclImdb_v1.tar.gz", "imdb_train.tsv.gz", "imdb_test.tsv.gz"}
    assert not list(tmp_path.rglob("escaped.txt"))


def test_imdb_archive_of_the_data_folder(tmp_path, monkeypatch):
    content = archive_bytes(MEMBERS)
    use_archive(monkeypatch, content)
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "named"))
    path = tmp_path / "named" / "imdb" / "aclImdb_v1.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert data.imdb()[1][0] == ["terrible"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive_bytes({}), "no reviews in it"),
        (archive_bytes(MEMBERS)[:-80], "not a whole archive"),
        (b"<html>", "not a whole archive"),
    ],
)
def test_a_damaged_archive_is_named(content, message, tmp_path, monkeypatch):
    use_archive(monkeypatch, content)
    path = tmp_path / "cache" / "data" / "imdb" / "aclImdb_v1.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.imdb()
    assert str(path) in str(caught.value)
    assert [p.name for p in path.parent.iterdir()] == ["aclImdb_v1.tar.gz"]


# downloads


def test_mnist_is_downloaded_once(server, tiny, tmp_path, monkeypatch, capsys):
    """The first address knows nothing, the second lies, the third delivers."""
    remotes = []
    for remote, content in zip(digits.MNIST, tiny, strict=True):
        server.pages["/lies/" + remote.name] = gzip.compress(content[:-1] + b"\xff")
        server.pages["/good/" + remote.name] = gzip.compress(content)
        bases = [server.base + way for way in ("missing/", "lies/", "good/")]
        addresses = tuple(base + remote.name for base in bases)
        remotes.append(Remote(remote.name, addresses, digest(content)))
    monkeypatch.setattr(digits, "MNIST", remotes)
    (x, y), _ = data.mnist()
    assert x.shape == (7, 28, 28) and y.shape == (7,)
    assert capsys.readouterr().err.count("/good/") == 4
    kept = sorted(path.name for path in (tmp_path / "cache" / "data" / "mnist").iterdir())
    assert kept == sorted(remote.name for remote in remotes)
    server.pages.clear()
    np.testing.assert_array_equal(data.mnist()[0][0], x)


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"x" * 60)


def garbled(handler):
    handler.wfile.write(b"this is not HTTP\r\n\r\n")


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "HTTP Error 404"),
        (truncated, "only 60 of 100 bytes came"),
        (garbled, "this is not HTTP"),
        (b"wrong", "unexpected content"),
    ],
)
def test_a_failed_download_leaves_nothing(page, message, server, tmp_path):
    def accept(path):
        if path.read_bytes() != b"right":
            raise DataError("unexpected content")

    target = tmp_path / "folder" / "file.gz"
    server.pages["/a"] = page
    with pytest.raises(DataError, match=r"no address sent file\.gz") as caught:
        download([server.base + "a", server.base + "missing"], target, accept)
    assert message in caught.value.__notes__[0] and "404" in caught.value.__notes__[1]
    assert list(target.parent.iterdir()) == []
    server.pages["/b"] = b"right"
    download([server.base + "a", server.base + "b"], target, accept)
    assert target.read_bytes() == b"right"


@pytest.mark.parametrize("headers", [False, True])
def test_a_server_that_hangs_is_given_up(headers, server, tmp_path):
    over = threading.Event()

    def hang(handler):
        if headers:
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(b"x")
            handler.wfile.flush()
        over.wait(20)

    server.pages["/hang"] = hang
    with pytest.raises(DataError) as caught:
        download([server.base + "hang"], tmp_path / "f", lambda path: None, timeout=0.2)
    over.set()
    assert "timed out" in caught.value.__notes__[0]
    assert not (tmp_path / "f").exists()


def test_an_interrupted_download_leaves_nothing(server, tmp_path):
    def interrupt(path):
        raise KeyboardInterrupt

    server.pages["/a"] = b"x"
    with pytest.raises(KeyboardInterrupt):
        download([server.base + "a"], tmp_path / "f", interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "imdb"])
def test_without_a_network_the_error_says_what_to_do(name, server, tmp_path, monkeypatch):
    room = reviews if name == "imdb" else digits
    known = getattr(room, name.upper())
    files = (known,) if name == "imdb" else known
    files = [Remote(f.name, (server.base + f.name,), f.checksum) for f in files]
    monkeypatch.setattr(room, name.upper(), files[0] if name == "imdb" else files)
    with pytest.raises(DataError) as caught:
        getattr(data, name)()
    help_line = caught.value.__notes__[-1]
    for file in files:
        assert help_line.count(file.name) == 1
    assert str(tmp_path / "cache" / "data" / name) in help_line
    assert "TINYGRAD_AI_DATA" in help_line
    assert "404" in caught.value.__notes__[0]


def test_a_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYGRAD_AI_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot create the folder"):
        data.mnist()
