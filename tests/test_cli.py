"""The command line: what it prints and writes, its exit status, and its errors."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_ai import io
from tinygrad_ai.cli import main
from tinygrad_ai.data import mnist_small
from tinygrad_ai.examples import PROGRAMS
from tinygrad_ai.examples.scan import scan

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PYTHONIOENCODING": "utf-8",
}
FILES = ["confusion.png", "curves.png", "history.csv", "model.safetensors"]


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tinygrad_ai", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**ENVIRONMENT, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch of mnist-mlp on the bundled digits: the process and its folder."""
    out = tmp_path_factory.mktemp("runs") / "new" / "folder"
    return command("train", "mnist-mlp", "--epochs", 1, "--out", out, NO_COLOR="1"), out


@pytest.fixture(scope="module")
def model(trained) -> Path:
    return trained[1] / "model.safetensors"


def failed(capsys, *arguments: object) -> tuple[int, str]:
    """Exit status and stderr of a command line that must print nothing else."""
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return status, err


# --------------------------------------------------------------------------------------- train


def test_train_prints_summary_accuracy_and_digits(trained) -> None:
    process, out = trained
    assert process.returncode == 0
    assert "784*128 + 128 = 100,480" in process.stdout
    assert "total: 101,770 parameters" in process.stdout
    accuracy = float(process.stdout.split("accuracy ")[1].split()[0])
    assert accuracy > 0.88
    assert set("▀▄█▌▐") <= set(process.stdout)
    assert process.stdout.count(" read as ") == 5
    assert max(map(len, process.stdout.splitlines()[:-1])) <= 80
    assert str(out) in process.stdout.splitlines()[-1]
    assert process.stderr.startswith("epoch 1/1  loss ")
    assert "\033" not in process.stdout + process.stderr


