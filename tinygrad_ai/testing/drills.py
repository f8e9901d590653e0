"""Drills: write a VJP rule yourself and be told, by the smallest example, what is wrong with it.

>>> d = drill("tanh")
>>> print(d)                                          # the task
>>> d.check(lambda g, y, x: g * (1 - y**2))           # right
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.testing.drill_tasks import TASKS, Task

LEVELS = 5


@dataclass(frozen=True)
class Answer:
    """What :meth:`Drill.check` says. True if the rule is right; ``text`` is the answer in words,
    ``hints`` the likely causes, likeliest first, ``example`` the arguments of the failing call."""

    ok: bool
    text: str
    hints: tuple[str, ...] = ()
    example: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class Drill:
    """One task: a function in NumPy whose VJP rule is to be written. ``print`` shows it."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self.task = task
        self.level = task.level
        self.inputs = list(inspect.signature(task.forward).parameters)
        self.signature = f"vjp(g, y, {', '.join(self.inputs)})"

    def __str__(self) -> str:
        asked = self._differentiable()
        what = f"the gradient in {asked[0]}, an array of its shape"
        if len(asked) > 1:
            what = f"a tuple of the gradients in {', '.join(asked)}, each of its input's shape"
        lines = [
            f"Drill {self.name}, level {self.level} of {LEVELS}: {self.task.shapes}",
            "",
            textwrap.indent(_source(self.task.forward, self.name), "    "),
            "",
            *textwrap.wrap(f"Write a function {self.signature} that returns {what}.", 80),
            "g, of the shape of y, is the gradient of some loss in y; what you return is the",
            "gradient of that loss. y is what the function above returned. NumPy only.",
        ]
        return "\n".join([*lines, *([self.task.note] if self.task.note else [])])

    __repr__ = __str__

    def solution(self) -> str:
        """The rule, as source. Look after trying."""
        return _source(self.task.rule, "vjp")

    def check(self, vjp: Callable[..., Any]) -> Answer:
        """Says whether ``vjp(g, y, *inputs)`` is right; if not, shows the smallest example found
        on which it is wrong, and a hint. Whatever ``vjp`` does, this raises nothing."""
        if not callable(vjp):
            return self._misused(f"expected a function {self.signature}, got {vjp!r:.60}")
        complaint = self._wrong_arguments(vjp)
        if complaint:
            return self._misused(complaint)
        count, failed = 0, None
        for inputs in self._examples():
            y = self.task.forward(*inputs)
            for g in _cotangents(np.shape(y)):
                given, complaint = self._called(vjp, g, y, inputs)
                if complaint:
                    return self._failed(complaint, g, y, inputs, vjp)
                expected = _tuple(self.task.rule(g, y, *inputs))
                if not _same(given, expected):
                    failed = failed or (given, expected, g, y, inputs)
                    if _plainly_differ(given, expected):
                        return self._failed(self._compared(given, expected), g, y, inputs, vjp)
                count += 1
        if failed:  # by little everywhere
            given, expected, g, y, inputs = failed
            return self._failed(self._compared(given, expected), g, y, inputs, vjp)
        return Answer(True, f"Right: {self.name} agrees on {count} examples.")

    # ------------------------------------------------------------------------------- examples

    def _differentiable(self) -> list[str]:
        return self.inputs[:-1] if self.task.integer else self.inputs

    def _examples(self) -> Iterator[list[Any]]:
        """Inputs from small and simple to larger and arbitrary, then the special ones."""
        rng = np.random.default_rng(0)
        left = re.findall(r"\w+ \(([^)]*)\)", self.task.shapes.partition("->")[0])
        for sizes, simple in itertools.product(self.task.sizes, (True, False)):
            shapes = [tuple(sizes[k.strip()] for k in axes.split(",")) for axes in left]
            made = [_simple(s, k) if simple else _random(s, rng) for k, s in enumerate(shapes)]
            if self.task.positive:
                made = [abs(x) for x in made]
            if self.task.integer:
                top = sizes[self.task.integer]
                places = np.arange(int(np.prod(shapes[-1]))).reshape(shapes[-1])
                made[-1] = places % top if simple else rng.integers(top, size=shapes[-1])
            yield made
        for special in self.task.special:
            yield [np.array(x) for x in special]

    # ---------------------------------------------------------------------------- the learner's

    def _wrong_arguments(self, vjp: Callable[..., Any]) -> str:
        try:
            signature = inspect.signature(vjp)
        except (TypeError, ValueError):  # a builtin does not tell
            return ""
        try:
            signature.bind(*range(2 + len(self.inputs)))
        except TypeError:
            named = ", ".join(["g", "y", *self.inputs])
            count = 2 + len(self.inputs)
            return f"vjp is called with {count} arguments ({named}), but yours takes {signature}"
        return ""

    def _called(
        self, vjp: Callable[..., Any], g: Any, y: Any, inputs: list[Any]
    ) -> tuple[tuple[Any, ...], str]:
        """What ``vjp`` returns as arrays, and what is wrong with it apart from its numbers."""
        arguments = [np.array(x) for x in (g, y, *inputs)]
        try:
            with np.errstate(all="ignore"):
                result = vjp(*(a.copy() for a in arguments))
                passed = [a.copy() for a in arguments]
                vjp(*passed)
        except Exception as error:
            return (), f"your function raised {type(error).__name__}{_where(error)}: {error}"
        for name, was, now in zip(["g", "y", *self.inputs], arguments, passed, strict=True):
            if was.shape != now.shape or not np.array_equal(was, now, equal_nan=True):
                return (), f"your function changed {name} in place; leave its arguments alone"
        names = self._differentiable()
        if result is None:
            return (), "your function returned None; is a return missing?"
        parts = _tuple(result) if len(names) > 1 or isinstance(result, tuple) else (result,)
        if len(parts) != len(names):
            return (), (
                f"your function returned {len(parts)} values, expected {len(names)}: "
                f"{', '.join(names)}"
            )
        for name, part, x in zip(names, parts, inputs, strict=False):
            complaint = _not_a_gradient(name, part, x)
            if complaint:
                return (), complaint
        return tuple(np.asarray(p, dtype=np.float64) for p in parts), ""

    # ---------------------------------------------------------------------------- the answer

    def _misused(self, complaint: str) -> Answer:
        return Answer(False, f"Not yet: {complaint}")

    def _failed(
        self,
        complaint: str,
        g: Any,
        y: Any,
        inputs: list[Any],
        vjp: Callable[..., Any] | None = None,
    ) -> Answer:
        example = dict(zip(["g", "y", *self.inputs], (g, y, *inputs), strict=True))
        hints = tuple(self._hints(vjp)) if vjp else ()
        shown = [f"   {name:9} = {_written(value)}" for name, value in example.items()]
        lines = ["Not yet. The smallest example I found:", *shown, f"   {complaint}"]
        if hints:
            lines.append(f"Hint: {hints[0]}")
        return Answer(False, "\n".join(lines), hints, example)

    def _compared(self, given: Sequence[Any], expected: Sequence[Any]) -> str:
        lines = []
        for name, mine, right in zip(self._differentiable(), given, expected, strict=True):
            if not _same([mine], [right]):
                lines += [
                    f"gradient in {name}, expected  {_written(right)}",
                    f"            {' ' * len(name)}yours     {_written(mine)}",
                ]
        return "\n   ".join(lines)

    def _hints(self, vjp: Callable[..., Any]) -> Iterator[str]:
        """The causes that explain everything ``vjp`` returns, the most specific first."""
        seen = []
        for inputs in self._examples():
            y = self.task.forward(*inputs)
            for g in _cotangents(np.shape(y)):
                given, complaint = self._called(vjp, g, y, inputs)
                if complaint:
                    break
                seen.append((given, g, y, inputs))
        for slip, text in self.task.slips:
            if _explains(lambda g, y, *x, slip=slip: slip(g, y, *x), seen):
                yield text
        rule = self.task.rule
        for change, text in _GENERAL:
            if _explains(change(rule), seen):
                yield text
        yield from self._factors(seen)
        yield self.task.hint

    def _factors(self, seen: Sequence[Any]) -> Iterator[str]:
        """Hints for inputs whose gradient is off by one factor in every example."""
        for k, name in enumerate(self._differentiable()):
            ratios = []
            for given, g, y, inputs in seen:
                right = np.asarray(_tuple(self.task.rule(g, y, *inputs))[k])
                if np.abs(right).max(initial=0) > 1e-9:
                    ratio = float((given[k] * right).sum() / (right * right).sum())
                    if not np.allclose(given[k], ratio * right, 1e-6, 1e-9):
                        break
                    ratios.append((ratio, inputs[k].shape))
            else:
                yield from _factor_hint(name, ratios)


