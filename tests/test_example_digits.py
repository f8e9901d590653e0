"""The programs for handwritten digits beyond the perceptrons: CNN, autoencoder, pre-training."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from benchmarks import quality
from tinygrad_ai import Tensor, functional, io, plots
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.cli import main
from tinygrad_ai.data import mnist_small
from tinygrad_ai.data.digits import Split
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.examples import PROGRAMS, Settings, autoencoder, digits, finetune
from tinygrad_ai.train import History, LambdaCallback, Trainer

PICTURES = {
    "mnist-cnn": ["confusion.png", "curves.png"],
    "autoencoder": ["curves.png", "latent.png", "reconstructions.png"],
    "finetune": ["arms.png", "confusion.png", "curves.png"],
}


def few_digits() -> Split:
    (x, y), (x_test, y_test) = mnist_small()
    return (x[:2000], y[:2000]), (x_test[:500], y_test[:500])


def shortened(patch: pytest.MonkeyPatch, epochs: int) -> None:
    """The bundled digits become few, the labelled ones are learned for ``epochs`` a stage."""
    patch.setitem(digits.DATA, "mnist-small", few_digits)
    for stage in ("SCRATCH", "HEAD", "ALL"):
        patch.setattr(finetune, stage, {**getattr(finetune, stage), "epochs": epochs})


@pytest.fixture
def few(monkeypatch) -> None:
    shortened(monkeypatch, epochs=2)


@pytest.fixture(scope="module", params=PICTURES)
def trained(request, tmp_path_factory):
    """A program trained for one epoch on few digits: its name, folder and JSON."""
    name = request.param
    out = tmp_path_factory.mktemp("runs") / name
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch:
        shortened(patch, epochs=10)
        arguments = ["train", name, "--epochs=1", "--json", f"--out={out}", *FAST[name]]
        with contextlib.redirect_stdout(printed):
            assert main(arguments) == 0
    return name, out, json.loads(printed.getvalue())


FAST = {
    "mnist-cnn": ["--batch-size=16"],
    "autoencoder": ["--batch-size=16", "--lr=0.008"],
    "finetune": ["--batch-size=50"],
}
FLOORS = {"mnist-cnn": 0.8, "finetune": 0.75}


def test_a_short_run_learns_and_writes_its_pictures(trained) -> None:
    name, out, result = trained
    assert result["epochs"] == 1
    assert sorted(path.name for path in out.glob("*.png")) == PICTURES[name]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    if name in FLOORS:
        assert result["test"]["accuracy"] > FLOORS[name]
    else:
        assert 0.06 < result["test"]["loss"] < 0.17  # guessing is 0.207
    if name == "finetune":
        assert result["test"]["scratch_accuracy"] > 0.75
        assert result["test"]["scratch_loss"] != result["test"]["loss"]


def test_predict_reads_digits_or_says_why_not(trained, tmp_path, capsys) -> None:
    name, out, _ = trained
    (x, y), _ = few_digits()
    paths = [str(tmp_path / f"{k}.png") for k in range(10)]
    for path, digit in zip(paths, x, strict=False):
        Image.fromarray((255 - 255 * digit).astype(np.uint8)).resize((84, 84)).save(path)
    status = main(["predict", str(out / "model.safetensors"), *paths, "--json"])
    printed, err = capsys.readouterr()
    if name == "autoencoder":
        assert status == 1
        assert "it is a model of the program autoencoder" in err
    else:
        assert status == 0
        found = [p["digit"] for p in json.loads(printed)["predictions"]]
        assert np.mean(found == y[:10]) >= 0.7


def test_the_model_file_is_that_of_the_program(trained) -> None:
    name, out, _ = trained
    path = out / "model.safetensors"
    model = PROGRAMS[name].build()
    model.load_state_dict(io.load(path))
    assert io.read_metadata(path)["architecture"] == repr(model)


# -------------------------------------------------------------------------------------- models


def test_programs_have_the_layers_they_promise() -> None:
    shapes = {
        n: {k: t.shape for k, t in PROGRAMS[n].build().state_dict().items()} for n in PICTURES
    }
    weights = [s for s in shapes["mnist-cnn"].values() if len(s) > 1]
    assert weights == [(16, 1, 3, 3), (32, 16, 3, 3), (10, 800)]
    assert shapes["autoencoder"]["encoder.1.weight"] == (256, 784)
    assert shapes["autoencoder"]["decoder.0.weight"] == (784, 256)
    assert {k.split(".")[0] for k in shapes["finetune"]} == {"encoder", "head"}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("shape", [(2, 29, 29), (2, 14, 56), (2, 784), (2, 1, 28, 28), (28, 28)])
def test_a_picture_of_another_size_is_refused(name, shape) -> None:
    """29 by 29 pixels would pass through the convolutions unnoticed."""
    with pytest.raises(ShapeError, match=r"^digits must have the shape \(N, 28, 28\), not \("):
        PROGRAMS[name].build()(Tensor(np.zeros(shape, np.float32)))


def test_encoder_and_decoder_are_models_of_their_own() -> None:
    model = autoencoder.autoencoder()
    x = Tensor(few_digits()[0][0][:3])
    with no_grad():
        code = model.encoder(x)
        assert code.shape == (3, 256)
        assert (code.numpy() >= 0).all()
        np.testing.assert_array_equal(model.decoder(code).numpy(), model(x).numpy())


def test_entropy_is_the_least_loss() -> None:
    assert autoencoder.entropy(np.array([0.0, 1.0])) == 0
    assert autoencoder.entropy(np.array([0.5, 0.5, 1.0, 0.0])) == pytest.approx(math.log(2) / 2)
    x = few_digits()[1][0]
    p = x.astype(float).clip(1e-12, 1 - 1e-12)
    reached = functional.binary_cross_entropy(p, x.astype(float)).item()
    assert reached == pytest.approx(autoencoder.entropy(x), abs=1e-9)


def test_the_loss_of_guessing_is_that_of_the_mean_digit(few) -> None:
    x = few_digits()[0][0].astype(float)
    run = PROGRAMS["autoencoder"].prepare(Settings("mnist-small", 1, 100, 1e-3))
    mean = np.broadcast_to(x.mean(axis=0), x.shape)
    assert run.chance == pytest.approx(functional.binary_cross_entropy(mean, x).item(), rel=1e-6)


# ---------------------------------------------------------------------------------- fine-tuning


def test_labelled_digits_differ_by_seed_and_never_measure() -> None:
    y = np.arange(2000) % 10
    few, held = finetune.labelled(y, 0)
    assert len(set(few.tolist())) == finetune.LABELLED
    assert few.max() < held.min() == 1800
    assert held.max() == 1999
    assert set(finetune.labelled(y, 1)[0].tolist()) != set(few.tolist())


def watched(monkeypatch, stop_at: int | None = None) -> list[dict[str, np.ndarray]]:
    """The model's weights before each fit; Ctrl-C comes in number ``stop_at``."""
    seen: list[dict[str, np.ndarray]] = []
    fit = Trainer.fit

    def spied(self: Trainer, *arguments: object, **options: object) -> History:
        state = self.model.state_dict()
        seen.append({name: tensor.numpy().copy() for name, tensor in state.items()})
        stop = LambdaCallback(on_batch_end=lambda batch, logs: _interrupt())
        if len(seen) == stop_at:
            options["callbacks"] = [stop]
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", spied)
    return seen


