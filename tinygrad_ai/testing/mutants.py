"""Mutation testing: every rule broken on purpose, to see whether the tests notice.

A mutant is a wrong rule, or a wrong forward rule, of one record: a mistake around the rule (sign,
factor, another input…) or a small change of its source (:mod:`tinygrad_ai.testing.rewrites`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from itertools import permutations
from types import CodeType
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive, pull_back, unbroadcast
from tinygrad_ai.autodiff.backward import accumulate
from tinygrad_ai.autodiff.primitive import Rule
from tinygrad_ai.ops.elementwise import absolute, astype, zero
from tinygrad_ai.testing.rewrites import changes, helpers

_lock = threading.RLock()  # mutants change living records: one at a time

Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Mutant:
    """One way of being wrong.

    ``where`` is "forward", "vjp 0" (the rule of input 0), or the name of a helper of the
    record's; ``kind`` the class of mistake; ``description`` what was changed. ``applied()`` is a
    context manager inside which the record is wrong.
    """

    record: str
    where: str
    kind: str
    description: str
    applied: Callable[[], AbstractContextManager[None]]

    def __str__(self) -> str:
        return f"{self.record}, {self.where}: {self.kind}: {self.description}"


# ------------------------------------------------------------------------ mistakes around a rule


def _after(change: Callable[[Any], Any]) -> Wrapper:
    """The rule's result changed."""
    return lambda rule: lambda g, *rest: change(rule(g, *rest))


def _first(change: Callable[[Any], Any]) -> Wrapper:
    """The cotangent changed before the rule sees it."""
    return lambda rule: lambda g, *rest: rule(change(g), *rest)


def _in_float32(x: Any) -> Any:
    return astype(astype(x, dtype=np.dtype(np.float32)), dtype=x.dtype)


#: kind -> (description, what becomes of the rule)
AROUND_A_RULE: dict[str, tuple[tuple[str, Wrapper], ...]] = {
    "sign": (("-rule(g)", _after(lambda c: -c)),),
    "factor": (
        ("2 * rule(g)", _after(lambda c: 2 * c)),
        ("rule(g) / 2", _after(lambda c: c * 0.5)),
        ("rule(g) * size of the last axis", _after(lambda c: c * (*c.shape, 1)[-1 - bool(c.ndim)])),
    ),
    "ones instead of g": (("rule(ones)", _first(lambda g: zero(g) + 1)),),
    "|g|": (("rule(|g|)", _first(absolute)),),
    "float32 inside": (("rule in float32", _after(_in_float32)),),
}

#: kind -> (description, what becomes of the result of the forward rule)
AROUND_THE_FORWARD: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "sign": ("-y, not y", lambda y: ~y if y.dtype.kind == "b" else -y),
    "factor": ("2 * y", lambda y: y * 2),
    "off by epsilon": ("y * (1 + 1e-7)", lambda y: y * (1 + 1e-7) if y.dtype.kind == "f" else y),
}


def mutants_of(record: Primitive) -> list[Mutant]:
    """Every mutant of ``record``, in the same order each time; none is applied."""
    found = [*_forward_mutants(record), *_rewritten(record, "forward", record.forward)]
    for i, rule in enumerate(record.rules):
        if rule is not None:
            found += _rule_mutants(record, i, rule)
            found += _rewritten(record, f"vjp {i}", rule.function)
    unique = {(m.where, m.kind, m.description): m for m in found}
    return list(unique.values())


#: The functions of the engine whose mutants :func:`engine_mutants` lists, and of which kinds.
_ENGINE: dict[Any, tuple[str, ...] | None] = {
    unbroadcast: None,
    accumulate: ("dropped term", "operator"),
    pull_back: ("dropped term", "operator"),
}


def engine_mutants() -> list[Mutant]:
    """Mutants of the backward pass itself: broadcasting not undone, overwriting, no adding up."""
    found = [
        Mutant("engine", f.__name__, kind, text, partial(_exchanged, f, code))
        for f, kinds in _ENGINE.items()
        for kind, text, code in changes(f)
        if kinds is None or kind in kinds
    ]
    identity = (lambda g, shape: g).__code__
    bare = Mutant(
        "engine", "unbroadcast", "no unbroadcast", "g", partial(_exchanged, unbroadcast, identity)
    )
    return [bare, *found]


def _forward_mutants(record: Primitive) -> Iterator[Mutant]:
    for kind, (text, change) in AROUND_THE_FORWARD.items():

        def wrong(
            *args: Any, change: Any = change, right: Any = record.forward, **params: Any
        ) -> Any:
            return np.asarray(change(np.asarray(right(*args, **params))))

        forward = wraps(record.forward)(wrong)
        yield Mutant(
            record.name, "forward", kind, text, partial(_replaced, record, forward=forward)
        )


def _rule_mutants(record: Primitive, i: int, rule: Rule) -> Iterator[Mutant]:
    def mutant(kind: str, text: str, wrong: Rule) -> Mutant:
        rules = (*record.rules[:i], wrong, *record.rules[i + 1 :])
        return Mutant(record.name, f"vjp {i}", kind, text, partial(_replaced, record, rules=rules))

    for kind, variants in AROUND_A_RULE.items():
        for text, wrapper in variants:
            function = wraps(rule.function)(wrapper(rule.function))
            yield mutant(kind, text, Rule(function, record.inputs))
    read = [k for k, source in enumerate(rule.sources) if isinstance(source, int)]
    for k in read:
        for other in sorted({-1, *range(record.arity)} - {rule.sources[k]}):
            sources = (*rule.sources[:k], other, *rule.sources[k + 1 :])
            text = f"{_name(record, other)} for {_name(record, rule.sources[k])}"
            yield mutant("stale input", text, _reading(rule, record, sources))
    for order in list(permutations(read))[1:]:
        sources = tuple(
            rule.sources[order[read.index(k)]] if k in read else source
            for k, source in enumerate(rule.sources)
        )
        text = ", ".join(_name(record, sources[k]) for k in read)
        yield mutant("swapped arguments", text, _reading(rule, record, sources))


def _reading(rule: Rule, record: Primitive, sources: tuple[Any, ...]) -> Rule:
    wrong = Rule(rule.function, record.inputs)
    wrong.sources = sources
    wrong.reads = frozenset(s for s in sources if isinstance(s, int))
    return wrong


def _name(record: Primitive, source: Any) -> str:
    return "y" if source == -1 else str(record.inputs[source])


def _rewritten(record: Primitive, where: str, function: Callable[..., Any]) -> Iterator[Mutant]:
    for f in helpers(function, set()):
        place = where if f is function else f"{where} ({f.__name__})"
        for kind, text, code in changes(f):
            yield Mutant(record.name, place, kind, text, partial(_exchanged, f, code))


# ------------------------------------------------------------------------------ applying a mutant


@contextmanager
def _replaced(record: Primitive, **facts: Any) -> Iterator[None]:
    """Attributes of ``record`` replaced, and what it has worked out from its rules forgotten."""
    with _lock:
        before = {name: getattr(record, name) for name in facts}
        try:
            for name, fact in facts.items():
                setattr(record, name, fact)
            record._keep.clear()
            yield
        finally:
            for name, fact in before.items():
                setattr(record, name, fact)
            record._keep.clear()


@contextmanager
def _exchanged(function: Any, code: CodeType) -> Iterator[None]:
    with _lock:
        before = function.__code__
        try:
            function.__code__ = code
            yield
        finally:
            function.__code__ = before
