"""The numeric cases in which autodiff libraries have been wrong, as data, and who gets them right.

Every case is an expression over ``F`` (functions under this library's names) and inputs ``a``,
``b``, with the value and the gradients for one cotangent that it must have. Of its three kinds,
``math`` has one right answer; ``sub`` is a choice among subgradients and ``pol`` a policy at a
singular point, where another library may decide otherwise.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import newest_first
from tinygrad_ai.testing.frameworks import Framework, Ours, framework


@dataclass(frozen=True)
class CornerCase:
    """One case. ``value`` and ``grads`` are what is right (None: the gradient of that input is not
    asked); ``v`` is the cotangent; ``order`` 2 asks for the gradient of the sum of the gradients.
    ``src`` says where it came up."""

    id: str
    expr: str
    inputs: tuple[Any, ...]
    value: Any
    grads: tuple[Any, ...]
    kind: str
    src: str
    v: Any
    dtype: str
    order: int

    def __str__(self) -> str:
        return self.id

    @property
    def tolerance(self) -> float:
        """The relative error allowed."""
        return 1e-10 if self.dtype == "float64" else 1e-3


@dataclass(frozen=True)
class Outcome:
    """What a framework gave for a case. ``value`` and ``grads`` are arrays (None where it gave
    nothing); ``error`` says why there is no answer, else it is empty."""

    case: CornerCase
    framework: str
    value_ok: bool
    gradient_ok: bool
    value: Any = None
    grads: tuple[Any, ...] = ()
    error: str = ""

    @property
    def ok(self) -> bool:
        """Value and gradients are right."""
        return self.value_ok and self.gradient_ok

    @property
    def verdict(self) -> str:
        """``right``, ``missing``, ``wrong value``, ``wrong gradient``; where the case is a matter
        of choice, ``other choice`` in place of ``wrong gradient``."""
        if self.error:
            return "missing"
        if not self.value_ok:
            return "wrong value"
        if not self.gradient_ok:
            return "wrong gradient" if self.case.kind == "math" else "other choice"
        return "right"

    def gave(self) -> str:
        """What it gave, where that is not right: the value or the gradients in a few characters."""
        if self.error:
            return self.error
        shown = [self.value] if not self.value_ok else [] if self.gradient_ok else self.grads
        return "  ".join("none" if x is None else _short(x) for x in shown)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "id": self.case.id,
            "framework": self.framework,
            "verdict": self.verdict,
            "value_ok": self.value_ok,
            "gradient_ok": self.gradient_ok,
            "gave": self.gave(),
        }


def _short(x: Any) -> str:
    return " ".join(np.array2string(np.asarray(x), precision=4, threshold=6, edgeitems=2).split())


def _array(data: Any, dtype: str) -> Any:
    """``data`` as an array; strings such as ``"zeros(0,3)"`` and ``"full(70000,0.5)"`` make one."""
    if not isinstance(data, str):
        return np.array(data, dtype=dtype)
    name, _, rest = data.partition("(")
    numbers = json.loads(f"[{rest[:-1]}]")
    return (
        np.full(numbers[0], numbers[1], dtype)
        if name == "full"
        else getattr(np, name)(numbers, dtype)
    )


def _read() -> Iterator[CornerCase]:
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    for entry in json.loads(text):
        dtype = entry["dtype"]
        value = _array(entry["value"], dtype)
        v = entry["v"]
        yield CornerCase(
            **{f.name: entry[f.name] for f in fields(CornerCase)}
            | {
                "inputs": tuple(_array(x, dtype) for x in entry["inputs"]),
                "value": value,
                "grads": tuple(None if g is None else _array(g, dtype) for g in entry["grads"]),
                "v": np.ones(value.shape, dtype) if v is None else _array(v, dtype),
            }
        )


#: Every case.
CORNER_CASES: tuple[CornerCase, ...] = tuple(_read())


def run_corner_cases(
    name: str = "tinygrad_ai", cases: Sequence[CornerCase] = CORNER_CASES
) -> list[Outcome]:
    """What the framework ``name`` (tinygrad_ai, torch, jax, autograd, or a registered one) gives
    for every case. Raises ValueRangeError for an unknown name and ImportError if it is not
    installed. A framework that fails or lacks a function has an outcome with an ``error``."""
    other = framework(name)
    return [run_case(case, other) for case in cases]


def run_case(case: CornerCase, other: Framework) -> Outcome:
    """What one framework gives for one case."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value, grads = other.differentiate(_function(case, other), case)
    except Exception as error:
        if isinstance(error, AttributeError) and error.obj is other.functions:
            return Outcome(case, other.name, False, False, error=f"no {error.name}")
        text = str(error).partition("\n")[0][:60]
        return Outcome(case, other.name, False, False, error=f"{type(error).__name__}: {text}")
    gradient_ok = all(
        expected is None or (g is not None and _agree(g, expected, case))
        for g, expected in zip(grads, case.grads, strict=True)
    )
    value_ok = _agree(value, case.value, case)
    return Outcome(case, other.name, value_ok, gradient_ok, value, tuple(grads))


def _function(case: CornerCase, other: Framework) -> Any:
    code = compile(case.expr, case.id, "eval")

    def f(*inputs: Any) -> Any:
        return eval(code, {"F": other.functions}, dict(zip("abcdef", inputs, strict=False)))

    return f


def _agree(found: Any, expected: Any, case: CornerCase) -> bool:
    found = np.asarray(found)
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and np.allclose(found, expected, case.tolerance, 1e-13 * scale, equal_nan=True)
    )


def check_case(case: CornerCase) -> None:
    """Assert that this library gets ``case`` right."""
    outcome = run_case(case, framework("tinygrad_ai"))
    assert outcome.ok, f"{case.id}: {case.expr}: {outcome.verdict}: {outcome.gave()}"


@functools.cache
def _records() -> dict[str, frozenset[str]]:
    ours = Ours()
    found = {}
    for case in CORNER_CASES:
        out = _function(case, ours)(*ours.leaves(case))
        nodes = newest_first({out.node: None}) if out.node is not None else []
        found[case.id] = frozenset(n.primitive.name for n in nodes if n.primitive is not None)
    return found


def records_of(case: CornerCase) -> frozenset[str]:
    """The names of the operations through which the gradient of ``case`` flows in this library."""
    return _records()[case.id]
