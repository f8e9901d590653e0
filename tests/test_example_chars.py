"""The programs that learn to write: how they read the text, what they carry, what they reach."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from tinygrad_ai import Tensor, data, nn, no_grad, random
from tinygrad_ai.cli import main
from tinygrad_ai.examples import PROGRAMS, char_rnn, char_transformer, chars
from tinygrad_ai.functional import cross_entropy
from tinygrad_ai.io import save
from tinygrad_ai.train.terminal import Terminal

NAMES = ("char-rnn", "char-transformer")


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def terminal():
    return Terminal(io.StringIO())


@pytest.fixture
def tiny(monkeypatch):
    """Settings of a program for two thousand characters, of which little is written."""
    monkeypatch.setitem(chars.DATA, "tiny", (2000, 1000))
    monkeypatch.setattr(chars, "WRITTEN", 60)
    monkeypatch.setattr(chars, "SHOWN", 100)
    return lambda name: replace(PROGRAMS[name].defaults[0], data="tiny", epochs=1, batch_size=4)


def tokens(rng, *shape):
    return Tensor(rng.integers(2, len(chars.vocabulary()), shape))


# ------------------------------------------------------------------------------------ the text


def test_the_text_is_the_plays_and_their_ends() -> None:
    train, held = chars.tokens("shakespeare")
    assert chars.vocabulary().decode(train) == data.shakespeare()
    assert chars.vocabulary().decode(held) == data.shakespeare("validation")
    small, end = chars.tokens("shakespeare-small")
    assert (len(small), len(end)) == (150_000, 15_000)
    assert chars.vocabulary().decode(small).startswith("HAMLET, PRINCE OF DENMARK")
    np.testing.assert_array_equal(end, held[:15_000])


def test_streams_go_on_from_batch_to_batch() -> None:
    text = np.arange(1003)
    x, y = chars.streams(text, count=5, length=7)
    assert x.shape == y.shape == (28 * 5, 7)
    np.testing.assert_array_equal(y, x + 1)
    for stream in range(5):
        read = x[stream::5].ravel()
        np.testing.assert_array_equal(read, np.arange(28 * 7) + stream * 28 * 7)


def test_windows_step_by_the_stride_and_end_within_the_text() -> None:
    x, y = chars.windows(np.arange(101), length=10, stride=3)
    np.testing.assert_array_equal(x[:, 0], np.arange(0, 91, 3))
    np.testing.assert_array_equal(x - x[:, :1], np.broadcast_to(np.arange(10), x.shape))
    np.testing.assert_array_equal(y, x + 1)
    assert y.max() == 100


# ----------------------------------------------------------------------------------- the models


def test_carrying_the_state_is_reading_in_one_go(rng) -> None:
    model = char_rnn.build()
    carried = char_rnn.Carried(model, 3)
    text = tokens(rng, 3, 30)
    whole, _ = model(text)
    parts = [carried(text[:, k : k + 10]) for k in (0, 10, 20)]
    found = np.concatenate([part.numpy() for part in parts], axis=2)
    np.testing.assert_allclose(found, whole.numpy().swapaxes(1, 2), atol=1e-5)


def test_gradients_end_where_the_batch_begins(rng) -> None:
    model = char_rnn.build()
    carried = char_rnn.Carried(model, 2)
    first, second = tokens(rng, 2, 6), tokens(rng, 2, 5)
    cotangent = Tensor(rng.standard_normal((2, len(chars.vocabulary()), 5)).astype(np.float32))
    carried(first)
    state = carried.state.numpy().copy()
    (carried(second) * cotangent).sum().backward()
    found = {name: p.grad.numpy() for name, p in model.named_parameters()}
    model.zero_grad()
    scores, _ = model(second, Tensor(state))
    (scores.swapaxes(1, 2) * cotangent).sum().backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("begin", [nn.Module.train, nn.Module.eval])
def test_a_pass_over_a_text_begins_without_a_state(rng, begin) -> None:
    carried = char_rnn.Carried(char_rnn.build(), 2)
    text = tokens(rng, 2, 8)
    carried.train()
    once = carried(text).numpy()
    again = carried(text).numpy()
    begin(carried) if begin is nn.Module.eval else carried.train()
    np.testing.assert_array_equal(carried(text).numpy(), once)
    assert np.abs(again - once).max() > 1e-3
    alone = tokens(rng, 1, 8)
    np.testing.assert_array_equal(carried(alone).numpy(), carried(alone).numpy())
    assert list(carried.state_dict()) == [f"model.{name}" for name in carried.model.state_dict()]


def test_the_transformer_looks_back_only(rng) -> None:
    model = char_transformer.build().eval()
    text = tokens(rng, 2, 20)
    changed = np.array(text.numpy())
    changed[:, 12] = 2 + (changed[:, 12] - 1) % 70
    before, after = model(text).numpy(), model(Tensor(changed)).numpy()
    np.testing.assert_allclose(after[..., :12], before[..., :12], atol=1e-5)
    assert (np.abs(after - before).max(axis=(0, 1))[12:] > 1e-3).all()
    layers = model.attention(text)
    assert len(layers) == char_transformer.LAYERS
    for weights in layers:
        assert weights.shape == (2, char_transformer.HEADS, 20, 20)
        np.testing.assert_allclose(weights.numpy().sum(axis=-1), 1, rtol=1e-5)
        assert not np.triu(weights.numpy(), 1).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_follows_the_seed_and_the_prompt(name) -> None:
    random.manual_seed(0)
    model = PROGRAMS[name].build()
    text = model.write("To be, or", 70, seed=3)
    assert len(text) == 79
    assert text.startswith("To be, or")
    assert set(text) <= set(data.shakespeare("all"))
    assert model.write("To be, or", 70, seed=3) == text
    assert model.write("To be, or", 70, seed=4) != text


# --------------------------------------------------------------------------------- the programs


@pytest.mark.parametrize("name", NAMES)
def test_a_run_learns_measures_and_draws(name, tiny, tmp_path, terminal) -> None:
    settings = tiny(name)
    run = PROGRAMS[name].prepare(settings)
    before = run.test()
    assert before["loss"] == pytest.approx(run.chance, abs=0.5)
    history = run.fit(False)
    after = run.test()
    assert after["loss"] < before["loss"] - 0.3
    assert after["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
    for file, draw in run.pictures.items():
        draw(tmp_path / file)
        assert (tmp_path / file).stat().st_size > 50
    text = (tmp_path / "generated.txt").read_text(encoding="utf-8")
    assert text == run.model.write(chars.PROMPT, chars.WRITTEN, settings.seed)
    lines = run.show(terminal)
    assert lines[0] == "  Ham."
    assert max(map(len, lines)) <= terminal.columns
    again = PROGRAMS[name].prepare(settings)
    again.fit(False)
    assert again.test() == after


def test_measuring_reads_the_text_from_its_beginning(tiny) -> None:
    run = PROGRAMS["char-rnn"].prepare(tiny("char-rnn"))
    x, y = chars.streams(chars.tokens("tiny")[1], 4, char_rnn.LENGTH)
    assert run.test() == run.test()
    state, losses = None, []
    with no_grad():
        for k in range(0, len(x), 4):
            scores, state = run.model(Tensor(x[k : k + 4]), state)
            losses.append(cross_entropy(scores.swapaxes(1, 2), Tensor(y[k : k + 4])).item())
    assert run.test()["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_predict_goes_on_with_texts(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(chars, "SHOWN", 50)
    path = tmp_path / "model.safetensors"
    model = PROGRAMS["char-rnn"].build()
    save(model, path, {"program": "char-rnn", "input": chars.INPUT})
    assert main(["predict", str(path), "ROMEO:\nO", "JULIET.", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    written = {found["text"]: found["written"] for found in result["predictions"]}
    assert written == {text: model.write(text, 50, seed=0) for text in ("ROMEO:\nO", "JULIET.")}
    assert main(["predict", str(path), "ROMEO:\nO", ""]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("  ROMEO:\n  O")
    assert err.startswith("tinygrad-ai: error: ")


# ------------------------------------------------------------------------------------ the twins


@pytest.mark.peers
@pytest.mark.parametrize("name", NAMES)
def test_the_twin_is_the_same_program(name, tiny, monkeypatch) -> None:
    import torch  # noqa: PLC0415 - of the extra `ci`

    from benchmarks.twins import chars as twins  # noqa: PLC0415 - it imports torch

    settings = tiny(name)
    run = PROGRAMS[name].prepare(settings)
    classes = {"char-rnn": twins.CharRNN, "char-transformer": twins.CharTransformer}
    theirs = classes[name](len(chars.vocabulary()))
    start = {n: torch.from_numpy(np.array(t.numpy())) for n, t in run.model.state_dict().items()}
    assert {n: t.shape for n, t in theirs.state_dict().items()} == {
        n: t.shape for n, t in start.items()
    }
    for n, drawn in theirs.state_dict().items():  # the same distribution at the start
        assert float(drawn.std(correction=0)) == pytest.approx(
            float(start[n].std(correction=0)), rel=0.35, abs=1e-6
        )

    class Same(classes[name]):
        def __init__(self, characters: int) -> None:
            super().__init__(characters)
            self.load_state_dict(start)

    monkeypatch.setattr(twins, classes[name].__name__, Same)
    monkeypatch.setattr(torch, "randperm", torch.arange)
    found = twins.TWINS[name](settings)
    run.fit.keywords["shuffle"] = False
    run.fit(False)
    assert run.test() == pytest.approx(found, rel=2e-3, abs=2e-3)
