"""The mutation score: which mutants this library's own suite kills."""

from __future__ import annotations

import concurrent.futures
import functools
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.corner_cases import CORNER_CASES, check_case, records_of
from tinygrad_ai.testing.independent import independent_call
from tinygrad_ai.testing.mutants import Mutant, engine_mutants, mutants_of
from tinygrad_ai.testing.suite import gradients, signed, suite

#: How many input elements a mutant must agree on before it counts as equivalent.
ELEMENTS = 10_000
ENGINE = "engine"
#: The records whose suites stand for the engine: fan-out, broadcasting, several inputs.
_ENGINE_RECORDS = ("add", "multiply", "where", "matmul", "conv", "broadcast_to", "square")


@dataclass(frozen=True)
class Survivor:
    """A mutant that nothing noticed, though it is wrong: at ``evidence`` it differs."""

    mutant: str
    evidence: str


@dataclass
class MutationScore:
    """What became of the mutants. ``score`` is killed / (total - equivalent)."""

    total: int = 0
    killed: int = 0
    equivalent: list[str] = field(default_factory=list)
    survivors: list[Survivor] = field(default_factory=list)
    kinds: dict[str, list[int]] = field(default_factory=dict)  # kind -> [killed, that count]

    @property
    def score(self) -> float:
        counted = self.total - len(self.equivalent)
        return self.killed / counted if counted else 1.0

    def add(self, other: MutationScore) -> None:
        """Adds the mutants of another score."""
        self.total += other.total
        self.killed += other.killed
        self.equivalent += other.equivalent
        self.survivors += other.survivors
        for kind, (killed, counted) in other.kinds.items():
            mine = self.kinds.setdefault(kind, [0, 0])
            mine[0] += killed
            mine[1] += counted

    def text(self) -> str:
        """A table of the kinds, the survivors with the evidence against them, and the score."""
        lines = [f"{'kind of mistake':34}{'killed':>8}{'of':>7}"]
        for kind, (killed, counted) in sorted(self.kinds.items()):
            lines.append(f"{kind:34}{killed:8}{counted:7}")
        lines += [f"survived: {s.mutant}\n   {s.evidence}" for s in self.survivors]
        lines.append(
            f"{self.killed} of {self.total - len(self.equivalent)} mutants killed, score "
            f"{self.score:.4f}; {len(self.equivalent)} more are equivalent"
        )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "total": self.total,
            "killed": self.killed,
            "score": self.score,
            "equivalent": self.equivalent,
            "survivors": [vars(s) for s in self.survivors],
            "kinds": {k: {"killed": a, "of": b} for k, (a, b) in sorted(self.kinds.items())},
        }


def mutation_score(
    records: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[str, MutationScore], None] | None = None,
) -> MutationScore:
    """Runs this library's own suite against every mutant of ``records`` (names; all, and the
    engine, by default), of ``kinds`` only where given, in ``jobs`` processes.

    A mutant that survives counts as equivalent only if its values and gradients agree with the
    original's on 10,000 input elements of an independent sampler. ``progress`` is called after
    each record with its name and score. Raises KeyError for an unknown record.
    """
    names = [*PRIMITIVES, ENGINE] if records is None else list(records)
    unknown = [name for name in names if name not in PRIMITIVES and name != ENGINE]
    if unknown:
        raise KeyError(f"no operation {unknown[0]!r}")
    chosen = None if kinds is None else frozenset(kinds)
    total = MutationScore()
    if jobs == 1:
        parts: Iterable[MutationScore] = (score_of(name, chosen, seed) for name in names)
        for name, part in zip(names, parts, strict=True):
            total.add(part)
            if progress:
                progress(name, part)
        return total
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        parts = pool.map(score_of, names, [chosen] * len(names), [seed] * len(names))
        for name, part in zip(names, parts, strict=True):
            total.add(part)
            if progress:
                progress(name, part)
    return total


