"""Mutation testing: the tests notice nearly every mistake, and mutants leave nothing behind."""

import json
import re

import numpy as np
import pytest

from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing.independent import independent_call
from tinygrad_ai.testing.mutants import engine_mutants, mutants_of
from tinygrad_ai.testing.mutation import MutationScore, mutation_score, score_of
from tinygrad_ai.testing.references import REFERENCES
from tinygrad_ai.testing.suite import gradients, suite

SAMPLE = ["tanh", "multiply", "maximum", "matmul", "sum", "permute", "softmax", "index"]


def answers(name):
    """Values and gradients at a few calls."""
    record, found = PRIMITIVES[name], []
    for seed in range(8):
        call = independent_call(record, np.random.default_rng(seed))
        y = np.asarray(record.evaluate(*call))
        v = np.cos(2.5 + np.arange(y.size)).reshape(y.shape)
        found += [y, *gradients(record, call, v)]
    return found


def found(name, where, kind, text=""):
    return [
        m
        for m in mutants_of(PRIMITIVES[name])
        if m.where.startswith(where) and m.kind == kind and text in m.description
    ]


@pytest.mark.parametrize(
    ("name", "where", "kind", "text"),
    [
        ("tanh", "vjp 0", "sign", "-rule(g)"),
        ("tanh", "vjp 0", "factor", "2 * rule(g)"),
        ("tanh", "vjp 0", "factor", "last axis"),
        ("tanh", "vjp 0", "dropped term", "1 - y * y  →  1"),
        ("tanh", "vjp 0", "stale input", "x for y"),
        ("tanh", "vjp 0", "ones instead of g", ""),
        ("tanh", "vjp 0", "|g|", ""),
        ("tanh", "vjp 0", "float32 inside", ""),
        ("tanh", "forward", "off by epsilon", ""),
        ("multiply", "vjp 1", "stale input", "b for a"),
        ("maximum", "vjp 0", "swapped arguments", "b, a"),
        ("maximum", "vjp 0", "wrong branch", "a > b  →  a < b"),
        ("matmul", "vjp 0", "swapped arguments", "matmul_("),
        ("permute", "vjp 0", "permutation not inverted", "argsort"),
        ("scatter", "forward", "overwrite instead of accumulate", "__setitem__"),
        ("overlap_add", "forward", "overwrite instead of accumulate", "+="),
        ("softmax", "vjp 0", "mean instead of sum", ""),
    ],
)
def test_a_mutant_changes_answers_and_is_undone(name, where, kind, text):
    (mutant, *_) = found(name, where, kind, text)
    before = answers(name)
    with mutant.applied():
        try:
            during = answers(name)
        except Exception:
            during = None
    assert during is None or any(
        not np.array_equal(a, b) for a, b in zip(before, during, strict=True)
    )
    for a, b in zip(before, answers(name), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_rule_has_mutants_of_every_generic_kind():
    for name, record in PRIMITIVES.items():
        mutants = mutants_of(record)
        assert len({(m.where, m.kind, m.description) for m in mutants}) == len(mutants)
        for i, rule in enumerate(record.rules):
            kinds = {m.kind for m in mutants if m.where == f"vjp {i}"}
            assert rule is None or kinds >= {"sign", "factor", "|g|", "float32 inside"}, name
        assert {"sign", "factor"} <= {m.kind for m in mutants if m.where == "forward"}, name


def test_the_engine_is_mutated_too():
    kinds = {m.kind for m in engine_mutants()}
    assert kinds >= {"no unbroadcast", "mean instead of sum", "dropped term"}


def test_a_mutant_that_raises_is_undone():
    record = PRIMITIVES["tanh"]
    mutant = mutants_of(record)[0]
    forward, rules = record.forward, record.rules
    with pytest.raises(ZeroDivisionError), mutant.applied():
        _ = 1 / 0
    assert record.forward is forward and record.rules is rules


def test_every_operation_has_a_reference_and_passes_its_suite():
    assert set(REFERENCES) == set(PRIMITIVES)
    for name, record in PRIMITIVES.items():
        try:
            suite(record, np.random.default_rng(11), examples=2)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error


def test_the_independent_sampler_makes_valid_calls_of_other_shapes():
    rng = np.random.default_rng(3)
    for name, record in PRIMITIVES.items():
        shapes = set()
        for _ in range(12):
            inputs, params = independent_call(record, rng)
            shapes.add(tuple(x.shape for x in inputs))
            if name not in ("inv", "solve", "cholesky", "logabsdet"):  # may be singular
                record.evaluate(inputs, params)
        assert len(shapes) > 1 or name in ("astype", "leaky_relu", "elu", "sinc", "transfer"), name


def test_the_score_of_a_sample_of_operations():
    score = mutation_score(SAMPLE)
    assert score.total > 250 and score.score >= 0.98, score.text()
    assert score.killed + len(score.equivalent) + len(score.survivors) == score.total
    assert sum(killed for killed, _ in score.kinds.values()) == score.killed
    body = json.loads(json.dumps(score.to_json()))
    assert body["score"] == score.score
    assert re.search(r"\d+ of \d+ mutants killed, score [01]\.\d{4}; \d+ more", score.text())


def test_a_mutant_that_changes_nothing_is_equivalent_and_a_blind_suite_is_told(monkeypatch):
    flat = score_of("floor", frozenset({"sign"}))  # the gradient is 0 and -0 equals it
    assert flat.equivalent == ["floor, vjp 0: sign: -rule(g)"]
    monkeypatch.setattr("tinygrad_ai.testing.mutation.suite", lambda record, rng: None)
    blind = score_of("cosh", frozenset({"sign"}))
    assert [s.mutant for s in blind.survivors] == [
        "cosh, forward: sign: -y, not y",
        "cosh, vjp 0: sign: -rule(g)",
    ]
    assert blind.score == 0 and blind.survivors[0].evidence.startswith("differs at (")
    assert "survived: cosh" in blind.text()


def test_the_same_in_two_processes_and_unknown_names():
    kinds = ["sign", "factor"]
    one, two = (mutation_score(["tanh", "exp"], kinds, jobs=n) for n in (1, 2))
    assert one == two and one.total == 2 * 6
    with pytest.raises(KeyError, match="no operation 'tanhh'"):
        mutation_score(["tanhh"])
    assert MutationScore().score == 1


@pytest.mark.deep
def test_the_score_over_all_operations():
    """About two minutes on two cores."""
    score = mutation_score(jobs=2)
    print(score.text())
    assert score.score >= 0.98, score.text()