def _factor_hint(name: str, ratios: Sequence[tuple[float, tuple[int, ...]]]) -> Iterator[str]:
    if not ratios or np.allclose([r for r, _ in ratios], 1):
        return
    if np.ptp([r for r, _ in ratios]) < 1e-6:
        yield f"the gradient in {name} is off by the constant factor {ratios[0][0]:.4g}"
        return
    for axis in range(max(len(shape) for _, shape in ratios)):
        for power, word in ((1, "times"), (-1, "divided by")):
            if all(np.isclose(r, float(shape[axis]) ** power) for r, shape in ratios):
                yield f"the gradient in {name} is {word} the size of axis {axis} of {name}"


#: Changes of the right rule that give common wrong ones, whatever the function.
_GENERAL: tuple[tuple[Callable[..., Any], str], ...] = (
    (
        lambda rule: lambda g, *rest: tuple(np.zeros_like(c) for c in _tuple(rule(g, *rest))),
        "nothing comes through at all",
    ),
    (
        lambda rule: lambda g, *rest: tuple(-c for c in _tuple(rule(g, *rest))),
        "right but for the sign",
    ),
    (
        lambda rule: lambda g, *rest: rule(np.ones_like(g), *rest),
        "this is the answer for a g of ones: your rule does not use g",
    ),
    (
        lambda rule: lambda g, *rest: rule(abs(g), *rest),
        "right only where g is positive",
    ),
    (
        lambda rule: lambda g, *rest: tuple(abs(c) for c in _tuple(rule(g, *rest))),
        "the numbers are right, the signs are lost",
    ),
    (
        lambda rule: lambda g, *rest: _tuple(rule(g, *rest))[::-1],
        "these are the right gradients in the wrong order",
    ),
    (
        lambda rule: lambda g, *rest: tuple(np.asarray(c).T for c in _tuple(rule(g, *rest))),
        "right but transposed",
    ),
)


