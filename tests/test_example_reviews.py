"""The programs for film reviews: they learn, show the words that decided, and can be asked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from tinygrad_ai import Tensor, nn, random
from tinygrad_ai.cli import main
from tinygrad_ai.data.text import Tokenizer
from tinygrad_ai.examples import reviews
from tinygrad_ai.examples.imdb_attention import ReviewAttention
from tinygrad_ai.examples.imdb_lstm import ReviewLSTM
from tinygrad_ai.train.terminal import Terminal

PICTURES = {
    "imdb-lstm": ["curves.png", "words.png"],
    "imdb-attention": ["attention.png", "curves.png", "words.png"],
}
MODELS = {"imdb-lstm": ReviewLSTM, "imdb-attention": ReviewAttention}
GOOD, BAD = ["wonderful", "charming", "moving"], ["dull", "stupid", "boring"]


def made_up(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Sentences of neutral words and one that says it all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    texts = []
    for label in labels:
        words = rng.choice(["the", "film", "is", "a", "story", "of", "it"], 8).tolist()
        words[rng.integers(8)] = str(rng.choice(GOOD if label else BAD))
        texts.append(" ".join(words))
    return texts, labels


@pytest.fixture(scope="module", params=PICTURES)
def trained(request, tmp_path_factory):
    """A program trained on sentences that are easy: its name, folder, JSON and what it showed."""
    name = request.param
    out = tmp_path_factory.mktemp("runs") / name
    printed, shown = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(reviews.DATA, "rotten-tomatoes", lambda: (made_up(400, 0), made_up(99, 1)))
        arguments = ["train", name, "--epochs=5", "--batch-size=20", "--lr=0.01", f"--out={out}"]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(shown):
            assert main([*arguments, "--json"]) == 0
    return name, out, json.loads(printed.getvalue()), shown.getvalue()


def test_a_run_learns_shows_its_words_and_writes_its_pictures(trained) -> None:
    name, out, result, shown = trained
    assert result["test"]["accuracy"] > 0.97
    assert shown.count("(rightly)") == 2
    assert "[++]" in shown or "[--]" in shown
    assert sorted(path.name for path in out.glob("*.png")) == PICTURES[name]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_the_file_answers_for_texts(trained, capsys) -> None:
    _, out, *_ = trained
    model = str(out / "model.safetensors")
    texts = ["The film is wonderful!", "A stupid story", "…", "unheard of"]
    assert main(["predict", model, *texts, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    (good, bad, unheard), (nothing,) = answer["predictions"], answer["errors"]
    assert good["positive"] > 0.65 and bad["positive"] < 0.35
    assert good["words"] == ["the", "film", "is", "wonderful"]
    assert np.argmax(good["shares"]) == 3 and np.argmin(bad["shares"]) == 1
    assert 0 < unheard["positive"] < 1
    assert nothing["text"] == "…" and "no word" in nothing["error"]
    assert main(["predict", model, texts[0]]) == 0
    verdict, line, *_ = capsys.readouterr().out.splitlines()
    assert verdict.startswith("positive, ") and line.endswith("wonderful[++]")


@pytest.mark.parametrize("name", MODELS)
def test_padding_does_not_change_a_verdict(name) -> None:
    random.manual_seed(0)
    model = MODELS[name]().eval()
    tokens = np.array([[5, 9, 2, 7]])
    padded = np.concatenate([np.zeros((1, 3), np.int64), tokens], axis=1)
    alone, beside = (float(model(Tensor(t)).numpy()[0]) for t in (tokens, padded))
    assert alone == pytest.approx(beside, abs=1e-6)


def test_long_reviews_keep_their_end() -> None:
    tokenizer = Tokenizer().fit(["a b"])
    found = reviews.sequences(tokenizer, ["a " * 300 + "b", "b"], np.array([0, 1]))
    (long, short), labels = found.batch(np.array([0, 1]))
    assert len(long) == reviews.LENGTH
    assert long[-2:].tolist() == tokenizer.encode("a b").tolist()
    assert short[-1] == long[-1] and not short[:-1].any()
    assert labels.tolist() == [0, 1] and labels.dtype == np.float32
    model = ReviewAttention().eval()
    reading = reviews.Reading.of(model, tokenizer, "a " * 300 + "b")
    assert reading.words == ["a"] * 199 + ["b"]


@pytest.mark.peers
@pytest.mark.parametrize("name", MODELS)
def test_the_twin_in_torch_is_the_same_model(name) -> None:
    """With the same weights it gives the same logits."""
    import torch  # noqa: PLC0415 - another framework

    from benchmarks.twins import reviews as twins  # noqa: PLC0415 - it imports torch

    ours, theirs = MODELS[name]().eval(), getattr(twins, MODELS[name].__name__)().eval()
    state = {key: 10 * p.numpy() for key, p in ours.state_dict().items()}
    ours.load_state_dict(state)
    renamed = {
        key.replace("lstm", "cell").replace("_l0", "").replace("attention.", ""): torch.tensor(p)
        for key, p in state.items()
    }
    theirs.load_state_dict(renamed)
    tokens = np.random.default_rng(0).integers(1, 99, (4, 9))
    tokens[1, :5] = 0
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ours(Tensor(tokens)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_reading_says_whether_it_is_right() -> None:
    model = ReviewAttention().eval()
    tokenizer = Tokenizer().fit(["fine film"])
    nn.init.constant_(model.verdict.bias, -3.0)
    reading = reviews.Reading.of(model, tokenizer, "Fine <br> film", label=True)
    assert reading.words == ["fine", "film"]
    assert reading.verdict.endswith("% (wrongly)") and reading.verdict.startswith("negative, 9")
    assert reading.probability == pytest.approx(1 / (1 + math.exp(3)), rel=0.2)
    unknown = dataclasses.replace(reading, label=None, probability=0.75)
    assert unknown.verdict == "positive, 75.0%"
    assert len(unknown.lines(Terminal(StringIO()))) == 2
