"""Pictures: reading files, resizing and turning as Pillow does, gradients, chance, refusals."""

import numpy as np
import pytest
from gradcheck import signed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinygrad_ai import data, random
from tinygrad_ai.data import image
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing import assert_gradients

CAT = np.moveaxis(data.photo("chelsea")[:90, 100:203], -1, 0).astype(np.float32)  # (3, 90, 103)
sides, seeds = st.integers(1, 12), st.integers(0, 2**31)


def with_pillow(pixels, change):
    """``change`` of every channel as a picture of 32-bit floats."""
    return np.stack([np.asarray(change(Image.fromarray(c))) for c in pixels])


# ---------------------------------------------------------------------------------------- files


def test_a_picture_is_read_as_channels(tmp_path):
    pixels = CAT.astype(np.uint8)
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(tmp_path / "cat.png")
    read = image.load(tmp_path / "cat.png")
    assert isinstance(read, Tensor)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read.numpy(), CAT / 255, atol=1e-6)
    grey = image.load(str(tmp_path / "cat.png"), grey=True).numpy()
    wanted = np.asarray(Image.open(tmp_path / "cat.png").convert("L"))
    assert grey.shape == (1, 90, 103)
    np.testing.assert_allclose(grey[0] * 255, wanted, atol=1)


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    read = image.load(tmp_path / "p.png").numpy()
    wanted = [[[1, 1, 0.8]], [[0, 1, 0.8]], [[0, 1, 0.8]]]
    np.testing.assert_allclose(read, wanted, atol=1e-6)


def test_a_picture_stands_as_the_camera_held_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    Image.fromarray(CAT[0].astype(np.uint8)).save(tmp_path / "p.png", exif=exif)
    read = image.load(tmp_path / "p.png").numpy()
    np.testing.assert_allclose(read[0] * 255, np.rot90(CAT[0].astype(np.uint8), -1), atol=1e-3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"text", "not a picture"), ("half", "not a whole picture")],
)
def test_files_that_are_no_pictures(tmp_path, content, reason):
    path = tmp_path / "p.png"
    if content == "half":
        Image.fromarray(CAT[0].astype(np.uint8)).save(path)
        content = path.read_bytes()[:200]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot read .*p\.png: .*{reason}"):
        image.load(path)


def test_too_large_a_picture_is_not_unpacked(tmp_path, monkeypatch):
    Image.fromarray(CAT[0].astype(np.uint8)).save(tmp_path / "p.png")
    for limit in (5000, 1000):  # Pillow warns of the first and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="too large a picture"):
            image.load(tmp_path / "p.png")


# --------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("size", [(30, 20), (90, 103), (200, 150), (7, 300), (1, 1)])
def test_resize_is_that_of_pillow(size):
    wanted = with_pillow(CAT, lambda p: p.resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(image.resize(CAT, size), wanted, atol=1e-3)


@given(sides, sides, sides, sides, seeds)
def test_small_sizes_are_resized_as_pillow_does(height, width, rows, columns, seed):
    pixels = signed(np.random.default_rng(seed), (1, 2, height, width)).astype(np.float32)
    wanted = with_pillow(pixels[0], lambda p: p.resize((columns, rows), Image.Resampling.BILINEAR))
    made = image.resize(Tensor(pixels), (rows, columns))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made.numpy()[0], wanted, atol=1e-5)


def test_the_shorter_side_may_be_given():
    assert image.resize(CAT, 45).shape == (3, 45, 52)
    assert image.resize(np.zeros((1, 3, 1000), np.float32), 1).shape == (1, 1, 333)
    flat = image.resize(np.full((2, 1, 5, 9), 7.0), (13, 3))
    np.testing.assert_allclose(flat, 7.0, rtol=1e-14)


@pytest.mark.peers
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(11, 40), (200, 17)])
def test_resize_is_that_of_torch(size, antialias):
    import torch  # noqa: PLC0415 - only here

    x = torch.from_numpy(CAT.astype(np.float64)[None])
    wanted = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=antialias)
    made = image.resize(CAT.astype(np.float64)[None], size, antialias)
    np.testing.assert_allclose(made, wanted.numpy(), atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 10, -33.3, 90, 123, 180, 270, 360, 1000.5])
def test_rotate_is_that_of_pillow(degrees):
    wanted = with_pillow(CAT, lambda p: p.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=9))
    made = image.rotate(CAT, degrees, fill=9)
    assert made.dtype == np.float32
    apart = np.abs(made - wanted)  # a place on the very border may fall on either side of it
    assert np.mean(apart > 1e-2) < 1e-3


def test_quarter_turns_are_exact():
    for turns in range(-3, 4):
        made = image.rotate(CAT[:, :90, :90], 90 * turns)
        np.testing.assert_allclose(made, np.rot90(CAT[:, :90, :90], turns, (1, 2)), atol=1e-3)


def test_crop_and_flip():
    np.testing.assert_array_equal(image.crop(CAT, 3, 5, 10, 7), CAT[:, 3:13, 5:12])
    np.testing.assert_array_equal(image.crop(CAT, 0, 0, 90, 103), CAT)
    np.testing.assert_array_equal(image.flip(CAT), CAT[:, :, ::-1])
    np.testing.assert_array_equal(image.flip(CAT[None], "vertical"), CAT[None, :, ::-1])


