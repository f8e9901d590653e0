"""Everything this library asks of one operation, as one call with one answer."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.testing.adapters import adapter_named
from tinygrad_ai.testing.checker import check_gradients
from tinygrad_ai.testing.properties import PROPERTIES
from tinygrad_ai.testing.report import GradReport
from tinygrad_ai.testing.samples import sample_call
from tinygrad_ai.testing.suite import suite

#: Properties that compile several kernels: asked once of each operation.
COMPILING = {"compiled", "threads"}


@dataclass(frozen=True)
class RecordResult:
    """What became of one operation: ``verdict`` pass, fail or inconclusive; ``margin`` the worst
    error of a gradient over its tolerance (None where nothing has a gradient); ``checks`` how many
    checks said something; ``text`` what failed, else empty."""

    name: str
    kind: str
    verdict: str
    margin: float | None
    checks: int
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def check_record(record: Primitive, seed: int = 0, examples: int = 3) -> RecordResult:
    """Checks ``record``: values against references, gradients at smooth points and kinks, every
    property, and :func:`check_gradients`, each at ``examples`` random calls drawn with ``seed``."""
    rng = np.random.default_rng([seed, zlib.crc32(record.name.encode())])
    margin, checks, verdict = None, 1, "pass"
    try:
        suite(record, rng)
        for k in range(examples):
            checks += _hold(record, rng, set(PROPERTIES) - (COMPILING if k else set()))
            if record.differentiable:
                report = _gradient_report(record, rng, seed)
                checks += 1
                margin = max(margin or 0.0, report.margin)
                if report.verdict == "fail":
                    raise AssertionError(report.text())
                verdict = report.verdict if verdict == "pass" else verdict
    except Exception as error:
        text = (
            str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        )
        return RecordResult(record.name, record.kind, "fail", margin, checks, text.strip())
    return RecordResult(record.name, record.kind, verdict, margin, checks)


def _hold(record: Primitive, rng: np.random.Generator, names: set[str]) -> int:
    """How many properties say something about a random call; raises where one is violated."""
    inputs, params = sample_call(record, rng)
    adapter, said = adapter_named("tinygrad_ai"), 0
    for name, check in ((n, c) for n, c in PROPERTIES.items() if n in names):
        try:
            said += check(adapter, lambda *xs: record(*xs, **params), inputs, rng)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            raise AssertionError(f"{name}: {kind}{error}") from error
    return said


def _gradient_report(record: Primitive, rng: np.random.Generator, seed: int) -> GradReport:
    """The gradient check of a random call in which something can move."""
    while True:
        inputs, params = sample_call(record, rng)
        if any(x.dtype.kind == "f" and x.size for x in inputs):
            break
    return check_gradients(
        lambda *xs: record(*xs, **params), *inputs, adapter="tinygrad_ai", seed=seed
    )
