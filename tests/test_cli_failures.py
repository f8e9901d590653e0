"""The command line where things go wrong: what was trained is kept, and one line says why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_ai import io
from tinygrad_ai.cli import THREADS, main
from tinygrad_ai.data import mnist_small
from tinygrad_ai.errors import DataError
from tinygrad_ai.examples.scan import scan
from tinygrad_ai.train import History, Trainer

ROOT = Path(__file__).parent.parent
FILES = ["confusion.png", "curves.png", "history.csv", "model.safetensors"]
SHORT = ["train", "mnist-mlp", "--epochs=1", "--batch-size=2000"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``line`` in a shell, in which TINYGRAD is the command."""
    return subprocess.run(
        line.replace("TINYGRAD", f"{sys.executable} -m tinygrad_ai"),
        shell=True,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main([*SHORT, "--out", str(out)]) == 0
    return out / "model.safetensors"


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.fromarray((mnist_small()[0][0][0] * 255).astype(np.uint8)).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


# ---------------------------------------------------------------------------------- streams


@posix
@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("> /dev/full", 1, "tinygrad-ai: error: cannot print: No space left on device"),
        (">&- 2>&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_a_bad_stdout_does_not_lose_the_model(redirection, status, message, tmp_path) -> None:
    line = f"{{ TINYGRAD {' '.join(SHORT)} --out {tmp_path}/run; echo $? > {tmp_path}/status; }}"
    process = shell(f"{line} {redirection}")
    assert (tmp_path / "status").read_text().strip() == str(status)
    assert names(tmp_path / "run") == FILES
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr
    assert message in process.stderr


@posix
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["train --list", "--help"])
def test_what_cannot_be_printed_is_said(arguments, buffered) -> None:
    full = shell(f"TINYGRAD {arguments} > /dev/full", PYTHONUNBUFFERED=buffered)
    assert full.returncode == 1
    assert full.stderr == "tinygrad-ai: error: cannot print: No space left on device\n"
    pipe = shell(f"(TINYGRAD {arguments}; echo $? >&2) | true", PYTHONUNBUFFERED=buffered)
    assert pipe.stderr == "0\n"


# ------------------------------------------------------------------------------------ Ctrl-C


def test_the_model_is_written_before_it_is_measured(tmp_path, monkeypatch, capsys) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "evaluate", interrupted)
    assert main([*SHORT, f"--out={tmp_path}"]) == 130
    assert names(tmp_path) == FILES[2:]
    assert capsys.readouterr().err.endswith("tinygrad-ai: interrupted\n")


