"""Random programs: small directed graphs of array operations that several frameworks can run.

A program is decoded from rows of integers, so that Hypothesis shrinks it as it shrinks any list of
numbers, and a plain loop can draw millions. Each row names an operation, its arguments (0 is the
newest value that nothing reads yet, so zeros make a chain and larger numbers fan-out) and its
parameters; a row that does not fit is left out. What fits is decided by running the step in NumPy
on the program's own inputs: values stay finite and below :data:`BOUND`, and away from kinks by
:data:`MARGIN`, so that frameworks that agree on the rules agree on the numbers.

The text that :meth:`Program.source` prints is the text that runs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tinygrad_ai.testing.program_ops import CODE, NAMES, OPS, Array, Digits

BOUND = 50.0
MARGIN = 1e-3
MAX_SIZE = 64


# ---------------------------------------------------------------------------------- dialects


@dataclass(frozen=True)
class Dialect:
    """How one framework is imported, fed, and asked for a gradient."""

    module: str
    alias: str
    make: str  #: what turns a NumPy array into its array type
    imports: str
    run: str  #: prints value and gradients, given ``program``, ``inputs`` and ``cotangent``


DIALECTS = {
    "tinygrad_ai": Dialect(
        "tinygrad_ai",
        "ta",
        "Tensor",
        "import numpy as np\nimport tinygrad_ai as ta",
        "value, pullback = ta.vjp(program, *inputs)\nprint(value, pullback(cotangent))",
    ),
    "torch": Dialect(
        "torch",
        "torch",
        "as_tensor",
        "import numpy as np\nimport torch",
        "tensors = [torch.tensor(x, requires_grad=True) for x in inputs]\n"
        "value = program(*tensors)\n"
        "value.backward(torch.tensor(cotangent))\n"
        "print(value, *(t.grad for t in tensors))",
    ),
    "jax": Dialect(
        "jax.numpy",
        "jnp",
        "asarray",
        "import jax\nimport jax.numpy as jnp\nimport numpy as np\n\n"
        'jax.config.update("jax_enable_x64", True)',
        "value, pullback = jax.vjp(program, *map(jnp.asarray, inputs))\n"
        "print(value, *pullback(jnp.asarray(cotangent)))",
    ),
    "numpy": Dialect("numpy", "np", "asarray", "import numpy as np", "print(program(*inputs))"),
}


# ---------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Step:
    """One operation: its name, the numbers of its arguments (inputs first), its parameters."""

    op: str
    args: tuple[int, ...]
    params: tuple[tuple[str, Any], ...] = ()

    def expression(self, dialect: str, names: Mapping[int, str]) -> str:
        """The step in a dialect's text, its arguments by name."""
        op = OPS[self.op]
        form = op.other.get(dialect, op.form)
        given = (names[k] for k in self.args)
        return form.format(*given, xp=DIALECTS[dialect].alias, **dict(self.params))


@dataclass(frozen=True)
class Program:
    """A function of float64 arrays, as steps; its value is the last step's.

    ``inputs`` are the point at which it is compared, ``seed`` gives the cotangent.
    """

    inputs: tuple[Array, ...]
    steps: tuple[Step, ...]
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """The names of the values: x0, x1… the inputs, v0, v1… the steps."""
        return [f"x{k}" for k in range(len(self.inputs))] + [
            f"v{k}" for k in range(len(self.steps))
        ]

    def definition(self, dialect: str) -> str:
        """``def program(x0, …)`` in the text of a dialect: a key of :data:`DIALECTS`."""
        names, count = self.names, len(self.inputs)
        numbered = dict(enumerate(names))
        lines = [f"def program({', '.join(names[:count])}):"]
        for name, step in zip(names[count:], self.steps, strict=True):
            lines.append(f"    {name} = {step.expression(dialect, numbered)}")
        return "\n".join([*lines, f"    return {names[-1]}"])

    def function(self, dialect: str) -> Callable[..., Any]:
        """The program as a function of the framework's own arrays."""
        facts = DIALECTS[dialect]
        room: dict[str, Any] = {"np": np, facts.alias: importlib.import_module(facts.module)}
        exec(self.definition(dialect), room)
        return room["program"]

    def run(self, dialect: str, inputs: Sequence[Array] | None = None) -> Any:
        """The program's value in a framework, at ``inputs`` (its own if not given)."""
        facts = DIALECTS[dialect]
        make = getattr(importlib.import_module(facts.module), facts.make)
        given = self.inputs if inputs is None else inputs
        return self.function(dialect)(*map(make, given))

    def cotangent(self) -> Array:
        """A random signed cotangent of the program's value."""
        shape = np.shape(self.run("numpy"))
        rng = np.random.default_rng(self.seed)
        return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))

    def source(self, dialect: str) -> str:
        """Runnable code that prints the program's value and gradients at its own inputs."""
        facts = DIALECTS[dialect]
        listed = "".join(f"    {_literal(x)},\n" for x in self.inputs)
        blocks = [
            f"{facts.imports}\n\n",
            f"{self.definition(dialect)}\n\n",
            f"inputs = [\n{listed}]",
            f"cotangent = {_literal(self.cotangent())}",
            f"{facts.run}\n",
        ]
        return "\n".join(blocks)

    def __repr__(self) -> str:
        return f"Program of {len(self.steps)} steps:\n{self.source('tinygrad_ai')}"


