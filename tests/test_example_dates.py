"""The program seq2seq-attention: what it learns, its files, and its twin in PyTorch."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_ai import io
from tinygrad_ai.cli import main
from tinygrad_ai.data.text import PADDING
from tinygrad_ai.examples import dates, seq2seq_attention
from tinygrad_ai.tensor import Tensor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch: the process and its folder."""
    out = tmp_path_factory.mktemp("run")
    words = ["train", "seq2seq-attention", "--epochs", "1", "--json", "--out", str(out)]
    process = subprocess.run(
        [sys.executable, "-m", "tinygrad_ai", *words],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        timeout=300,
        check=True,
    )
    return process, out


@pytest.fixture(scope="module")
def model(trained):
    translator = seq2seq_attention.Translator()
    translator.load_state_dict(io.load(trained[1] / "model.safetensors"))
    return translator.eval()


def test_an_epoch_reads_most_unseen_dates(trained):
    process, out = trained
    result = json.loads(process.stdout)
    assert result["data"] == "dates-small"
    assert result["test"]["exact_match"] > 0.5
    assert result["test"]["accuracy"] > 0.93
    shown = process.stderr.split("(trained for")[1].splitlines()
    assert sum(line.count("it is ") for line in shown) == dates.SHOWN  # mistakes come first
    names = {"attention.png", "curves.png", "history.csv", "model.safetensors"}
    assert {path.name for path in out.iterdir()} == names


def test_the_picture_of_attention_is_not_empty(trained):
    pixels = np.asarray(Image.open(trained[1] / "attention.png").convert("RGB"))
    blue = pixels[..., 2].astype(int) - pixels[..., 0]
    assert (blue > 60).mean() > 0.005


def test_attention_looks_at_the_letters_it_writes(model):
    text = "Wed the 27th of October 1987"
    signs, weights = model.translate([text])
    assert signs.shape == (1, dates.LENGTH)
    assert weights.shape == (1, dates.LENGTH, len(text))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    inside = {"year": slice(24, 28), "month": slice(16, 23), "day": slice(8, 12)}
    assert weights[0, 2:4, inside["year"]].sum(axis=-1).min() > 0.5
    assert weights[0, 8:10, inside["day"]].sum(axis=-1).min() > 0.5


def test_padding_changes_nothing(model):
    texts = ["3 Mar 1998", "Wednesday, September 23rd, 1998"]
    _, weights = model.translate(texts)
    together = model.dates(texts)
    apart = [model.dates([text])[0] for text in texts]
    assert together == apart
    assert not weights[0, :, len(texts[0]) :].any()
    assert model.dates(["3 MAR 1998"]) == together[:1]


def test_the_lessons_of_a_date():
    x, written, signs = dates.examples(
        ["3 Mar 1998", "1/2/98"], ["1998-03-03", "1998-02-01"]
    ).arrays
    assert x.shape == (2, 10)
    assert (x[1, 6:] == PADDING).all()
    assert written.shape == signs.shape == (2, dates.LENGTH)
    np.testing.assert_array_equal(written[:, 1:], signs[:, :-1])
    assert dates.DIGITS.decode(signs[0]) == "1998-03-03"
    assert dates.LETTERS.decode(x[0]) == "3 mar 1998"
    letters = {c for part in dates.dates("dates-small") for text in part[0] for c in text.lower()}
    assert letters <= set(dates.LETTERS.tokens)


def test_guessing_is_worse_than_knowing():
    signs = np.array([[0, 1], [0, 2], [0, 1], [0, 2]])
    assert dates.guessing(signs) == pytest.approx(np.log(2) / 2)


def test_predict_prints_dates(trained, capsys):
    path = str(trained[1] / "model.safetensors")
    given = ["27 October 1987", "12 December 2012"]
    assert main(["predict", path, *given]) == 0
    lines = capsys.readouterr().out.split("\n\n")
    assert [line.split(": ")[0] for line in lines[:2]] == given
    assert [date.fromisoformat(line.split(": ")[1]) for line in lines[:2]]
    assert main(["predict", "--json", path, given[0], ""]) == 1
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["predictions"][0]["text"] == given[0]
    assert date.fromisoformat(answer["predictions"][0]["date"])
    assert answer["errors"][0]["text"] == ""
    assert "has no character: ''" in err


def test_predict_says_what_is_no_date(trained, capsys, monkeypatch):
    monkeypatch.setattr(seq2seq_attention.Translator, "dates", lambda self, texts: ["1998-02-30"])
    assert main(["predict", str(trained[1] / "model.safetensors"), "30 feb 98"]) == 1
    assert "'30 feb 98' reads as '1998-02-30', which is no date" in capsys.readouterr().err


@pytest.mark.peers
def test_the_twin_is_the_same_net(model):
    import torch  # noqa: PLC0415 - only here

    from benchmarks.twins import dates as twins  # noqa: PLC0415 - needs torch

    theirs = twins.Translator()
    state = {name: torch.from_numpy(np.array(p)) for name, p in model.state_dict().items()}
    theirs.load_state_dict(state)
    test = dates.dates("dates-small")[2]
    x, written, _ = (part[:200] for part in dates.examples(*test).arrays)
    ours = model(Tensor(x), Tensor(written)).numpy()
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x), torch.from_numpy(written)).numpy()
        read = theirs.translate(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    assert model.dates(test[0][:200]) == [dates.DIGITS.decode(row) for row in read]


def test_what_has_learned_nothing_can_be_shown_too(tmp_path):
    run = seq2seq_attention.PROGRAMS[0].prepare(seq2seq_attention.DEFAULTS[0])
    nothing = np.full(len(dates.DIGITS), -100, np.float32)
    nothing[PADDING] = 100
    run.model.load_state_dict(run.model.state_dict() | {"head.bias": nothing})
    assert run.test()["exact_match"] == 0
    run.pictures["attention.png"](tmp_path / "attention.png")
    assert Image.open(tmp_path / "attention.png").size[0] > 500