def test_train_writes_model_history_and_pictures(trained) -> None:
    _, out = trained
    assert sorted(path.name for path in out.iterdir()) == FILES
    metadata = io.read_metadata(out / "model.safetensors")
    assert metadata["program"] == "mnist-mlp"
    assert metadata["settings"]["epochs"] == 1
    assert metadata["normalisation"] == "pixels / 255"
    assert "Linear" in metadata["architecture"]
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1"]
    assert float(rows[0]["accuracy"]) > 0.8
    for name in ("curves.png", "confusion.png"):
        with Image.open(out / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5


def test_json_is_the_last_line_and_progress_is_not_in_it(trained, tmp_path) -> None:
    process = command("train", "mnist-mlp", "--epochs", 1, "--json", out_in(tmp_path), NO_COLOR="1")
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 1
    result = json.loads(process.stdout)
    keys = {"program", "data", "epochs", "seconds", "train", "test", "out"}
    assert keys <= set(result)
    assert (result["program"], result["data"], result["epochs"]) == ("mnist-mlp", "mnist-small", 1)
    assert 0 < result["seconds"] < 100
    assert set(result["train"]) == {"loss", "accuracy", "lr"}
    assert result["test"]["accuracy"] > 0.88
    assert result["out"] == str(tmp_path / "run")
    assert "epoch 1/1" in process.stderr
    assert " read as " in process.stderr
    # the same seed gave the same bits as the run of the fixture, in another process
    mine, other = (io.load(f / "model.safetensors") for f in (tmp_path / "run", trained[1]))
    assert all(mine[name].tobytes() == other[name].tobytes() for name in other)


def out_in(folder: Path) -> str:
    return f"--out={folder / 'run'}"


def test_seed_and_learning_rate_change_the_weights(trained, tmp_path, capsys) -> None:
    arguments = ["train", "mnist-mlp", "--epochs", "1", "--batch-size", "500", "--json"]
    runs = {}
    for name, more in {"a": [], "b": ["--seed", "1"], "c": ["--lr", "0.001"]}.items():
        assert main([*arguments, *more, "--out", str(tmp_path / name)]) == 0
        runs[name] = io.load(tmp_path / name / "model.safetensors")["1.weight"].tobytes()
    assert len(set(runs.values())) == 3
    assert capsys.readouterr().out.count('"program"') == 3


def test_stdout_without_blocks_gets_plain_characters(tmp_path) -> None:
    process = command(
        "train",
        "mnist-dropout",
        "--epochs=1",
        "--batch-size=500",
        out_in(tmp_path),
        PYTHONIOENCODING="ascii",
    )
    assert process.returncode == 0
    assert process.stdout.isascii()
    assert "@@" in process.stdout


def test_without_matplotlib_one_line_and_the_other_files(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["train", "mnist-mlp", "--epochs=1", "--batch-size=500", out_in(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("no pictures: they need matplotlib; pip install 'tinygrad_ai[plot]'") == 1
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == FILES[2:]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_writes_what_was_trained_and_exits_130(tmp_path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "tinygrad_ai", "train", "mnist-mlp", "--epochs=500", f"--out={out}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("epoch   1/500")
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "interrupted after " in stdout
    assert "accuracy" in stdout
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_list_names_every_program(capsys) -> None:
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PROGRAMS)
    assert "--data mnist-small" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-mlp-deep", "mnist-dropout"])
def test_programs_have_the_layers_they_promise(name) -> None:
    program = PROGRAMS[name]
    shapes = [p.shape for p in program.build().parameters() if p.ndim == 2]
    expected = {"mnist-mlp-deep": [(64, 784), (64, 64), (10, 64)]}
    assert shapes == expected.get(name, [(128, 784), (10, 128)])
    assert ("Dropout(" in repr(program.build())) == (name == "mnist-dropout")


def test_the_defaults_train_well(tmp_path) -> None:
    process = command("train", "mnist-mlp", "--json", out_in(tmp_path))
    result = json.loads(process.stdout)
    assert result["train"]["loss"] < 0.05
    assert result["test"]["accuracy"] >= 0.93


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnist-mpl"], "no program 'mnist-mpl', did you mean mnist-mlp?"),
        (["train", "resnet"], "no program 'resnet'"),
        (["train"], "name a PROGRAM"),
        (["train", "mnist-mlp", "--data", "mist"], "no data 'mist', did you mean mnist?"),
        (["train", "mnist-mlp", "--epochs", "0"], "--epochs: '0' is not a whole number of at"),
        (["train", "mnist-mlp", "--epochs=-3"], "--epochs: '-3' is not"),
        (["train", "mnist-mlp", "--epochs", "2.5"], "--epochs: '2.5' is not"),
        (["train", "mnist-mlp", "--batch-size", "0"], "--batch-size: '0' is not"),
        (["train", "mnist-mlp", "--lr", "fast"], "--lr: 'fast' is not a positive number"),
        (["train", "mnist-mlp", "--lr", "nan"], "--lr: 'nan' is not a positive number"),
        (["train", "mnist-mlp", "--lr=-1"], "--lr: '-1' is not a positive number"),
        (["train", "mnist-mlp", "--seed=-1"], "--seed: '-1' is not"),
        (["train", "mnist-mlp", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
        (["train", "mnist-mlp", "--epoch", "3"], "unrecognized arguments: --epoch"),
        (["predict", "model.safetensors"], "required: INPUT"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_exits_2_with_one_clear_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, err = failed(capsys, *arguments)
    assert status == 2
    headline, *more = err.splitlines()
    assert message in headline
    assert headline.startswith("tinygrad-ai")
    assert more[-1].endswith("--help")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_program_lists_those_there_are(capsys) -> None:
    _, err = failed(capsys, "train", "resnet")
    assert "there are " + ", ".join(PROGRAMS) in err


def test_an_unwritable_folder_is_found_before_training(capsys, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    began = time.perf_counter()
    status, err = failed(capsys, "train", "mnist-mlp", "--out", tmp_path / "file")
    assert status == 1
    assert err.startswith(f"tinygrad-ai: error: --out {tmp_path / 'file'}: cannot write")
    assert time.perf_counter() - began < 2


def test_a_missing_device_is_one_line(capsys, tmp_path) -> None:
    status, err = failed(capsys, "train", "mnist-mlp", "--device", "cuda", out_in(tmp_path))
    if status == 0:
        pytest.skip("there is a GPU")
    assert status == 1
    assert err.startswith("tinygrad-ai: error: ")
    assert "cuda" in err.splitlines()[0]


def test_missing_full_data_is_one_line(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TINYGRAD_AI_DATA", str(tmp_path / "nowhere"))
    arguments = ["train", "mnist-mlp", "--data=mnist", out_in(tmp_path)]
    status, err = failed(capsys, *arguments)
    assert status == 1
    assert "nowhere, which does not exist" in err.splitlines()[0]


def test_training_that_fails_exits_1(capsys, tmp_path) -> None:
    with np.errstate(all="ignore"):
        status = main(["train", "mnist-mlp", "--lr=1e30", "--epochs=1", out_in(tmp_path)])
    err = capsys.readouterr().err
    assert status == 1
    assert "the loss is" in err
    assert "epoch 1, batch " in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    process = command("train", "mnist-mlp", "--debug", "--out", tmp_path / "file")
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert "cannot write" in process.stderr


def test_version_and_help(capsys) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"tinygrad-ai (\d+\.\d+\.\d+|of a checkout.*)\n", capsys.readouterr().out)
    assert main(["--help"]) == 0
    assert "130 ended by" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "--help"]) == 0
    assert "--batch-size" in capsys.readouterr().out


# -------------------------------------------------------------------------------------- predict


def digit(index: int) -> tuple[np.ndarray, int]:
    (x, y), _ = mnist_small()
    return (x[index] * 255).astype(np.uint8), int(y[index])


def as_drawn(pixels: np.ndarray, kind: str) -> Image.Image:
    """An MNIST digit as a user's picture might show it."""
    large = Image.fromarray(pixels).resize((280, 280), Image.Resampling.BICUBIC)
    ink = np.asarray(large) / 255
    if kind == "light on dark":
        return large
    if kind == "dark on light, off centre":
        page = np.full((500, 400), 255, np.uint8)
        page[10:290, 110:390] = 255 - np.asarray(large)
        return Image.fromarray(page)
    if kind == "blue on yellow":
        paper, blue = np.array([250, 240, 170]), np.array([20, 40, 160])
        return Image.fromarray((paper + ink[..., None] * (blue - paper)).astype(np.uint8))
    if kind == "grey on grey":
        return Image.fromarray((120 + 60 * ink).astype(np.uint8))
    assert kind == "transparent"
    pixels = np.zeros((280, 280, 4), np.uint8)
    pixels[..., 3] = np.asarray(large)
    return Image.fromarray(pixels)


KINDS = [
    "light on dark",
    "dark on light, off centre",
    "blue on yellow",
    "grey on grey",
    "transparent",
]


@pytest.mark.parametrize("kind", KINDS)
def test_scan_gives_back_the_digit(kind, tmp_path) -> None:
    for index in range(5):
        pixels, _ = digit(index)
        as_drawn(pixels, kind).save(tmp_path / "digit.png")
        page = scan(tmp_path / "digit.png")
        assert page.shape == (28, 28)
        assert page.dtype == np.float32
        assert page.min() == 0
        assert page.max() == 1
        mass = page.sum()
        middle = [np.arange(28) @ page.sum(axis=axis) / mass for axis in (1, 0)]
        np.testing.assert_allclose(middle, 14, atol=0.51)
        assert np.corrcoef(page.ravel(), pixels.ravel())[0, 1] > 0.75


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_predict_reads_digits(model, suffix, tmp_path, capsys) -> None:
    paths, labels = [], []
    for index, kind in enumerate(KINDS * 2):
        if suffix == ".jpg" and kind == "transparent":
            continue
        pixels, label = digit(index)
        paths.append(str(tmp_path / f"{index}{suffix}"))
        labels.append(label)
        as_drawn(pixels, kind).save(paths[-1])
    assert main(["predict", str(model), *paths, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = [p["digit"] for p in result["predictions"]]
    assert [p["image"] for p in result["predictions"]] == paths
    assert np.mean(np.array(found) == labels) >= 0.8
    for p in result["predictions"]:
        assert len(p["probabilities"]) == 10
        assert sum(p["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert int(np.argmax(p["probabilities"])) == p["digit"]


def test_predict_prints_digit_and_probabilities(model, tmp_path, monkeypatch) -> None:
    pixels, _ = digit(0)
    as_drawn(pixels, "dark on light, off centre").save(tmp_path / "one.png")
    process = command("predict", model, tmp_path / "one.png")
    assert process.returncode == 0
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'one.png'}: ")
    assert len([line for line in lines if line.endswith("%")]) == 10
    assert max(map(len, lines[1:])) <= 80


def test_predict_refuses_what_it_cannot_read(model, tmp_path, capsys) -> None:
    picture, text, blank, cut = (tmp_path / n for n in ("a.png", "a.txt", "blank.png", "cut.png"))
    as_drawn(digit(0)[0], "light on dark").save(picture)
    text.write_text("no picture")
    Image.new("L", (50, 50), 200).save(blank)
    cut.write_bytes(picture.read_bytes()[:300])
    foreign = tmp_path / "foreign.safetensors"
    io.save({"w": np.zeros(3)}, foreign)
    misfit = tmp_path / "misfit.safetensors"
    io.save({"w": np.zeros(3)}, misfit, io.read_metadata(model))
    for arguments, message in [
        ((model, tmp_path / "none.png"), "cannot read .*none.png: No such file"),
        ((model, "a fine film"), "read a fine film: No such file; .* reads pictures of digits"),
        ((model, tmp_path), "cannot read .*: Is a directory"),
        ((model, text), "cannot read .*a.txt: it is not a picture"),
        ((model, cut), "cannot read .*cut.png: it is not a whole picture"),
        ((model, blank), "blank.png shows no digit"),
        ((tmp_path / "none.safetensors", picture), "cannot read .*none.safetensors"),
        ((picture, picture), "a.png is not a whole safetensors file"),
        ((foreign, picture), "foreign.safetensors reads neither digits"),
        ((misfit, picture), "misfit.safetensors does not fit the program mnist-mlp"),
    ]:
        status, err = failed(capsys, "predict", *arguments)
        assert status == 1
        headline = err.splitlines()[0]
        assert headline.startswith("tinygrad-ai: error: ")
        assert re.search(message, headline), headline
