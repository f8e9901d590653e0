"""``jit``: a function captured once per signature and replayed as compiled kernels."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Value, mode, newest_first
from tinygrad_ai.autodiff.backward import accumulate, drop
from tinygrad_ai.errors import DTypeError, GraphError
from tinygrad_ai.jit.capture import Capture
from tinygrad_ai.jit.expand import expanded
from tinygrad_ai.jit.guards import World, fetch
from tinygrad_ai.jit.program import (
    Program,
    Var,
    doubts,
    frozen,
    without,
    without_dead,
    without_repeats,
)
from tinygrad_ai.jit.slices import with_slices_joined
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.tree import flatten, structure_of

if TYPE_CHECKING:
    from tinygrad_ai.jit.native import Execution


def jit(function: Callable[..., Any] | None = None, *, debug: bool = False) -> Any:
    """``function`` compiled: captured at the first call, replayed as kernels at the others.

    Args:
        function: reads Tensors (arguments, and those it closes over), may call ``backward``, step
            optimisers, draw from ``tinygrad_ai.random``, assign to tensors, and returns nested
            tuples, lists and dicts of Tensors. Arguments that are no tensors are static.
        debug: run eagerly, so that print and a debugger work.

    A change of shapes, dtypes, static arguments, of closed-over or global values or of
    ``training`` captures anew; ``step.explain_retrace()`` says why. Learning rates do not. Outputs
    are fresh and carry no graph. Raises GraphError, with the user's line, where the values of a
    tensor are asked for, and where two captures differ (a clock, NumPy's random numbers).
    """
    if function is None:
        return functools.partial(jit, debug=debug)
    if not callable(function):
        raise DTypeError(f"jit compiles a function, not {function!r}")
    return Step(function, debug)


_steps: weakref.WeakSet[Step] = weakref.WeakSet()


class Step:
    """A function and what was compiled of it; see :func:`jit`."""

    def __init__(self, function: Callable[..., Any], debug: bool = False) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.debug = debug
        self.plans: dict[Any, list[Plan]] = {}
        self.captures = 0
        self._lock = threading.RLock()
        _steps.add(self)
        self._reason = "it has not been called"

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.debug or mode.one_of_many or mode.interpreter or mode.capture:
            return self.function(*args, **keywords)
        if not keywords and all(isinstance(a, Value) for a in args):
            leaves = list(args)
            rebuild: Callable[[list[Any]], Any] = _positional
            structure: Any = len(args)
        else:
            leaves, rebuild = flatten((args, keywords))
            structure = structure_of((args, keywords))
        signature = (mode.grad, tuple(map(_described, leaves)), structure)
        with self._lock:  # a plan has one memory
            plans = self.plans.setdefault(signature, [])
            for plan in plans:
                if (why := plan.stale(leaves)) is None:
                    return plan.run(leaves)
                self._reason = why
            if not plans:
                self._reason = self._new_signature(signature)
            self.captures += 1
            plan = self._captured(leaves, rebuild)
            plans[:] = [plan, *plans[:7]]
            return plan.run(leaves)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A compiled function in a class body is a method."""
        return self if instance is None else functools.partial(self, instance)

    def explain_retrace(self) -> str:
        """Why the last capture was made."""
        return self._reason

    def report(self) -> str:
        """What was compiled, and what was not and why, for each signature."""
        return "\n\n".join(p.report() for plans in self.plans.values() for p in plans)

    def source(self) -> str:
        """The code of the kernels."""
        return "\n\n".join(p.execution.source() for plans in self.plans.values() for p in plans)

    def program(self) -> str:
        """The program of the last capture."""
        return str(next(p for plans in self.plans.values() for p in plans[:1]).optimized)

    def _new_signature(self, signature: Any) -> str:
        others = [s for s, plans in self.plans.items() if plans]
        if not others:
            return "the first call"
        differing = [
            [
                (k, *pair)
                for k, pair in enumerate(zip(s[1], signature[1], strict=False))
                if pair[0] != pair[1]
            ]
            for s in others
            if len(s[1]) == len(signature[1]) and (s[0], *s[2:]) == (signature[0], *signature[2:])
        ]
        if not differing:
            return "the number or names of arguments, or whether gradients are tracked, changed"
        k, then, now = min(reversed(differing), key=len)[0]
        return f"argument {k} was {_shown(then)} and is {_shown(now)}"

    def _captured(self, leaves: list[Any], rebuild: Callable[[list[Any]], Any]) -> Plan:
        first, second = (Plan(self.function, leaves, rebuild) for _ in range(2))
        if first.fingerprint() != second.fingerprint():
            first.world.undo()
            raise GraphError(
                "jit: two captures of the function differ: it depends on something that changes by "
                "itself (a clock, NumPy's random numbers, a counter)",
                "   help: draw from tinygrad_ai.random, and pass what changes as a Tensor",
            )
        if (what := second.world.change()) is not None:
            first.world.undo()
            raise GraphError(
                f"jit: the function changes Python values at every call ({what}), which a compiled "
                "step would not do",
                "   help: keep what changes in a Tensor, count[...] = count + 1",
            )
        first.compile()
        return first


def _after_fork() -> None:
    """Whoever held a lock stayed with the parent."""
    for step in _steps:
        step._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _positional(leaves: list[Any]) -> Any:
    return tuple(leaves), {}


def _described(leaf: Any) -> Any:
    if isinstance(leaf, Value):
        graph = "requires_grad" if leaf.node is not None else "no gradient"
        return "tensor", leaf.array.shape, leaf.array.dtype, graph
    if isinstance(leaf, np.ndarray):
        return "array", leaf.shape, leaf.dtype
    if hasattr(leaf, "named_parameters") or callable(leaf):
        return "object", id(leaf)
    return "static", frozen(leaf)


def _shown(described: Any) -> str:
    kind, *facts = described
    return f"{kind} " + " ".join(map(str, facts))


class Plan:
    """One capture: the program, where its inputs come from and where its outputs go."""

    def __init__(
        self, function: Callable[..., Any], leaves: list[Any], rebuild: Callable[[list[Any]], Any]
    ) -> None:
        self.world = World((function, [x for x in leaves if not isinstance(x, Value | np.ndarray)]))
        self.before = [(t, t._grad) for t in self.world.tensors]
        owners = {id(t.array): fetch(t) for t in self.world.tensors}
        owners |= {id(g.array): _fetch_grad(t) for t, g in self.before if g is not None}
        owners |= {id(a): functools.partial(_itself, a) for a in self.world.arrays}
        self.capture = Capture(owners)
        #: for each argument the first that is the same tensor; those that the function also
        #: reaches by another way are themselves, and no inputs
        self.aliases = _aliases(leaves)
        self.bound = {k: x for k, x in enumerate(leaves) if id(x) in self.world.ids}
        self.dynamic = [
            k
            for k, x in enumerate(leaves)
            if isinstance(x, Value | np.ndarray) and k == self.aliases[k] and k not in self.bound
        ]
        arguments = {k: self._argument(k, leaves[k]) for k in self.dynamic}
        inside = [arguments.get(k, x) for k, x in zip(self.aliases, leaves, strict=True)]
        outer = mode.interpreter, mode.capture
        mode.interpreter = mode.capture = self.capture
        try:
            args, keywords = rebuild(inside)
            found, self.rebuild = flatten(function(*args, **keywords))
            self.world.check_kept()
            _check_uncut(found, arguments)
            self.sinks = [self._returned(k, x) for k, x in enumerate(found)]
            self.sinks += self._grads([inside[k] for k in self.dynamic])
        except BaseException:
            self.world.undo()
            raise
        finally:
            mode.interpreter, mode.capture = outer
            for t, g in self.before:
                t._grad = g
        writes = self.capture.effects.writes.values()
        self.sinks += [Sink("write", var, target) for target, var in writes]
        self.program = Program(
            self.capture.inputs,
            self.capture.equations,
            [s.var for s in self.sinks if s.var is not None],
        )
        self.program.verify()

    # ------------------------------------------------------------------------------- capturing

    def _argument(self, k: int, leaf: Any) -> Tensor:
        array = leaf.array if isinstance(leaf, Value) else leaf
        inside = Tensor.box(self.capture.input("argument", _nothing, array, k))
        if isinstance(leaf, Value) and leaf.requires_grad:
            if not leaf.is_leaf:
                raise GraphError(
                    "jit: an argument was computed from tensors that require gradients, and its "
                    "graph would be cut",
                    "   help: compute it inside the compiled function, or detach() it",
                )
            inside.requires_grad = True
        return inside

    def _returned(self, k: int, leaf: Any) -> Sink:
        """What is computed is a variable; other things are handed out as they are."""
        if isinstance(leaf, Value):
            if isinstance(leaf.array, Var):
                return Sink("return", leaf.array, k)
            if id(leaf.array) in self.capture.current:
                return Sink("return", self.capture.current[id(leaf.array)], k)
        return Sink("constant", None, leaf)

    def _grads(self, arguments: list[Tensor]) -> list[Sink]:
        """What becomes of ``.grad``: of the tensors that the function reaches, and arguments."""
        capture = self.capture
        changed = [(t, t._grad) for t, g in self.before if t._grad is not g]
        self.cleared = [t for t, g in changed if g is None]
        #: leaves whose gradients were looked at: whether there was something may matter
        self.absent = [(t, g is None) for t, g in self.before if id(t) in capture.asked]
        sinks = [Sink("grad", capture.read(g.array), t) for t, g in changed if g is not None]
        for k, inside in zip(self.dynamic, arguments, strict=True):
            if inside._grad is not None:
                kind = "new grad" if id(inside) in capture.cleared else "more grad"
                sinks.append(Sink(kind, capture.read(inside._grad.array), k))
        return sinks

    def fingerprint(self) -> Any:
        """What two captures must have in common: the whole program and its constants."""
        keys = [i.key for i in self.program.inputs if i.kind in ("constant", "number")]
        kinds = [(s.kind, repr(s.place) if s.kind == "constant" else "") for s in self.sinks]
        return str(self.program), keys, kinds

    # -------------------------------------------------------------------------------- compiling

    def compile(self) -> None:
        """The executions: one without the guards against 0·∞, and if there are any, one with."""
        guarded = without_dead(without_repeats(self.program))
        self.optimized = simplified(without(drop, guarded))
        self.optimized.verify()
        old = {i.key: i.var for i in self.capture.inputs if i.kind == "state"}
        keys = iter(self.capture.effects.writes)
        sinks = [s for s in self.sinks if s.var is not None]
        self.outputs = [
            (s.kind == "write", old.get(next(keys)) if s.kind == "write" else None) for s in sinks
        ]
        doubtful = doubts(guarded, drop)
        self.careful: Execution | None = None
        self._guarded = guarded if doubtful else None
        self.execution = self._execution(self.optimized, doubtful)
        if self.execution.late:
            self.careful = self._execution(simplified(guarded), [])
        self.world.settle()
        self.before.clear()
        self.capture.kept.clear()
        self.handed = sinks
        self.places = [s.place if s.kind == "write" else None for s in sinks]
        self.results = [s.place for s in self.sinks if s.kind in ("return", "constant")]
        self.draws = [i for i in self.program.inputs if i.kind == "draw"]
        self.touched = list(self.capture.effects.touched.values())

    def _execution(self, program: Program, checked: list[int]) -> Execution:
        from tinygrad_ai.jit.native import Execution, Output  # noqa: PLC0415 - LLVM loads slowly

        outputs = [Output(v, *o) for v, o in zip(program.outputs, self.outputs, strict=True)]
        return Execution(program, outputs, checked)

    def report(self) -> str:
        """What was fused and what was not."""
        return self.execution.report()

    # ---------------------------------------------------------------------------------- running

    def stale(self, leaves: list[Any]) -> str | None:
        """Why this plan does not fit any more, or not these arguments; None if it does."""
        if _aliases(leaves) != self.aliases:
            return "which arguments are the same tensor changed"
        ids = self.world.ids
        for k, leaf in enumerate(leaves):
            if (id(leaf) in ids or k in self.bound) and self.bound.get(k) is not leaf:
                return f"argument {k} is, or was, a tensor that the function also reaches otherwise"
        for t, was_none in self.absent:
            if (t._grad is None) is not was_none:
                return "a gradient was there, or was not, when the function was called"
        return self.world.change()

    def run(self, leaves: list[Any]) -> Any:
        """The captured function on other arrays, with all its effects."""
        numbers = [advance() for advance in self.capture.effects.updates]
        draws = {i.var: i.fetch() for i in self.draws}
        targets = [place() if place is not None else None for place in self.places]
        made = None
        if not self.execution.late:
            made = self.execution(leaves, draws, numbers, targets)
        if made is None:  # a NaN: it may be a 0·∞ that the guards would have dropped
            if self.careful is None:
                assert self._guarded is not None
                self.careful = self._execution(simplified(self._guarded), [])
            made = self.careful(leaves, draws, numbers, targets)
            assert made is not None
        return self._delivered(leaves, made)

    def _delivered(self, leaves: list[Any], made: Sequence[Any]) -> Any:
        """Hand out what was made."""
        results = list(self.results)
        for (kind, _, place), array in zip(self.handed, made, strict=True):
            if kind == "return":
                results[place] = Tensor.box(array)
            elif kind == "grad":
                place._grad = Tensor.box(array)
            elif kind == "new grad":
                leaves[place]._grad = Tensor.box(array)
            elif kind == "more grad":
                accumulate(leaves[place], array)
        for t in self.cleared:
            t._grad = None
        for version in self.touched:
            version[0] += 1
        return self.rebuild(results)


def simplified(program: Program) -> Program:
    """Composites written out, slices joined, repeats and what is never read left out."""
    return without_dead(with_slices_joined(without_repeats(expanded(program))))


class Sink(NamedTuple):
    """Where an output goes: ``place`` is a position, a tensor, a function to an array, a thing."""

    kind: str
    var: Var | None
    place: Any


def _check_uncut(found: list[Any], arguments: dict[int, Tensor]) -> None:
    """Raise GraphError where gradients would have to flow through a result to an argument."""
    nodes = {x.node: k for k, x in arguments.items() if x.node is not None}
    roots = [
        x.node
        for x in found
        if isinstance(x, Value) and x.node is not None and x.node.saved is not None
    ]
    for node in newest_first(roots) if nodes else ():
        if node in nodes:
            raise GraphError(
                f"jit: a result depends on argument {nodes[node]}, which requires gradients, but "
                "results carry no graph",
                "   help: compute gradients inside: jit(grad(f)), not grad(jit(f))",
                "   help: detach() the result or the argument if none are wanted",
            )


def _nothing() -> None:
    return None


def _itself(array: Any) -> Any:
    return array


def _aliases(leaves: list[Any]) -> list[int]:
    """For each leaf the number of the first that is the same tensor."""
    first: dict[int, int] = {}
    return [first.setdefault(id(x), k) if isinstance(x, Value) else k for k, x in enumerate(leaves)]


def _fetch_grad(tensor: Value) -> Callable[[], Any]:
    return lambda: tensor._grad.array if tensor._grad is not None else None