def _literal(x: Array) -> str:
    text = f"np.array({x.tolist()!r})"
    return text if x.size else f"np.zeros({x.shape})"


# ---------------------------------------------------------------------- from integers, by chance


def decode(shapes: Sequence[tuple[int, ...]], seed: int, rows: Sequence[Sequence[int]]) -> Program:
    """The program that rows of integers (one for each column of :data:`CODE`) stand for.

    Input values are drawn from ``seed``, between -2 and 2. Steps and inputs that do not reach the
    last value are left out.
    """
    rng = np.random.default_rng(seed)
    inputs = [np.asarray(rng.uniform(-2, 2, shape)) for shape in shapes]
    values, steps = list(inputs), list[Step]()
    read: set[int] = set()
    for row in rows:
        step = _step(row, values, read)
        if step is not None:
            value = _valid(step, values)
            if value is not None:
                steps.append(step)
                values.append(value)
                read.update(step.args)
    return _pruned(inputs, steps, seed)


def _step(row: Sequence[int], values: list[Array], read: set[int]) -> Step | None:
    """The step of a row, or None where no values fit its operation."""
    name = NAMES[row[0] % len(NAMES)]
    op = OPS[name]
    args: list[int] = []
    codes = Digits(row[1])
    for _ in range(op.arity):
        chosen = [values[k] for k in args]
        order = sorted(range(len(values)), key=lambda k: (k in read or k in args, -k))
        fitting = [k for k in order if op.fits(*chosen, values[k])]
        if not fitting:
            return None
        skewed = codes.pick(range(16)) ** 2  # mostly the first ones
        args.append(fitting[len(fitting) * skewed // 256])
    params = op.params(Digits(row[2]), *(values[k] for k in args))
    return Step(name, tuple(args), tuple(params.items()))


@cache
def _compiled(expression: str) -> Any:
    return compile(expression, "<step>", "eval")


def _valid(step: Step, values: list[Array]) -> Array | None:
    """The value of a step, or None where it is too large or too near a kink."""
    args = [values[k] for k in step.args]
    distance = OPS[step.op].distance
    with np.errstate(all="ignore"):
        if distance is not None and not (distance(*args, **dict(step.params)) > MARGIN).all():
            return None
        names = {k: f"a{k}" for k in step.args}
        text = _compiled(step.expression("numpy", names))
        room = {names[k]: values[k] for k in step.args}
        value = np.asarray(eval(text, {"np": np, **room}))
    ok = value.size <= MAX_SIZE and value.ndim <= 5 and bool((abs(value) < BOUND).all())
    return value if ok else None


def _pruned(inputs: list[Array], steps: list[Step], seed: int) -> Program:
    """The program without what its last value does not depend on, numbered anew."""
    count = len(inputs)
    live = {count + len(steps) - 1}
    for k in range(len(steps) - 1, -1, -1):
        if count + k in live:
            live.update(steps[k].args)
    new = {old: k for k, old in enumerate(sorted(live))}
    kept = [
        Step(step.op, tuple(new[a] for a in step.args), step.params)
        for k, step in enumerate(steps)
        if count + k in live
    ]
    return Program(tuple(x for k, x in enumerate(inputs) if k in live), tuple(kept), seed)


def random_program(rng: np.random.Generator, max_steps: int = 12) -> Program:
    """A random program without Hypothesis: for long runs that need no shrinking."""
    common = tuple(int(n) for n in rng.choice((1, 2, 3, 5), rng.integers(4)))
    common = common if math.prod(common) <= 30 else common[:2]
    shapes = [
        tuple(1 if rng.random() < 0.3 else n for n in common[rng.integers(len(common) + 1) :])
        for _ in range(rng.integers(1, 4))
    ]
    rows = rng.integers(0, CODE, (rng.integers(1, max_steps + 1), len(CODE)))
    return decode(shapes, int(rng.integers(2**31)), rows.tolist())


def disagreement(program: Program, a: Any, b: Any) -> float:
    """How far two adapters are apart on a program: the worst error of value and gradients.

    Relative to 1 plus the largest element of the value, or of all gradients; infinite where a
    shape differs, or where one is NaN or infinite and the other is not the same.
    """
    v = [program.cotangent()]

    def told(adapter: Any) -> tuple[list[Array], list[Array]]:
        f = program.function(adapter.name)
        found = zip(program.inputs, adapter.vjp(f, program.inputs, v), strict=True)
        slopes = [np.zeros_like(x) if g is None else g for x, g in found]
        return adapter.call(f, program.inputs), slopes

    return max(_apart(left, right) for left, right in zip(told(a), told(b), strict=True))


def _apart(left: Sequence[Array], right: Sequence[Array]) -> float:
    worst, scale = 0.0, 1.0
    for x, y in zip(left, right, strict=True):
        if x.shape != y.shape:
            return math.inf
        with np.errstate(invalid="ignore"):
            gap = np.where((x == y) | ((x != x) & (y != y)), 0.0, abs(x - y))
        worst = max(worst, float(np.nan_to_num(gap, nan=math.inf, posinf=math.inf).max(initial=0)))
        scale = max(scale, 1 + float(abs(x[np.isfinite(x)]).max(initial=0)))
    return worst / scale
