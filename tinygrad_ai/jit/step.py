"""``jit``: a function captured once per signature and replayed as compiled kernels."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value, mode
from tinygrad_ai.errors import DTypeError, GraphError, warn_user
from tinygrad_ai.jit.capture import NeedsTensor
from tinygrad_ai.jit.plan import Outdated, Plan
from tinygrad_ai.jit.program import frozen
from tinygrad_ai.transforms.tree import flatten, paths_of, structure_of


def jit(function: Callable[..., Any] | None = None, *, debug: bool = False) -> Any:
    """``function`` compiled: captured at the first call, replayed as kernels at the others.

    Args:
        function: reads Tensors (arguments, and those it closes over), may call ``backward``, step
            optimisers, draw from ``tinygrad_ai.random``, assign to tensors and slices of them
            (views follow, as in NumPy), and returns nested tuples, lists and dicts of Tensors.
            Arguments that are no tensors are static; NumPy arrays come in as Tensors.
        debug: run eagerly, so that print and a debugger work.

    A change of shapes, dtypes, static arguments, of closed-over or global values or of
    ``training`` captures anew; ``step.explain_retrace()`` says why. Learning rates do not. Outputs
    are fresh and carry no graph. Raises GraphError, with the user's line, where the values of a
    tensor are asked for, random numbers of NumPy or Python are drawn, an iterator is named, and
    where two captures differ; for an index or a label out of range what the plain function raises,
    before anything is changed.

    What guards cannot see: what a library's function reads for itself (a clock, the environment, a
    ContextVar), numbers behind a weak reference or in an installed module's objects, new defaults
    or methods of a function or class, and, where Python reads them (``float(a[0])``), the elements
    of a NumPy array above 4 KiB or of one that operations read too. Tensors are followed there too.
    """
    if function is None:
        return functools.partial(jit, debug=debug)
    if not callable(function):
        raise DTypeError(f"jit compiles a function, not {function!r}")
    return Step(function, debug)


_steps: weakref.WeakSet[Step] = weakref.WeakSet()
MANY = 16  # captures of one function after which something is probably wrong


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
        self._last: Plan | None = None

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
                try:
                    if (why := plan.stale(leaves)) is None:
                        return plan.run(leaves)
                    self._reason = why
                except Outdated as reason:
                    self._reason = str(reason)
            names = _argument_names(self.function, args, keywords)
            if not plans:
                self._reason = self._new_signature(signature, names)
            plan = self._another(leaves, rebuild, names)
            plans[:] = [plan, *plans[:7]]
            try:
                return plan.run(leaves)
            except Outdated as reason:
                raise GraphError(
                    f"jit: {reason} between the capture and the call: numbers() of an optimiser "
                    "must depend on its settings and the step alone"
                ) from None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A compiled function in a class body is a method."""
        return self if instance is None else BoundStep(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is the same function, not compiled yet."""
        return Step, (self.function, self.debug)

    @property
    def _name(self) -> str:
        return getattr(self, "__name__", "step")

    def explain_retrace(self) -> str:
        """Why the last capture was made."""
        return self._reason

    def report(self, times: bool = False) -> str:
        """What was compiled for each signature: a table of kernels, and why they are not fewer.

        A line holds equal launches: what they do, on which shape (a sum of products: how many, Σ),
        how many there are, the bytes that they read and write, and their FLOPs. ``times`` adds how
        long they take by one thread, measured for about half a second; nothing is changed by it.
        """
        with self._lock:
            tables = [
                plan.running.report(f"{self._name}({_arrays(signature)})", times)
                for signature, plans in self.plans.items()
                for plan in plans
            ]
        return "\n\n".join(tables) or self._nothing()

    def source(self) -> str:
        """The code of the kernels."""
        plans = (p for plans in self.plans.values() for p in plans)
        return "\n\n".join(p.running.source() for p in plans) or self._nothing()

    def program(self) -> str:
        """The program of the last capture."""
        return self._nothing() if self._last is None else str(self._last.optimized)

    def _nothing(self) -> str:
        why = "debug=True runs it eagerly" if self.debug else self._reason
        return f"{self._name}: nothing is compiled: {why}"

    def _new_signature(self, signature: Any, names: Sequence[str]) -> str:
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
            alike = any(s[1:] == signature[1:] for s in others)
            return f"{'no_grad' if alike else 'the number, names or kinds of arguments'} changed"
        k, then, now = min(reversed(differing), key=len)[0]
        return f"{names[k]} was {_shown(then)} and is {_shown(now)}"

    def _another(
        self, leaves: list[Any], rebuild: Callable[[list[Any]], Any], names: Sequence[str]
    ) -> Plan:
        self.captures += 1
        with _uncollected():
            plan = self._last = self._compiled(leaves, rebuild, names)
        if self.captures == MANY:
            warn_user(
                f"jit: {self._name} was captured {MANY} times, which takes longer than it saves; "
                f"lately because {self._reason}. Numbers that change are better passed as "
                "tensors, batches padded to few shapes"
            )
        return plan

    def _planned(
        self, leaves: list[Any], rebuild: Callable[[list[Any]], Any], names: Sequence[str]
    ) -> Plan:
        itself: set[int] = set()
        while True:
            try:
                return Plan(self.function, leaves, rebuild, names, itself)
            except NeedsTensor as need:
                itself.add(need.argument)

    def _compiled(
        self, leaves: list[Any], rebuild: Callable[[list[Any]], Any], names: Sequence[str]
    ) -> Plan:
        first, second = (self._planned(leaves, rebuild, names) for _ in range(2))
        if first.fingerprint() != second.fingerprint():
            first.world.undo()
            raise GraphError(
                "jit: two captures of the function differ: it depends on something that changes by "
                "itself (a clock, NumPy's random numbers, a counter)",
                "   help: draw from tinygrad_ai.random, and pass what changes as a Tensor",
            )
        if (change := second.world.change()) is not None:
            first.world.undo()
            raise GraphError(
                f"jit: the function changes Python values at every call ({change}), which a "
                "compiled step would not do",
                "   help: keep what changes in a Tensor, count[...] = count + 1",
            )
        first.world.tensors += first.capture.adopt(second.capture)
        first.compile()
        return first


class BoundStep:
    """A compiled method of ``instance``; what there is to ask, :class:`Step` answers."""

    def __init__(self, step: Step, instance: Any) -> None:
        functools.update_wrapper(self, step.function)
        self.__self__, self._step = instance, step

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._step(self.__self__, *args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_step"], name)


@contextmanager
def _uncollected() -> Iterator[None]:
    """The garbage collector waits: next to nothing of what a capture makes is garbage, and looking
    for it again and again takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # the next young collection would look at all that is new
                gc.freeze()
                gc.unfreeze()  # to the oldest generation, as all young objects are
            gc.enable()


def _after_fork() -> None:
    """Whoever held a lock stayed with the parent."""
    for step in _steps:
        step._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _argument_names(
    function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> list[str]:
    """What errors call the leaves of the arguments: by parameter, where its name is known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a built-in function
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "arguments")
    names += [f"{rest}[{k}]" for k in range(len(args) - len(names))]
    given = [*zip(names, args, strict=False), *keywords.items()]
    return [f"argument {path}" for name, value in given for path in paths_of(value, name)]


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


def _arrays(signature: Any) -> str:
    """The arrays among the arguments, as types."""
    arrays = (facts for kind, *facts in signature[1] if kind in ("tensor", "array"))
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype, *_ in arrays)


def _shown(described: Any) -> str:
    kind, *facts = described
    if kind == "static":
        return str(facts[0][1] if isinstance(facts[0], tuple) else facts[0])
    return f"{kind} " + " ".join(map(str, facts))