def _interrupt() -> None:
    raise KeyboardInterrupt


QUICK = Settings("mnist-small", epochs=1, batch_size=200, lr=1e-3)


def test_the_head_learns_first_and_then_all(few, monkeypatch) -> None:
    seen = watched(monkeypatch)
    run = finetune.prepare(QUICK)
    history = run.fit(False)
    assert history.epochs == [1]
    before, scratch, head, whole = seen
    after = {name: tensor.numpy() for name, tensor in run.model.state_dict().items()}
    same = np.array_equal
    assert not same(before["encoder.1.weight"], head["encoder.1.weight"])  # pre-trained
    assert not same(scratch["encoder.1.weight"], head["encoder.1.weight"])
    assert same(head["encoder.1.weight"], whole["encoder.1.weight"])  # frozen
    assert not same(head["head.weight"], whole["head.weight"])
    assert not same(whole["encoder.1.weight"], after["encoder.1.weight"])


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_ctrl_c_in_any_stage_ends_the_run(stage, few, monkeypatch, tmp_path, capsys) -> None:
    seen = watched(monkeypatch, stage)
    arguments = ["train", "finetune", "--epochs=1", "--batch-size=200"]
    assert main([*arguments, f"--out={tmp_path}"]) == 130
    assert len(seen) == stage
    assert (tmp_path / "model.safetensors").exists()
    assert "interrupted after" in capsys.readouterr().out


# ------------------------------------------------------------------------------------- pictures


