"""Execution: the kernels of a program, their memory, and as few native calls as possible.

All arrays that live inside a step share one arena, planned beforehand; a table holds the addresses
of all operands of all launches, and only those of arrays from outside change between calls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Value
from tinygrad_ai.autodiff.graph import owner
from tinygrad_ai.config import threads, wanted_threads
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.jit.driver import WORDS
from tinygrad_ai.jit.fuse import Fused, Rows
from tinygrad_ai.jit.launches import Call, Launch, Lowering
from tinygrad_ai.jit.program import Input, Program, Var
from tinygrad_ai.jit.report import REPEATS, least, report
from tinygrad_ai.jit.threads import Pace, run_launches
from tinygrad_ai.jit.update import Update
from tinygrad_ai.kernels.cpu.memory import address
from tinygrad_ai.kernels.cpu.simd import LINE, padded


class Space:
    """Bytes that are taken and given back: what is free, in order, neighbours joined."""

    def __init__(self) -> None:
        self.top = 0
        self.free: list[tuple[int, int]] = []  # begin, end

    def take(self, size: int) -> int:
        """The first place of ``size`` bytes."""
        for k, (begin, end) in enumerate(self.free):
            if end - begin >= size:
                self.free[k : k + 1] = [(begin + size, end)] if end - begin > size else []
                return begin
        self.top += size
        return self.top - size

    def give(self, begin: int, size: int) -> None:
        """Take back ``size`` bytes from ``begin`` on."""
        end = begin + size
        k = bisect_left(self.free, (begin, end))
        if k < len(self.free) and self.free[k][0] == end:
            end = self.free.pop(k)[1]
        if k and self.free[k - 1][1] == begin:
            k -= 1
            begin = self.free.pop(k)[0]
        if size:
            self.free.insert(k, (begin, end))


def aligned(size: int) -> np.ndarray[Any, Any]:
    """``size`` bytes of zeros that begin with a cache line."""
    room = np.zeros(size + LINE, np.uint8)
    skip = -address(room) % LINE
    return room[skip : skip + size]


class Output(NamedTuple):
    """An output: fresh at every call, or written to an array of which ``old`` was the content.

    ``beside`` are variables that stand for views of that array.
    """

    var: Var
    in_place: bool
    old: Var | None = None
    beside: Sequence[Var] = ()


class Execution:
    """A program lowered for this machine; see :meth:`__call__`.

    Kernels that watch for NaNs raise a flag, which is looked at before anything is written in
    place; ``late`` says that there is no such moment.
    """

    def __init__(self, program: Program, outputs: Sequence[Output]) -> None:
        self.program, self.outputs = program, outputs
        self.fused = Fused(program)
        self.memory: dict[Var, Any] = {}
        self.launches = Lowering(self.fused, self.memory).launches
        self.made = {v: k for k, launch in enumerate(self.launches) for v in launch.makes()}
        self.direct = self._direct()
        self._commit()
        self._plan()
        self._tabulate()
        self._divide()
        self._sort_inputs()

    # ------------------------------------------------------------------------------------ memory

    def _direct(self) -> dict[int, Var]:
        """Outputs that kernels write where they belong: output number -> root.

        Not those that are inputs or views, that come twice, or whose place is still to be read.
        """
        fused = self.fused
        found: dict[int, Var] = {}
        last = {v: k for k, launch in enumerate(self.launches) for v in launch.reads()}
        last |= {fused.views[o.var].root: len(self.launches) for o in self.outputs}  # copied then
        for k, (v, in_place, old, beside) in enumerate(self.outputs):
            view = fused.views[v]
            root = view.root
            if root in fused.inputs or root in found.values() or root is not v:
                continue
            if in_place and old is not None:
                place = self.made[root]
                kernel = fused.kernels[fused.place[root]]
                flat = isinstance(kernel, Rows) and kernel.outer is None
                if last.get(old, -1) > place or (last.get(old) == place and not flat):
                    continue
                if any(last.get(other, -1) >= place for other in beside):
                    continue
            found[k] = root
        return found

    def _commit(self) -> None:
        """When to look at the flag: before the first launch that writes in place.

        Outputs that would be written too soon are copied at the end, but for an optimiser's.
        """
        self._flag = np.zeros(1, np.int64)
        self.memory[self.fused.flag] = self._flag
        watching = [k for k, x in enumerate(self.launches) if self.fused.flag in x.reads()]
        updated = {
            v for e in self.program.equations for v in e.outputs if isinstance(e.operation, Update)
        }
        last = max(watching, default=-1)
        for k, v in list(self.direct.items()):
            if self.outputs[k].in_place and self.made[v] <= last and v not in updated:
                del self.direct[k]
        written = [self.made[v] for k, v in self.direct.items() if self.outputs[k].in_place]
        first = min(written, default=len(self.launches))
        self.late = last >= first
        self.commit = first if watching else -1

    def _plan(self) -> None:
        """The arena: roots that never live at the same time share bytes."""
        ends: dict[Var, int] = {}
        for k, launch in enumerate(self.launches):
            ends.update(dict.fromkeys(launch.reads(), k))
        forever = len(self.launches)
        ends |= {self.fused.views[v].root: forever for v in self.program.outputs}
        direct = set(self.direct.values())
        scratch = {
            launch.operands[k]
            for launch in self.launches
            if isinstance(launch, Launch)
            for k in launch.scratch
        }
        space = Space()
        self.offsets: dict[Var, int] = {}
        dying: dict[int, list[Var]] = {}
        for k, launch in enumerate(self.launches):
            for v in launch.makes():
                if v not in direct and v not in scratch and v not in self.offsets:
                    found = self._replaced(launch, v, dying.get(k, ()))
                    if found is None:
                        self.offsets[v] = space.take(padded(v.nbytes))
                    else:
                        dying[k].remove(found)
                        self.offsets[v] = self.offsets[found]
                    dying.setdefault(ends.get(v, k), []).append(v)
            for v in dying.pop(k, ()):
                space.give(self.offsets[v], padded(v.nbytes))
        self.arena = arena = aligned(space.top)
        for v, at in self.offsets.items():
            self.memory[v] = arena[at : at + v.nbytes].view(v.dtype).reshape(v.shape)

    def _replaced(self, launch: Launch | Call, v: Var, dying: Sequence[Var]) -> Var | None:
        """What is read for the last time where ``v`` is written, element by element, if anything.

        Writing to its place costs no cache lines, and saves memory. What such a kernel reads of
        that size is the whole array; what it makes for nobody dies there too.
        """
        kernel = self.fused.kernels[self.fused.place[v]] if v in self.fused.place else None
        if not isinstance(kernel, Rows) or kernel.outer is not None:
            return None
        for old in dying:
            alike = old.size == v.size and old.dtype.itemsize == v.dtype.itemsize
            if alike and old in launch.reads():
                return old
        return None

    def _tabulate(self) -> None:
        """The table of addresses: where each launch's begin, and where each root is used."""
        self.uses: dict[Var, list[tuple[int, int]]] = {}  # places in the table, bytes to skip
        self._starts: list[int] = []
        count = scratch = 0
        for launch in self.launches:
            self._starts.append(count)
            if isinstance(launch, Launch):
                for k, v in enumerate(launch.operands, start=count):
                    skip = launch.offsets.get(k - count, 0) * v.dtype.itemsize
                    self.uses.setdefault(v, []).append((k, skip))
                count += len(launch.operands)
                scratch = max(scratch, sum(launch.scratch.values()))
        self.table = np.zeros(count + 1, np.uint64)
        self._entries = self.table.data  # sooner written to
        self._scratch = aligned(scratch * threads())

    def _divide(self) -> None:
        """The launches' words, in runs of native ones between the calls of Python."""
        first = address(self.table)
        words: list[int] = []
        self.segments: list[tuple[int, int] | Callable[[], Any]] = []
        for number, (launch, start) in enumerate(zip(self.launches, self._starts, strict=True)):
            if number == self.commit:
                self._native([0, address(self._flag), 0, 0], words)
            if isinstance(launch, Call):
                self.segments.append(launch.run)
                continue
            at = address(self._scratch)
            for k, size in launch.scratch.items():
                self.table[start + k] = at
                at += size * threads()
            at = first + 8 * start
            self._native([launch.native.address, at, launch.total, launch.grain], words)
        shared = any(words[WORDS - 1 :: WORDS])
        self.threads = threads() if shared else 1
        self._pace = Pace(self.threads) if wanted_threads() is None else None
        self.words = np.array([*words, 0], np.uint64)
        self._first = address(self.words)

    def _native(self, launch: list[int], words: list[int]) -> None:
        """Append a launch's words, to the last segment if that is native."""
        begin = len(words) // WORDS
        words += launch
        before = self.segments[-1] if self.segments else None
        if isinstance(before, tuple):
            self.segments[-1] = before[0], begin + 1
        else:
            self.segments.append((begin, begin + 1))

    def _sort_inputs(self) -> None:
        """Inputs and outputs by what has to be done about them at a call."""
        kinds: dict[str, list[Input]] = {}
        for source in self.program.inputs:
            kinds.setdefault(source.kind, []).append(source)
        settings, draws = kinds.pop("number", []), kinds.pop("draw", [])
        self._arguments = kinds.pop("argument", [])
        constants, states = kinds.pop("constant", []), {s.var: s for s in kinds.pop("state", [])}
        assert not kinds, kinds
        #: what is written in place: the number of the output, and what its array held before
        self._changed = [(k, o.old) for k, o in enumerate(self.outputs) if o.old in states]
        for _, v in self._changed:
            del states[v]
        self._states = [(v, source.fetch) for v, source in states.items()]
        self._settings = [source.key for source in settings]
        self.numbers = np.zeros(len(settings))
        for k, source in enumerate(settings):
            self.memory[source.var] = self.numbers[k : k + 1].reshape(())
        self._written = [(k, v) for k, v in self.direct.items() if self.outputs[k].in_place]
        self._fresh = [(k, v) for k, v in self.direct.items() if not self.outputs[k].in_place]
        self._passing = [*(s.var for s in (*self._arguments, *draws)), *(v for _, v in self._fresh)]
        self._homes: set[int] = set()  # the arrays that are written in place
        self._targets: list[Any] | None = None  # those that the table knows
        views = [(k, self.fused.views[o.var]) for k, o in enumerate(self.outputs)]
        self._indirect = [(k, view, view.root) for k, view in views if k not in self.direct]
        for v, array in self.memory.items():
            self._point(v, array)
        for source in constants:
            self._take(source.var, source.fetch())

    def _point(self, v: Var, array: Any) -> None:
        at, table = address(array), self._entries
        for k, skip in self.uses.get(v, ()):
            table[k] = at + skip

    # --------------------------------------------------------------------------------------- run

    def __call__(
        self,
        arguments: Sequence[Any],
        draws: dict[Var, Any],
        numbers: Sequence[dict[str, Any]],
        targets: Sequence[Any],
    ) -> list[Any] | None:
        """The outputs, in order; None where a NaN was found that matters.

        ``arguments`` are indexed by the keys of the program's arguments, ``numbers`` by those of
        its numbers; ``targets`` are the arrays of the outputs that are written in place, None for
        the others.
        """
        self._flag[0] = 0
        self.numbers[:] = [numbers[place][name] for place, name in self._settings]
        for v, array in draws.items():
            self._take(v, array)
        memory = self.memory
        for v, fetch in self._states:
            array = fetch()
            if array is not memory.get(v):
                self._take(v, array)
        if self._targets is None or not all(map(is_, targets, self._targets)):
            self._settle(targets)
        results: list[Any] = list(targets)
        for k, v in self._fresh:
            memory[v] = results[k] = np.empty(v.shape, v.dtype)
            self._point(v, results[k])
        for source in self._arguments:
            given = arguments[source.key]
            array = given.array if isinstance(given, Value) else given
            written = id(owner(array)) in self._homes  # while it is still to be read
            self._take(source.var, array.copy() if written else array)
        done = self._pace(self._run) if self._pace else self._run(self.threads)
        found = self._delivered(results) if done else None
        for v in self._passing:  # not to be kept alive by the plan
            memory.pop(v, None)
        return found

    def _settle(self, targets: Sequence[Any]) -> None:
        """The table knows the arrays that are written in place (again next time if copies do).

        Raises ShapeError where one must not be written to.
        """
        self._targets = None  # whatever comes in between
        for target in targets:
            if target is not None and not target.flags.writeable:
                raise ShapeError(
                    f"x[…] = y in a compiled step: a tensor {target.shape} is read-only"
                )
        self._homes = {id(owner(target)) for target in targets if target is not None}
        places = [*self._written, *self._changed]
        for k, v in places:
            self._take(v, targets[k])
        lasting = all(self.memory[v] is targets[k] for k, v in places)
        self._targets = list(targets) if lasting else None

    def _delivered(self, results: list[Any]) -> list[Any]:
        """``results`` with what kernels have not written where it belongs."""
        memory = self.memory
        if self._targets is None:  # one is not C-contiguous
            for k, v in self._written:
                if memory[v] is not results[k]:
                    np.copyto(results[k], memory[v])
        copies = [np.array(view.array(memory[root])) for _, view, root in self._indirect]
        for (k, _, _), made in zip(self._indirect, copies, strict=True):
            if results[k] is None:
                results[k] = made
            else:
                np.copyto(results[k], made)
        return results

    def _take(self, v: Var, array: Any) -> None:
        """``array`` is the memory of ``v`` from here on (or its copy, if it lies otherwise)."""
        if not array.flags.c_contiguous or array.dtype != v.dtype:
            array = np.ascontiguousarray(array, v.dtype).reshape(v.shape)
        self.memory[v] = array
        self._point(v, array)

    def _run(self, count: int) -> bool:
        """Everything in order, by ``count`` threads; False where a NaN ended it."""
        for segment in self.segments:
            if isinstance(segment, tuple):
                begin, end = segment
                run_launches(self._first + 8 * WORDS * begin, end - begin, count)
                if self._flag[0]:
                    return False
            else:
                segment()
        return True

    # ------------------------------------------------------------------------------------ report

    def report(self, title: str, times: bool = False) -> str:
        """What is launched and why, below ``title``; with ``times``, how long each launch takes."""
        measured = self.times() if times else None
        return report(title, self.fused, self.launches, self.arena.nbytes, measured)

    def times(self) -> list[float]:
        """The seconds of each launch by one thread (see :func:`~tinygrad_ai.jit.report.least`).

        Nothing is changed: copies stand for the arrays of tensors, random numbers for arguments and
        draws (zeros where they are integers).
        """
        before = dict(self.memory)
        try:
            self._stand_in(before)
            return least(list(map(self._repeated, self.launches, self._starts)))
        finally:
            self.memory.clear()
            for v, array in before.items():
                self._take(v, array)

    def _repeated(self, work: Launch | Call, start: int) -> Callable[[int], Any]:
        """What does a launch a number of times."""
        if isinstance(work, Call):
            return partial(_many, work.run)
        one = [work.native.address, address(self.table) + 8 * start, work.total, work.grain]
        words = np.array(one * REPEATS, np.uint64)
        return lambda count: run_launches(address(words), count, 1)

    def _stand_in(self, known: dict[Var, Any]) -> None:
        """Other arrays for all that come from outside; those that are the same one stay so."""
        rng = np.random.default_rng(0)
        copies: dict[int, Any] = {}
        sources = (s.var for s in self.program.inputs if s.kind != "number")
        for v in (*sources, *self.direct.values()):
            if v in known:
                made = copies.setdefault(id(known[v]), known[v].copy())
            elif v.dtype.kind == "f":
                made = np.asarray(rng.standard_normal(v.shape)).astype(v.dtype)
            else:
                made = np.zeros(v.shape, v.dtype)
            self._take(v, made)

    def source(self) -> str:
        """The kernels' LLVM IR, each below the name of a launch."""
        kernels = {id(k.native): k for k in self.launches if isinstance(k, Launch)}
        return "\n".join(f"; {k.name}\n{k.source()}" for k in kernels.values())


def _many(run: Callable[[], None], count: int) -> None:
    for _ in range(count):
        run()