def test_normalize_by_channel():
    made = image.normalize(Tensor(CAT[None]), [1.0, 2.0, 3.0], [0.5, 1.0, 2.0])
    assert made.dtype == np.float32
    for k, (mean, std) in enumerate([(1, 0.5), (2, 1), (3, 2)]):
        np.testing.assert_allclose(made.numpy()[0, k], (CAT[k] - mean) / std, rtol=1e-6)
    np.testing.assert_allclose(image.normalize(CAT, 3, 2.0), (CAT - 3) / 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: image.resize(x, (3, 7)),
        lambda x: image.resize(x, (9, 2), antialias=False),
        lambda x: image.rotate(x, 33.0, fill=2.0),
        lambda x: image.crop(x, 1, 2, 3, 2),
        lambda x: image.flip(x),
        lambda x: image.normalize(x, [0.1, 0.2], 0.5),
    ],
)
def test_gradients(change):
    assert_gradients(change, signed(np.random.default_rng(0), (2, 2, 5, 4)))


# --------------------------------------------------------------------------------------- chance

RANDOM = {
    "crop": lambda x: image.random_crop(x, (30, 40), padding=2),
    "flip": image.random_flip,
    "rotate": lambda x: image.random_rotate(x, 30),
}


@pytest.mark.parametrize("name", RANDOM)
def test_chance_is_seeded_and_every_picture_has_its_own(name):
    batch = np.stack([CAT] * 12)
    random.manual_seed(1)
    made = RANDOM[name](batch)
    random.manual_seed(1)
    np.testing.assert_array_equal(RANDOM[name](Tensor(batch)).numpy(), made)
    distinct = len({picture.tobytes() for picture in made})
    assert distinct == 2 if name == "flip" else distinct > 10
    assert RANDOM[name](CAT).shape == made.shape[1:]
    assert made.dtype == np.float32


def test_random_crops_come_from_everywhere_in_the_padded_picture():
    ramp = 1 + np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    random.manual_seed(0)
    made = image.random_crop(np.stack([ramp] * 300), 4, padding=1)
    padded = np.pad(ramp, ((0, 0), (1, 1), (1, 1)))
    wanted = {padded[:, r : r + 4, c : c + 4].tobytes() for r in range(3) for c in range(4)}
    assert {picture.tobytes() for picture in made} == wanted


def test_the_share_of_flipped_pictures():
    random.manual_seed(0)
    made = image.random_flip(np.stack([CAT[:, :4, :4]] * 400), p=0.25, direction="vertical")
    share = np.mean([np.array_equal(x, CAT[:, 3::-1, :4]) for x in made])
    assert abs(share - 0.25) < 0.08
    assert np.array_equal(image.random_flip(CAT, 1.0), CAT[:, :, ::-1])
    assert np.array_equal(image.random_flip(CAT, 0.0), CAT)


def test_random_angles_lie_on_both_sides():
    random.manual_seed(0)
    line = np.zeros((1, 21, 21), np.float32)
    line[0, 10] = 1
    made = image.random_rotate(np.stack([line] * 100), 45)
    up = made[:, 0, :10, 11:].sum(axis=(1, 2)) > made[:, 0, 11:, 11:].sum(axis=(1, 2))
    assert 30 < up.sum() < 70  # anticlockwise: the right end goes up


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: image.resize(CAT[0], 3), ShapeError, r"\(N, C, H, W\), not \(90, 103\)"),
        (lambda: image.flip(CAT[None, None]), ShapeError, r"not \(1, 1, 3, 90, 103\)"),
        (lambda: image.rotate(CAT[:, :0], 3), ShapeError, r"no pixel in .* \(3, 0, 103\)"),
        (lambda: image.resize(CAT.astype(np.uint8), 3), DTypeError, "floating-point"),
        (lambda: image.rotate(CAT.astype(np.int64), 3), DTypeError, "not int64"),
        (lambda: image.resize(CAT, 0), ValueRangeError, "size must be .* at least 1, not 0"),
        (lambda: image.resize(CAT, (3, 0)), ValueRangeError, "at least 1"),
        (lambda: image.resize(CAT, (3, 4, 5)), ShapeError, r"\(height, width\), not \(3, 4, 5\)"),
        (lambda: image.resize(CAT, 3.5), DTypeError, "whole number"),
        (lambda: image.resize("cat.png", 3), DTypeError, "resize"),
        (
            lambda: image.crop(CAT, 81, 0, 10, 10),
            ValueRangeError,
            r"rows 81 to 91 .*\(3, 90, 103\)",
        ),
        (lambda: image.crop(CAT, 0, -1, 10, 10), ValueRangeError, "left"),
        (lambda: image.crop(CAT, 0, 0, 0, 10), ValueRangeError, "height"),
        (lambda: image.flip(CAT, "both"), ValueRangeError, "'both' is none of horizontal, vert"),
        (lambda: image.rotate(CAT, float("nan")), ValueRangeError, "degrees must be finite"),
        (lambda: image.rotate(CAT, "left"), DTypeError, "degrees must be a number"),
        (lambda: image.rotate(CAT, 1, float("inf")), ValueRangeError, "fill must be finite"),
        (lambda: image.normalize(CAT, [0, 0], 1), ShapeError, r"mean of shape \(2,\) is not"),
        (lambda: image.normalize(CAT, 0, 0), ValueRangeError, "std above 0"),
        (lambda: image.normalize(CAT, 0, [1, -1, 1]), ValueRangeError, "std above 0"),
        (lambda: image.random_crop(CAT, 95, 2), ValueRangeError, r"not fit into \(3, 94, 107\)"),
        (lambda: image.random_crop(CAT, 9, -1), ValueRangeError, "padding"),
        (lambda: image.random_flip(CAT, 1.5), ValueRangeError, "p must lie in"),
        (lambda: image.random_rotate(CAT[0], 3), ShapeError, "random_rotate"),
    ],
)
def test_what_cannot_be_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("path", [None, 3])
def test_a_path_that_is_none(path):
    with pytest.raises(DTypeError, match="path must be a string or a Path"):
        image.load(path)