def test_the_latent_map_names_its_variance(tmp_path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((300, 3)) * [3, 1, 0] @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    plots.latent(codes, np.arange(300) % 10, tmp_path / "latent.svg")
    text = (tmp_path / "latent.svg").read_text()
    share = np.sort(np.linalg.eigvalsh(np.cov(codes.T)))[::-1] / np.cov(codes.T).trace()
    assert f"first principal component, {share[0]:.0%} of the variance" in text
    assert f"second, {share[1]:.0%}" in text


def test_pictures_stand_in_rows(tmp_path) -> None:
    black, white = np.zeros((3, 8, 8)), np.ones((3, 8, 8))
    plots.pictures([white, black], tmp_path / "rows.png", ["above", "below"])
    with Image.open(tmp_path / "rows.png") as picture:
        page = np.asarray(picture.convert("L"))
    middle = page[:, page.shape[1] // 2]
    rows = np.flatnonzero(middle == 0)
    assert (page[: len(page) // 2] == 255).mean() > (page[len(page) // 2 :] == 255).mean()
    assert len(rows) > 20


# -------------------------------------------------------------------------------------- quality


def fake(program: str, small: bool, seed: int, by: str, threads: str) -> quality.Result:
    settings = asdict(quality.settings_of(PROGRAMS[program], small, seed))
    facts = {"program": program, "by": by, "threads": threads, "settings": settings}
    return {
        **facts,
        "cpu_seconds": 2.0,
        "seconds": 1.0,
        "test": {"loss": 1.0, "accuracy": 0.9 + seed / 100},
    }


def test_finished_runs_are_not_repeated(monkeypatch, tmp_path) -> None:
    path, ran = tmp_path / "results.json", []
    monkeypatch.setattr(quality, "run", lambda *one: ran.append(one) or fake(*one))
    quiet = [].append
    first = quality.collect(["mnist-mlp"], [0], quality.BY, False, "1", 1, path, quiet)
    assert len(first) == len(ran) == 2
    both = quality.collect(["mnist-mlp"], [0, 1], quality.BY, False, "1", 1, path, quiet)
    assert len(both) == len(ran) == 4
    assert json.loads(path.read_text()) == both
    assert {seed for _, _, seed, *_ in ran[2:]} == {1}
    scores = "2 | 0.9050 ± 0.0050 | 0.9050 ± 0.0050"
    assert f"| mnist-mlp | mnist | 1 | accuracy | {scores} | 2 ± 0 |" in quality.table(both)
    all_cores = quality.collect(["mnist-mlp"], [0], ["ours"], False, "all", 1, path, quiet)
    assert len(all_cores) == len(ran) == 5
    assert "| mnist-mlp | mnist | all | accuracy | 1 | 0.9000 ± 0.0000 | – | 1 ± 0 |" in (
        quality.table(all_cores)
    )


def test_runs_with_other_settings_are_repeated(monkeypatch, tmp_path) -> None:
    path, old = tmp_path / "results.json", fake("mnist-mlp", False, 0, "ours", "1")
    old["settings"]["lr"] *= 2
    path.write_text(json.dumps([old]))
    monkeypatch.setattr(quality, "run", fake)
    found = quality.collect(["mnist-mlp"], [0], ["ours"], False, "1", 1, path, [].append)
    assert found == [fake("mnist-mlp", False, 0, "ours", "1")]


@pytest.mark.peers
@pytest.mark.parametrize("name", [*PICTURES, "mnist-mlp", "mnist-mlp-deep", "mnist-dropout"])
def test_twins_are_the_same_functions(name) -> None:
    import torch  # noqa: PLC0415 - a peer

    from benchmarks.twins.digits import twin_of  # noqa: PLC0415 - imports torch

    model = PROGRAMS[name].build().eval()
    theirs = twin_of(model).eval()
    state = {k: torch.from_numpy(v.numpy().copy()) for k, v in model.state_dict().items()}
    theirs.load_state_dict(state)
    x = few_digits()[0][0][:5]
    with no_grad():
        ours = model(Tensor(x)).numpy()
    np.testing.assert_allclose(theirs(torch.from_numpy(x)).detach().numpy(), ours, atol=2e-6)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["mnist-mlp", "autoencoder", "finetune"])
def test_twins_measure_what_the_programs_do(name, monkeypatch) -> None:
    from benchmarks.twins import twin  # noqa: PLC0415 - imports torch

    shortened(monkeypatch, epochs=10)
    run = PROGRAMS[name].prepare(QUICK)
    run.fit(False)
    ours, theirs = run.test(), twin(name)(QUICK)
    assert list(ours) == list(theirs)
    for measure in ours:
        assert theirs[measure] == pytest.approx(ours[measure], rel=0.15)
