"""One capture of a function, compiled: what it reads, runs and hands out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import Value, mode, newest_first
from tinygrad_ai.autodiff.backward import accumulate, drop
from tinygrad_ai.autodiff.graph import owner
from tinygrad_ai.errors import GraphError
from tinygrad_ai.jit.capture import Capture, Later, NeedsTensor
from tinygrad_ai.jit.expand import expanded
from tinygrad_ai.jit.guards import World, fetch
from tinygrad_ai.jit.memory import facts
from tinygrad_ai.jit.parts import with_parts_read
from tinygrad_ai.jit.products import with_sums_in_products
from tinygrad_ai.jit.program import (
    Equation,
    Program,
    Var,
    watched,
    with_constants_known,
    without_dead,
    without_repeats,
)
from tinygrad_ai.jit.ranges import Ranges
from tinygrad_ai.jit.slices import with_slices_joined
from tinygrad_ai.jit.views import without_idle_moves
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.tree import flatten, structure_of

if TYPE_CHECKING:
    from tinygrad_ai.jit.native import Execution

GUARDED_CALLS = 16  # after a NaN was seen, until it is tried again without guards


class Outdated(Exception):
    """A plan does not fit any more; the message says why."""


class Plan:
    """One capture: the program, where its inputs come from and where its outputs go."""

    def __init__(
        self,
        function: Callable[..., Any],
        leaves: list[Any],
        rebuild: Callable[[list[Any]], Any],
        names: Sequence[str],
        itself: Container[int] = (),
    ) -> None:
        """``names`` are those of the leaves, the arguments.

        ``itself`` are arguments, by number, that are to be the same tensors at every call. Raises
        NeedsTensor if there must be one more.
        """
        self.names = names
        fixed = [
            x for k, x in enumerate(leaves) if k in itself or not isinstance(x, Value | np.ndarray)
        ]
        self.world = World((function, fixed))
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
        place = random.generator().state_dict()
        try:
            given = rebuild(inside)
            args, keywords = given
            found, self.rebuild = flatten(function(*args, **keywords))
            _check_unchanged(given, rebuild(inside))
            self.world.check_kept()
            self.world.streams.check()
            _check_uncut(found, {names[k]: x for k, x in arguments.items()})
            self.sinks = [self._returned(k, x) for k, x in enumerate(found)]
            self.sinks += self._grads([inside[k] for k in self.dynamic])
            for k in self.without:
                if leaves[k]._grad is not None:
                    raise NeedsTensor(k)
            written = self.capture.written()
        except BaseException:
            self.world.undo()
            raise
        finally:
            mode.interpreter, mode.capture = outer
            random.generator().load_state_dict(place)
            for t, g in self.before:
                t._grad = g
            for cell, version in self.capture.effects.touched.values():
                cell[0] = version
            self.capture.take_back()
            self.capture.memory.forget()
        #: for each array that is written to, what holds it before, and what has views of it
        self.old = [(w.old, w.beside) for w in written]
        self.sinks += [Sink("write", w.var, w.place) for w in written]
        self._find_homes()
        self.overlaps = self._overlapping(leaves)
        self.program = Program(
            self.capture.inputs,
            self.capture.equations,
            [s.var for s in self.sinks if s.var is not None],
        )
        self.program.verify()

    # ------------------------------------------------------------------------------- capturing

    def _argument(self, k: int, leaf: Any) -> Tensor:
        array = _array_of(leaf)
        var = self.capture.input("argument", _nothing, array, k)
        root = NeedsTensor(k) if isinstance(leaf, Value) else None
        self.capture.memory.place(var, array, root)
        inside = Tensor.box(var)
        self.capture.arguments.add(id(inside))
        if isinstance(leaf, Value) and leaf.requires_grad:
            if not leaf.is_leaf:
                raise GraphError(
                    f"jit: {self.names[k]} was computed from tensors that require gradients, and "
                    "its graph would be cut",
                    "   help: compute it inside the compiled function, or detach() it",
                )
            inside.requires_grad = True
        return inside

    def _returned(self, k: int, leaf: Any) -> Sink:
        """What is computed is a variable; other things are handed out as they are."""
        array = _array_of(leaf)
        if isinstance(leaf, Value) and (isinstance(array, Var) or id(array) in self.capture.met):
            return Sink("return", self.capture.read(array), k)
        return Sink("constant", None, leaf)

    def _grads(self, arguments: list[Tensor]) -> list[Sink]:
        """What becomes of ``.grad``: of the tensors that the function reaches, and arguments."""
        capture = self.capture
        changed = [(t, t._grad) for t, g in self.before if t._grad is not g]
        self.cleared = [t for t, g in changed if g is None]
        #: leaves whose gradients were looked at: whether there was something may matter
        self.absent = [(t, g is None) for t, g in self.before if id(t) in capture.asked]
        numbered = zip(self.dynamic, arguments, strict=True)
        self.without = [k for k, inside in numbered if id(inside) in capture.asked]
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
        return self.program.structure(), keys, kinds

    # -------------------------------------------------------------------------------- compiling

    def compile(self) -> None:
        """The execution; where there are guards against 0·∞, one that only watches for NaNs."""
        guarded = without_dead(without_repeats(self.program))
        self.optimized = simplified(watched(drop, guarded, _doubted))
        self.optimized.verify()
        old = iter(self.old)
        sinks = [s for s in self.sinks if s.var is not None]
        self.outputs = [
            (True, *next(old)) if s.kind == "write" else (False, None, ()) for s in sinks
        ]
        self.careful: Execution | None = None
        self._guarded = guarded
        self._doubtful = 0  # calls to be made with guards at once
        self.execution = self._execution(self.optimized)
        self.ranges = Ranges(self.program, self.capture.checks, self._without_effects)
        self.world.settle(self.capture.met)
        self.before.clear()
        self.capture.kept.clear()
        self.handed = [(k, s.kind, s.place) for k, s in enumerate(sinks) if s.kind != "write"]
        self.places = [s.place if s.kind == "write" else None for s in sinks]
        self.results = [s.place for s in self.sinks if s.kind in ("return", "constant")]
        self.draws = [i for i in self.program.inputs if i.kind == "draw"]
        self.touched = [cell for cell, _ in self.capture.effects.touched.values()]

    def _execution(self, program: Program) -> Execution:
        from tinygrad_ai.jit.native import Execution, Output  # noqa: PLC0415 - LLVM loads slowly

        outputs = [Output(v, *o) for v, o in zip(program.outputs, self.outputs, strict=True)]
        return Execution(program, outputs)

    def _without_effects(self, program: Program) -> Execution:
        from tinygrad_ai.jit.native import Execution, Output  # noqa: PLC0415 - LLVM loads slowly

        program = simplified(program)
        return Execution(program, [Output(v, False) for v in program.outputs])

    @property
    def running(self) -> Execution:
        """What is done at most calls."""
        return self.careful if self.execution.late and self.careful else self.execution

    # ---------------------------------------------------------------------------------- running

    def stale(self, leaves: list[Any]) -> str | None:
        """Why this plan does not fit any more, or not these arguments; None if it does."""
        if _aliases(leaves) != self.aliases:
            return "which arguments are the same tensor changed"
        ids = self.world.ids
        for k, leaf in enumerate(leaves):
            if (id(leaf) in ids or k in self.bound) and self.bound.get(k) is not leaf:
                return (
                    f"{self.names[k]} is, or was, a tensor that the function reaches otherwise too"
                )
        for t, was_none in self.absent:
            if (t._grad is None) is not was_none:
                return "a gradient was there, or was not, when the function was called"
        if any(leaves[k]._grad is not None for k in self.without):
            return "the gradient of an argument was there when the function was called"
        if (why := self.world.change()) is not None:
            return why
        if self.moves != self.world.moves:
            self._find_homes()
        if self._overlapping(leaves) != self.overlaps:
            return "which arguments share memory with what is assigned to changed"
        return None

    def _find_homes(self) -> None:
        """The arrays that own the memory that is written to."""
        self.moves = self.world.moves
        self.homes = {id(owner(s.place())) for s in self.sinks if s.kind == "write"}

    def _overlapping(self, leaves: list[Any]) -> list[Any]:
        """Where the arguments lie that share memory with what is written to."""
        arrays = [(k, _array_of(leaves[k])) for k in self.dynamic]
        return [(k, facts(a)) for k, a in arrays if id(owner(a)) in self.homes]

    def run(self, leaves: list[Any]) -> Any:
        """The captured function on other arrays, with all its effects.

        Raises Outdated, and does nothing, where an optimiser's numbers ask for other code.
        """
        updates = self.capture.effects.updates
        numbers: list[dict[str, Any]] = []
        known: dict[Any, Any] = {}
        seen = None
        try:
            for advance, update in updates:
                numbers.append(now := advance(known))
                if now is not seen and not update.suits(now):  # most parameters share them
                    raise Outdated(f"the numbers that {update.name} branches on changed")
                seen = now
            if not self.ranges.drawn:
                self.ranges(leaves, {})
            draws = {i.var: i.fetch() for i in self.draws}
            if self.ranges.drawn:
                self.ranges(leaves, draws)
            made = self._made(leaves, draws, numbers)
        except BaseException:  # no optimiser has made a step
            for advance, _ in updates[: len(numbers)]:
                advance(known, by=-1)
            raise
        return self._delivered(leaves, made)

    def _made(
        self, leaves: list[Any], draws: dict[Var, Any], numbers: list[dict[str, Any]]
    ) -> Sequence[Any]:
        """What the program makes, a second time with guards where a NaN was seen."""
        targets = [place() if place is not None else None for place in self.places]
        made = None
        if not (self.execution.late or self._doubtful):
            made = self.execution(leaves, draws, numbers, targets)
        if made is None:  # a NaN: it may be a 0·∞ that the guards would have dropped
            self._doubtful = (self._doubtful or GUARDED_CALLS) - 1
            if self.careful is None:
                self.careful = self._execution(simplified(self._guarded))
            made = self.careful(leaves, draws, numbers, targets)
            assert made is not None
        return made

    def _delivered(self, leaves: list[Any], made: Sequence[Any]) -> Any:
        """Hand out what was made."""
        results = list(self.results)
        for k, kind, place in self.handed:
            array = made[k]
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


def _doubted(e: Equation) -> Var | None:
    """The array whose NaNs ``e`` tells: what a guard is later about."""
    return e.inputs[0] if isinstance(e.operation, Later) else None


def simplified(program: Program) -> Program:
    """Composites written out, slices joined, parts read where they were made, sums in products.

    What is repeated or never read is left out.
    """
    written_out = without_idle_moves(expanded(with_constants_known(without_dead(program))))
    joined = without_dead(with_parts_read(with_slices_joined(without_repeats(written_out))))
    return without_dead(with_sums_in_products(joined))


class Sink(NamedTuple):
    """Where an output goes: ``place`` is a position, a tensor, a function to an array, a thing."""

    kind: str
    var: Var | None
    place: Any


def _check_unchanged(now: Any, then: Any) -> None:
    """Raise GraphError where the function has changed a container that was passed."""
    same = structure_of(now) == structure_of(then)
    if not same or any(a is not b for a, b in zip(flatten(now)[0], flatten(then)[0], strict=True)):
        raise GraphError(
            "jit: the function changes a list or dict that was passed, which a compiled step would "
            "not do",
            "   help: return what is new, or change a copy: dict(batch)",
        )


def _check_uncut(found: list[Any], arguments: dict[str, Tensor]) -> None:
    """Raise GraphError where gradients would have to flow through a result to an argument."""
    nodes = {x.node: name for name, x in arguments.items() if x.node is not None}
    roots = [
        x.node
        for x in found
        if isinstance(x, Value) and x.node is not None and x.node.saved is not None
    ]
    for node in newest_first(roots) if nodes else ():
        if node in nodes:
            raise GraphError(
                f"jit: a result depends on {nodes[node]}, which requires gradients, but "
                "results carry no graph",
                "   help: compute gradients inside: jit(grad(f)), not grad(jit(f))",
                "   help: detach() the result or the argument if none are wanted",
            )


def _array_of(leaf: Any) -> Any:
    return leaf.array if isinstance(leaf, Value) else leaf


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