@posix
def test_ctrl_c_while_saving_waits_until_the_files_are_whole(tmp_path, monkeypatch) -> None:
    save = io.save

    def pressed(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(*arguments)

    monkeypatch.setattr(io, "save", pressed)
    assert main([*SHORT, f"--out={tmp_path}"]) == 130
    assert names(tmp_path) == FILES[2:]


@posix
def test_a_second_ctrl_c_does_not_lose_the_model(tmp_path, monkeypatch) -> None:
    fit = Trainer.fit

    def twice(self: Trainer, *args: object, **options: object) -> History:
        history = fit(self, *args, **options)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        history.interrupted = True
        os.kill(os.getpid(), signal.SIGINT)
        return history

    monkeypatch.setattr(Trainer, "fit", twice)
    assert main([*SHORT, f"--out={tmp_path}"]) == 130
    assert names(tmp_path) == FILES[2:]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
def test_ctrl_c_while_importing_is_quiet(tmp_path) -> None:
    (tmp_path / "numpy.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    process = shell("TINYGRAD train --list", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (process.returncode, process.stderr) == (130, "tinygrad-ai: interrupted\n")


# ---------------------------------------------------------------------------------- the folder


def stopped(monkeypatch, epochs: int) -> None:
    """Makes every fit end by Ctrl-C after ``epochs`` epochs."""
    fit = Trainer.fit

    def cut(self: Trainer, *args: object, **options: object) -> History:
        history = fit(self, *args, **options) if epochs else History()
        history.interrupted = True
        return history

    monkeypatch.setattr(Trainer, "fit", cut)


def test_a_run_of_no_whole_epoch_keeps_an_earlier_model(tmp_path, monkeypatch, capsys) -> None:
    assert main([*SHORT, f"--out={tmp_path}"]) == 0
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    stopped(monkeypatch, 0)
    assert main([*SHORT, "--seed=1", f"--out={tmp_path}"]) == 130
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    out = capsys.readouterr().out
    assert "interrupted after 0 whole epochs" in out
    assert "nothing written: no epoch was finished" in out
    assert main([*SHORT, f"--out={tmp_path / 'new'}"]) == 130
    assert names(tmp_path / "new") == FILES[2:]


def test_pictures_of_an_earlier_run_do_not_stay(model, tmp_path, monkeypatch, capsys) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes((model.parent / name).read_bytes())
    monkeypatch.setattr("tinygrad_ai.plots.available", lambda: False)
    stopped(monkeypatch, 1)
    assert main([*SHORT, "--seed=1", f"--out={tmp_path}"]) == 130
    assert names(tmp_path) == FILES[2:]
    assert "interrupted after 1 whole epoch\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "history.csv"])
def test_what_cannot_be_written_is_found_before_training(
    name, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(Trainer, "fit", None)
    (tmp_path / name).mkdir()
    assert main([*SHORT, f"--out={tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert f"cannot write {tmp_path / name}: Is a directory" in err
    assert "remove that folder" in err


def test_without_safetensors_nothing_is_trained(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "fit", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    assert main([*SHORT, f"--out={tmp_path / 'new'}"]) == 1
    assert "need the package safetensors" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_failed_run_leaves_no_folder(tmp_path, capsys) -> None:
    with np.errstate(all="ignore"):
        assert main([*SHORT, "--lr=1e30", "--batch-size=32", f"--out={tmp_path}/a/b"]) == 1
    assert "the loss is" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_a_run_that_learnt_nothing_says_so(tmp_path, capsys) -> None:
    assert main([*SHORT, "--lr=1000", f"--out={tmp_path}"]) == 0
    assert "no better than guessing, whose loss is 2.3026" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnist-mlp", "--out", ""], "--out: the name of the folder is empty"),
        (["train", "mnist-mlp", "--epochs", "1" + "0" * 30], "at most 1,000,000"),
        (["train", "mnist-mlp", "--seed", "1" + "0" * 30], "below 2^63"),
    ],
)
def test_absurd_arguments(arguments, message, capsys) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_option_points_to_the_help_of_its_command(capsys) -> None:
    assert main(["train", "mnist-mlp", "--frob"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tinygrad-ai train: error: unrecognized arguments: --frob")
    assert err.endswith("help: tinygrad-ai train --help\n")


def test_debug_is_offered_for_the_unexpected_only(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(io, "read_metadata", lambda path: 1 / 0)
    assert main(["predict", "a", "b"]) == 1
    assert "ZeroDivisionError: division by zero\n   help: --debug" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["predict", str(tmp_path / "a"), "b"]) == 1
    assert "--debug" not in capsys.readouterr().err


def test_the_list_as_json(capsys) -> None:
    assert main(["train", "--list", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first["program"] == "mnist-mlp"
    assert first["defaults"][0]["data"] == "mnist-small"


def test_a_narrow_terminal(model, picture, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*SHORT, f"--out={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert out.count(" read as ") == 2
    assert main(["predict", str(model), str(picture)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[1:])) <= 40


# --------------------------------------------------------------------------------- BLAS threads


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "None")])
def test_the_command_uses_one_blas_thread_unless_told_otherwise(given, expected, tmp_path) -> None:
    (tmp_path / "numpy.py").write_text(
        "import os; print(os.environ.get('OPENBLAS_NUM_THREADS')); raise SystemExit"
    )
    line = " ".join(f"-u {name}" for name in THREADS if name not in given)
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = shell(f"env {line} TINYGRAD train --list", **given, **path)
    assert process.stdout.strip() == expected
    process = shell(f"env {line} {sys.executable} -c 'import tinygrad_ai.tensor'", **given, **path)
    assert process.stdout.strip() == "None"


# --------------------------------------------------------------------------------------- predict


def test_one_bad_picture_does_not_hide_the_others(model, picture, tmp_path, capsys) -> None:
    arguments = ["predict", str(model), str(tmp_path / "none.png"), str(picture)]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{picture}: ")
    assert err.count("none.png") == 1
    assert main([*arguments, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [p["image"] for p in result["predictions"]] == [str(picture)]
    assert [p["image"] for p in result["errors"]] == [str(tmp_path / "none.png")]


def test_weights_that_are_not_finite_are_one_error(model, picture, tmp_path, capsys) -> None:
    state = io.load(model)
    state["1.weight"][3, 5] = np.nan
    io.save(state, tmp_path / "nan.safetensors", io.read_metadata(model))
    for more in ([], ["--json"]):
        assert main(["predict", str(tmp_path / "nan.safetensors"), str(picture), *more]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"tinygrad-ai: error: {tmp_path}/nan.safetensors gives no probab")


def test_hints_for_a_wrong_model(model, picture, capsys) -> None:
    assert main(["predict", str(model.parent), str(picture)]) == 1
    assert f"did you mean {model}?" in capsys.readouterr().err
    assert main(["predict", str(picture), str(model)]) == 1
    assert "the model comes first" in capsys.readouterr().err


def test_pictures_that_cannot_be_read_say_why(tmp_path, monkeypatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text.png: it is not a picture$"):
        scan(tmp_path / "text.png")
    Image.new("L", (30, 30)).save(tmp_path / "large.png")
    for limit in (500, 100):  # Pillow warns of the first and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"large.png: it is too large a picture$"):
            scan(tmp_path / "large.png")


@pytest.mark.parametrize("kind", ["16 bits", "float", "equal brightness", "white on nothing"])
def test_scan_sees_ink_of_every_kind(kind, tmp_path) -> None:
    ink = mnist_small()[0][0][3]
    path = tmp_path / "digit.png"
    if kind == "16 bits":
        Image.fromarray((2000 + 60000 * (1 - ink)).astype(np.uint16)).save(path)
    elif kind == "float":
        path = tmp_path / "digit.tiff"
        Image.fromarray((400 * ink).astype(np.float32)).save(path)
    elif kind == "equal brightness":
        red, green = np.array([255, 0, 0]), np.array([0, 130, 0])
        Image.fromarray((green + ink[..., None] * (red - green)).astype(np.uint8)).save(path)
    else:
        pixels = np.full((28, 28, 4), 255, np.uint8)
        pixels[..., 3] = 255 * ink
        Image.fromarray(pixels).save(path)
    assert np.corrcoef(scan(path).ravel(), ink.ravel())[0, 1] > 0.75
