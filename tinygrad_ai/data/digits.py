"""MNIST, a bundled part of it, and Fashion-MNIST: pictures of 28×28 pixels in ten classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygrad_ai.data import idx, store
from tinygrad_ai.data.store import Remote
from tinygrad_ai.errors import DataError

Array: TypeAlias = np.ndarray[Any, Any]
Split: TypeAlias = tuple[tuple[Array, Array], tuple[Array, Array]]

PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def _remotes(checksums: Sequence[str], *bases: str) -> tuple[Remote, ...]:
    """The four files of a set, in the order of PARTS, each at every base address."""
    remotes = []
    for part, checksum in zip(PARTS, checksums, strict=True):
        name = f"{part}-idx{3 if part.endswith('images') else 1}-ubyte.gz"
        remotes.append(Remote(name, tuple(base + name for base in bases), checksum))
    return tuple(remotes)


MNIST = _remotes(
    (
        "content-sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "content-sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "content-sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "content-sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_MNIST = _remotes(
    (
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "md5:25c81989df183df01b3e8a0aad5dffbe",
        "md5:bef4ecab320f06d8554ea6380940ec79",
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)


def mnist_small() -> Split:
    """A stratified part of MNIST that comes with the package: 10,000 pictures, 2,000 for testing.

    Returns ``((x_train, y_train), (x_test, y_test))``: x float32 in [0, 1] of shape (N, 28, 28),
    y int64 of shape (N,), the digit.
    """
    pairs = []
    for part in ("train", "test"):
        files = [store.BUNDLED / f"mnist12k-{part}-{kind}.idx.gz" for kind in ("images", "labels")]
        images, labels = (store.read(file, _parse) for file in files)
        pairs.append(_pair(images, labels, f"the bundled MNIST, {part}"))
    return pairs[0], pairs[1]


def mnist() -> Split:
    """The whole of MNIST: 60,000 handwritten digits and 10,000 for testing, as `mnist_small` does.

    The files come from ``TINYGRAD_AI_DATA``/mnist, the cache folder, or the network, in that order.
    Raises DataError where a file is damaged or cannot be had.
    """
    return _image_set("mnist", MNIST)


def fashion_mnist() -> Split:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), in the form and with the sizes of `mnist`.

    Classes: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.
    The files come from ``TINYGRAD_AI_DATA``/fashion_mnist, the cache folder, or the network.
    Raises DataError where a file is damaged or cannot be had.
    """
    return _image_set("fashion_mnist", FASHION_MNIST)


def _parse(path: Path) -> Array:
    return idx.parse(store.unpack(path.read_bytes()))


def _image_set(collection: str, remotes: Sequence[Remote]) -> Split:
    train_x, train_y, test_x, test_y = store.obtain(collection, remotes, _verified)
    train = _pair(train_x, train_y, f"{collection}, train")
    return train, _pair(test_x, test_y, f"{collection}, test")


def _verified(remote: Remote, path: Path) -> Array:
    """The array in ``path``. The format is judged first: that says more than a checksum does."""
    raw = path.read_bytes()
    content = store.unpack(raw)
    array = idx.parse(content)
    remote.verify(raw, content)
    return array


def _pair(images: Array, labels: Array, name: str) -> tuple[Array, Array]:
    """Pixels as float32 in [0, 1] and classes as int64; raises DataError where they do not fit."""
    shaped = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1]
    if not shaped or images.dtype != np.uint8 or labels.dtype != np.uint8:
        raise DataError(
            f"{name}: images {images.dtype} {images.shape} and labels {labels.dtype} "
            f"{labels.shape} are not uint8 (N, 28, 28) and uint8 (N,)"
        )
    pixels = images.astype(np.float32)
    pixels /= 255
    return pixels, labels.astype(np.int64)