def score_of(name: str, kinds: frozenset[str] | None = None, seed: int = 0) -> MutationScore:
    """The score of one record, or of the engine."""
    result = MutationScore()
    test = _engine_suite if name == ENGINE else _record_suite(PRIMITIVES[name])
    test(seed)  # what fails without a mutant cannot tell anything
    mutants = engine_mutants() if name == ENGINE else mutants_of(PRIMITIVES[name])
    for mutant in mutants:
        if kinds is not None and mutant.kind not in kinds:
            continue
        result.total += 1
        tally = result.kinds.setdefault(mutant.kind, [0, 0])
        if _killed(mutant, test, seed):
            result.killed += 1
            tally[0] += 1
            tally[1] += 1
            continue
        watched = _ENGINE_RECORDS if name == ENGINE else (name,)
        evidence = next(filter(None, (_difference(mutant, r) for r in watched)), None)
        if evidence is None:
            result.equivalent.append(str(mutant))
        else:
            tally[1] += 1
            result.survivors.append(Survivor(str(mutant), evidence))
    return result


def _killed(mutant: Mutant, test: Callable[[int], None], seed: int) -> bool:
    with mutant.applied(), np.errstate(all="ignore"):
        try:
            test(seed)
        except Exception:
            return True
    return False


def _record_suite(record: Primitive) -> Callable[[int], None]:
    """The properties of a record, then the corner cases that use it."""
    cases = [case for case in CORNER_CASES if record.name in records_of(case)]

    def test(seed: int) -> None:
        suite(record, np.random.default_rng([seed, zlib.crc32(record.name.encode())]))
        for case in cases:
            check_case(case)

    return test


def _engine_suite(seed: int) -> None:
    for name in _ENGINE_RECORDS:
        suite(PRIMITIVES[name], np.random.default_rng(seed))
    for case in CORNER_CASES:
        check_case(case)
    fan_out(np.random.default_rng(seed))


def fan_out(rng: np.random.Generator) -> None:
    """Assert that a value used three times, and a leaf reached by two backwards, add up."""
    x = Tensor(rng.standard_normal((2, 3)), requires_grad=True)
    v, w = signed(rng, (2, 3)), signed(rng, (2, 3))
    (x * v + (x * w) * x - x).backward(np.ones((2, 3)))
    expected = v + 2 * w * x.numpy() - 1
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)
    (x * v).backward(np.ones((2, 3)))
    np.testing.assert_allclose(x.grad.numpy(), expected + v, rtol=1e-12)
    (x * w).backward(np.ones((2, 3)), create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), expected + v + w, rtol=1e-12)


@functools.lru_cache(maxsize=8)
def _probes(name: str) -> list[tuple[Any, list[Any]]]:
    """Calls of the independent sampler, together :data:`ELEMENTS` input elements, and what the
    record answers. Calls that the operation itself refuses (a singular matrix) are left out."""
    record = PRIMITIVES[name]
    rng = np.random.default_rng([20_011, zlib.crc32(name.encode())])
    probes, seen = [], 0
    while seen < ELEMENTS:
        call = independent_call(record, rng)
        try:
            probes.append((call, _answers(record, call)))
        except ValueRangeError:
            continue
        seen += max(sum(x.size for x in call[0]), 1)
    return probes


def _difference(mutant: Mutant, name: str) -> str | None:
    """Where the mutant differs from the record on the independent calls, if anywhere."""
    probes = _probes(name)
    with mutant.applied():
        for call, right in probes:
            try:
                wrong = _answers(PRIMITIVES[name], call)
            except Exception as error:
                return f"raises {type(error).__name__} for {_shown(call)}"
            for a, b in zip(right, wrong, strict=True):
                scale = (
                    float(np.abs(a[np.isfinite(a)]).max(initial=0)) if a.dtype.kind == "f" else 0
                )
                if a.shape != b.shape or not np.allclose(a, b, 1e-9, 1e-12 * scale, equal_nan=True):
                    return f"differs at {_shown(call)}"
    return None


def _answers(record: Primitive, call: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        y = np.asarray(record.evaluate(*call))
        if not record.differentiable:
            return [y]
        v = np.cos(np.arange(y.size) + 0.5).reshape(y.shape)
        return [y, *gradients(record, call, v)]


def _shown(call: Any) -> str:
    inputs, params = call
    text = ", ".join(np.array2string(x, precision=3, threshold=6, separator=",") for x in inputs)
    return " ".join(f"({text}) {params or ''}".split())[:160]