def _explains(wrong: Callable[..., Any], seen: Sequence[Any]) -> bool:
    """Whether ``wrong`` returns what the learner's rule returned, in every example."""
    try:
        with np.errstate(all="ignore"):
            return bool(seen) and all(
                _same(given, _tuple(wrong(g, y, *inputs))) for given, g, y, inputs in seen
            )
    except Exception:  # shapes in which this mistake cannot be made
        return False


def _not_a_gradient(name: str, part: Any, x: Any) -> str:
    """What keeps ``part`` from being a gradient in ``x``, whatever its numbers."""
    try:
        array = np.asarray(part)
    except ValueError:  # a ragged list
        array = np.array(None)
    if array.dtype.kind == "c":
        return f"the gradient in {name} must be real, got {array.dtype}"
    if array.dtype.kind not in "fiub":
        return f"the gradient in {name} must be an array of numbers, got {type(part).__name__}"
    if array.shape != x.shape:
        wider = array.ndim > x.ndim or any(
            a > b for a, b in zip(array.shape[::-1], x.shape[::-1], strict=False)
        )
        hint = f"; {name} was broadcast: where do the gradients of its copies go?" if wider else ""
        return f"the gradient in {name} has shape {array.shape}, {name} has {x.shape}{hint}"
    return ""


def _where(error: Exception) -> str:
    """The line of the learner's own function in which an error arose."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    return f" in line {frames[0].lineno} ({frames[0].line})" if frames and frames[0].line else ""


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _same(given: Sequence[Any], expected: Sequence[Any]) -> bool:
    return len(given) == len(expected) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, 1e-6, 1e-8, equal_nan=True)
        for a, b in zip(given, expected, strict=True)
    )


def _plainly_differ(given: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether anyone sees the difference at a glance."""
    return not all(np.allclose(a, b, 0.05, 0.01) for a, b in zip(given, expected, strict=True))


def _simple(shape: tuple[int, ...], k: int) -> Any:
    return np.resize(np.roll([2.0, -1.0, 1.0, 3.0, -2.0], -k), shape)


def _random(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    return rng.choice([-1, 1], shape) * np.round(rng.uniform(0.3, 2, shape), 1)


def _cotangents(shape: tuple[int, ...]) -> list[Any]:
    """A single 1 first, then numbers of both signs."""
    first = np.zeros(shape)
    first[(0,) * len(shape)] = 1
    return [first, np.resize([2.0, -1.0, 3.0, -3.0, 1.0], shape)]


def _written(x: Any) -> str:
    return " ".join(np.array2string(np.asarray(x), precision=4).split())


def _source(function: Callable[..., Any], name: str) -> str:
    """The source of ``function`` under the name ``name``, without its annotations."""
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    text = re.sub(r": Array\b| -> (Array|Any)", "", text)
    return re.sub(r"^def \w+", f"def {name}", text)


class Catalogue(dict[str, Drill]):
    """All drills by name, easiest first; prints as a list."""

    def __str__(self) -> str:
        width = max(map(len, self))
        lines = [
            f"  {'*' * d.level:{LEVELS}}  {name:{width}}  {d.task.shapes}"
            for name, d in self.items()
        ]
        return "\n".join(['Drills, easiest first; drill("tanh") starts one:', *lines])

    __repr__ = __str__


def drill(name: str | None = None) -> Any:
    """The :class:`Drill` called ``name``; without a name the :class:`Catalogue` of them all.

    Raises ValueRangeError, with the nearest name, where there is no such drill.
    """
    if name is None:
        return Catalogue((n, Drill(n, task)) for n, task in TASKS.items())
    if name not in TASKS:
        near = difflib.get_close_matches(str(name), TASKS, 1)
        better = f", did you mean {near[0]}?" if near else ""
        raise ValueRangeError(f"no drill {name!r}{better}", f"   there are {', '.join(TASKS)}")
    return Drill(name, TASKS[name])
