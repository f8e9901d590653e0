"""``tinygrad-ai check``: tables, JSON, exit status, and errors."""

import json
import sys

import pytest

from tinygrad_ai.cli import main
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing.mutants import mutants_of
from tinygrad_ai.testing.records import check_record


def ran(capsys, *arguments):
    status = main(["check", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def test_one_operation(capsys):
    status, out, err = ran(capsys, "--op", "tanh")
    assert status == 0
    header, row, total = out.splitlines()
    assert header.split() == ["operation", "kind", "checks", "margin", "verdict"]
    assert row.split()[:2] == ["tanh", "elementwise"] and row.endswith("pass")
    assert total.startswith("1 operations: 1 pass")
    assert err == "1/1 tanh\n"


def test_every_operation_passes(capsys):
    status, out, err = ran(capsys, "--json")
    body = json.loads(out)
    assert len(out.splitlines()) == 1
    assert [r["name"] for r in body["operations"]] == list(PRIMITIVES)
    assert status == 0, [r for r in body["operations"] if r["verdict"] == "fail"]
    assert body["verdict"] == "pass" and body["seed"] == 0
    assert all(
        (r["margin"] is not None and r["margin"] <= 1) == PRIMITIVES[r["name"]].differentiable
        for r in body["operations"]
    )
    assert sum(r["verdict"] == "inconclusive" for r in body["operations"]) <= 2
    assert err.startswith("20/") and "\033" not in err


def test_a_wrong_rule_fails_with_status_1(capsys):
    mutant = next(m for m in mutants_of(PRIMITIVES["tanh"]) if m.kind == "dropped term")
    with mutant.applied():
        status, out, _ = ran(capsys, "--op", "tanh")
        result = check_record(PRIMITIVES["tanh"])
    assert status == 1
    assert "fail" in out.splitlines()[1] and "gradient" in out.splitlines()[2]
    assert out.splitlines()[-1].startswith("1 operations: 1 fail")
    assert result.verdict == "fail" and "difference" in result.text


def test_the_seed_changes_what_is_drawn(capsys):
    margins = set()
    for seed in ("0", "0", "7"):
        _, out, _ = ran(capsys, "--op", "cofactor", "--json", "--seed", seed)
        margins.add(json.loads(out)["operations"][0]["margin"])
    assert len(margins) == 2


def test_mutation_score_of_one_operation(capsys):
    status, out, err = ran(capsys, "--mutate", "--op", "sigmoid")
    assert status == 0
    assert "kind of mistake" in out and "score 1.0000" in out.splitlines()[-1]
    assert err.startswith("1/1 sigmoid: ")
    status, out, _ = ran(capsys, "--mutate", "--op", "sigmoid", "--json")
    body = json.loads(out)
    assert body["score"] == 1 and body["killed"] + len(body["equivalent"]) == body["total"]


def test_corner_cases(capsys):
    status, out, err = ran(capsys, "--corner-cases")
    assert status == 0
    assert out.splitlines()[0].split()[:2] == ["case", "tinygrad_ai"]
    assert "tinygrad_ai: 75 of 75 right" in out
    assert "running 75 cases on tinygrad_ai" in err
    status, out, _ = ran(capsys, "--corner-cases", "--json")
    body = json.loads(out)
    assert status == 0 and body["right"] == {"tinygrad_ai": 75}
    assert {c["verdict"] for c in body["cases"]["tinygrad_ai"]} == {"right"}


@pytest.mark.peers
def test_corner_cases_against_torch(capsys):
    status, out, _ = ran(capsys, "--corner-cases", "--against", "torch")
    assert status == 0  # torch's mistakes are not ours
    (row,) = [line for line in out.splitlines() if line.startswith("det-singular")]
    assert row.split()[1:4] == ["right", "wrong", "gradient"]
    assert "wrong gradient" in out.splitlines()[-2]


def test_a_wrong_corner_case_fails(capsys):
    mutant = next(
        m for m in mutants_of(PRIMITIVES["det"]) if m.kind == "sign" and m.where == "vjp 0"
    )
    with mutant.applied():
        status, out, _ = ran(capsys, "--corner-cases")
    assert status == 1 and "74 of 75 right, 1 wrong gradient" in out


def test_a_library_that_is_not_installed_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setattr("tinygrad_ai.testing.frameworks._made", {})
    status, out, err = ran(capsys, "--corner-cases", "--against", "jax")
    assert status == 1 and out == ""
    assert "error: jax is not installed" in err and "help: pip install jax" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "tanhh"], "no operation 'tanhh', did you mean tanh?"),
        (["--op", "zzzzzz"], "no operation 'zzzzzz'; there are zero, add"),
        (["--against", "torch"], "--against goes with --corner-cases"),
        (["--corner-cases", "--against", "torhc"], "no framework 'torhc', did you mean torch?"),
        (["--corner-cases", "--mutate"], "not allowed with argument"),
        (["--corner-cases", "--op", "tanh"], "--op does not go with --corner-cases"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "1.5"], "'1.5' is not a whole number"),
        (["--mutat"], "unrecognized arguments: --mutat"),
    ],
)
def test_wrong_usage_exits_2(capsys, arguments, message):
    status, out, err = ran(capsys, *arguments)
    assert status == 2 and out == ""
    assert message in err.splitlines()[0] and err.splitlines()[-1].endswith("--help")
