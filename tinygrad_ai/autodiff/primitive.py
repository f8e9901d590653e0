"""The record of an operation, from which everything else about it is derived."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import numpy as np

from tinygrad_ai.autodiff.graph import Node, Value, mode, owner
from tinygrad_ai.backend import NUMPY, SILENT, describe, error_state, known, namespaces, operands

REAL = (-np.inf, np.inf)
POSITIVE = (0.0, np.inf)
KINDS = ("elementwise", "linear", "reduction", "movement", "contraction", "opaque")


class Rule:
    """A VJP rule for one input, and where its arguments come from.

    The first parameter is the cotangent; the others name what the rule reads, and nothing else is
    kept alive for it: ``y`` the output, an input by its name in the forward rule, a keyword
    parameter by its name, ``in_shape``, ``in_dtype`` of the input being differentiated, ``i`` its
    position, ``others`` the inputs of a primitive with ``*inputs`` (None at ``i``).
    """

    __slots__ = ("function", "reads", "sources")

    def __init__(self, function: Callable[..., Any], inputs: Sequence[str]) -> None:
        self.function = function
        positions = {name: k for k, name in enumerate(inputs)} | {"y": -1}
        names = list(inspect.signature(function).parameters)[1:]
        self.sources = tuple(positions.get(name, name) for name in names)
        self.reads = frozenset(s for s in self.sources if isinstance(s, int))


class Primitive:
    """One operation: what it computes, how gradients pass through it, and what is true of it.

    What a record must hold, and why:

    ``name``     the field's term for it; printed in formulas, errors and reports.
    ``kind``     what its Jacobian looks like, which makes rules free. *elementwise*: diagonal, so
                 the JVP is the VJP rule itself, broadcasting is undone in the engine, and the
                 forward rule also runs on scalar expressions, from which kernels are generated.
                 *linear*, *movement*: the JVP is the operation itself. *contraction*: linear in
                 each input. *reduction*, *opaque*: the JVP is made of two VJPs.
    ``forward``  ``forward(xp, *inputs, **params)`` on raw arrays of any backend, never a Tensor.
                 Inputs are positional and can carry gradients; parameters are keyword-only.
    ``vjp``      a rule for each input (None: not differentiable), written with primitives and
                 operators, so that gradients have gradients; see :class:`Rule` for its arguments.
                 A primitive with ``*inputs`` has one rule for all that takes ``i``.
    ``jvp``      ``"linear"`` where the operation is its own JVP though the kind does not say so.
    ``why``      one sentence for the learner: why the rule is what it is.
    ``domain``   an interval for each input inside which the function is defined and smooth but
                 for its kinks; tests and strategies draw from it.
    ``kinks``    a function of the inputs that is zero exactly at the kinks, where one-sided
                 derivatives differ and the rule gives the minimum-norm subgradient.
    ``singular`` says where the local derivative is 0 or infinite, so that 0·∞ can arise; the
                 engine then guards the contribution (design: 0·∞ is 0 inside a VJP).
    ``quiet``    the same for kinds other than elementwise: a rule, like a VJP's, that says where in
                 the input no part of the cotangent can arrive but zeros; a NaN there is 0.
    ``into``     ``into(total, g, **params)`` adds the contribution of ``g`` to what has already
                 arrived at the input, where that touches less than all of it.
    ``batch``    how ``vmap`` adds a leading axis: a function ``(size, **params) -> params``, the
                 string ``"leading"`` where leading axes broadcast by themselves; elementwise
                 needs none, and what has no rule is looped.
    ``lower``    what code generation needs beyond the kind: a reduction's ``combine``,
                 ``identity`` and ``finish``; a contraction's index specification; a movement's
                 index map.
    ``kernel``   what is asked before the rules for large arrays: *own*, a kernel of the record's
                 name; *fused*, kernels made of the rules, which make pass after pass; *pull*, the
                 same of the VJP rules alone.
    ``sample``   ``sample(rng) -> (inputs, params)``, a random valid call, for kinds whose calls
                 cannot be derived from ``domain`` alone.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        forward: Callable[..., Any],
        vjp: Any = None,
        *,
        why: str,
        jvp: str | None = None,
        domain: Sequence[tuple[float, float]] | None = None,
        kinks: Callable[..., Any] | None = None,
        singular: str | None = None,
        quiet: Callable[..., Any] | None = None,
        into: Callable[..., None] | None = None,
        batch: Any = None,
        lower: Any = None,
        sample: Callable[..., Any] | None = None,
        kernel: str = "",
    ) -> None:
        assert kind in KINDS, kind
        self.name = self.__name__ = name
        self.kind = kind
        self.forward = forward
        self.jvp = jvp
        self.why = why
        self.kinks = kinks
        self.singular = singular
        self.into = into
        self.batch = batch
        self.lower = lower
        self.sample = sample
        self.kernel = kernel
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.arity = len(self.inputs)
        self.domain = tuple(domain) if domain else (REAL,) * self.arity
        rules = (vjp,) if callable(vjp) else (vjp or ())
        self.rules = tuple(rule and Rule(rule, self.inputs) for rule in rules)
        self.quiet = quiet and Rule(quiet, self.inputs)
        self.differentiable = any(self.rules)
        self._sloped = -1 if self.variadic else sum(bool(r) << k for k, r in enumerate(self.rules))
        self._keep: dict[int, tuple[int, ...]] = {}
        self.__doc__ = f"{name}({', '.join(self.inputs) or '*inputs'}): {why}."
        self.__signature__ = inspect.Signature(
            [p.replace(kind=p.POSITIONAL_ONLY) if p.name in self.inputs else p for p in parameters]
        )

    def __repr__(self) -> str:
        return f"<primitive {self.name}: {self.kind}>"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A record standing in a class body is a method."""
        return self if instance is None else MethodType(self, instance)

    def rule(self, i: int) -> Rule | None:
        """The VJP rule of input ``i``."""
        return self.rules[0 if self.variadic else i] if self.rules else None

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Apply to Tensors, arrays, scalars or scalar expressions; arrays alone give an array."""
        arrays = list(args)
        result_type = None
        tracked = 0
        for k, arg in enumerate(args):
            if isinstance(arg, Value):
                arrays[k] = arg.array
                result_type = arg.result_type
                if arg.node is not None:
                    tracked |= 1 << k
            elif type(arg) not in known:
                return self(*operands(self.name, self.inputs, args), **params)
        if mode.interpreter is None:
            out = self.evaluate(arrays, params)
        else:
            out = mode.interpreter(self, args, arrays, params)
        if result_type is None:
            return out
        value = result_type.box(out)
        array = value.array
        if self.kind == "movement" and owner(array) is owner(arrays[0]):
            value.version = args[0].version
        tracked &= self._sloped
        if tracked and mode.grad and self.rules and array.dtype.kind == "f":
            value.node = self._record(args, params, value, tracked)
        return value

    def evaluate(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        """The forward rule in the namespace of the arrays, silently; errors are explained."""
        xp = NUMPY.xp
        for array in arrays:
            found = namespaces.get(type(array))
            if found is not None:
                xp = found
                break
        before = error_state.set(SILENT)
        try:
            found = xp.native(self, arrays, params) if self.kernel else None
            return self.forward(xp, *arrays, **params) if found is None else found
        except Exception as error:
            described = describe(self, arrays, params, error)
            if described is error:
                raise
            raise described from error
        finally:
            error_state.reset(before)

    def _record(
        self, args: Sequence[Any], params: dict[str, Any], value: Value, tracked: int
    ) -> Node:
        edges = tuple([arg.node if tracked >> k & 1 else None for k, arg in enumerate(args)])
        keep = self._keep.get(tracked)
        if keep is None or self.variadic:
            keep = self._keep[tracked] = self._reads(edges)
        saved: dict[int, tuple[Any, Any, int]] = {}
        for k in keep:
            source = value if k < 0 else args[k]
            if isinstance(source, Value):
                cell = source.version
                saved[k] = (source.array, cell, cell[0])
            else:  # the user may write into an array of his own
                saved[k] = (source.copy() if hasattr(source, "dtype") else source, None, 0)
        node = Node(self, edges, params, saved, value.array.shape, value.array.dtype)
        if mode.on_record is not None:
            mode.on_record(node)
        return node

    def _reads(self, edges: Sequence[Node | None]) -> tuple[int, ...]:
        """Which inputs (-1: the output) the rules of the tracked inputs read."""
        reads: set[int] = set()
        for k, edge in enumerate(edges):
            rule = self.rule(k)
            if edge is not None and rule is not None:
                others = set(range(len(edges))) - {k} if "others" in rule.sources else set()
                reads |= rule.reads | others
        return tuple(sorted(reads))

    def pull(self, node: Node, i: int, g: Any, lift: bool = False) -> Any:
        """The contribution of cotangent ``g`` to input ``i`` of ``node``.

        On raw arrays, or with ``lift`` on values boxed around the nodes they came from, so that the
        contribution is recorded in its turn.
        """
        rule = self.rule(i)
        assert rule is not None
        return rule.function(g, *self.arguments(rule, node, i, lift))

    def arguments(self, rule: Rule, node: Node, i: int, lift: bool) -> list[Any]:
        """What ``rule`` reads besides the cotangent: arrays, or with ``lift`` values."""
        node.check_kept()
        load = _lifted if lift else lambda node, k: node.residual(k)[0]
        arguments = []
        for source in rule.sources:
            if isinstance(source, int):
                arguments.append(load(node, source))
            elif source == "in_shape":
                arguments.append(node.edges[i].shape)
            elif source == "in_dtype":
                arguments.append(node.edges[i].dtype)
            elif source == "i":
                arguments.append(i)
            elif source == "others":
                others = range(len(node.edges))
                arguments.append([None if k == i else load(node, k) for k in others])
            else:
                arguments.append(node.params[source])
        return arguments


def _lifted(node: Node, k: int) -> Any:
    array, origin = node.residual(k)
    return Value.result_type.box(array, origin) if hasattr(array, "dtype") else array


def elementwise(name: str, forward: Callable[..., Any], vjp: Any = None, **facts: Any) -> Primitive:
    """An operation with a diagonal Jacobian; its forward rule also runs on scalar expressions."""
    return Primitive(name, "elementwise", forward, vjp, **facts)


def movement(name: str, forward: Callable[..., Any], vjp: Any, **facts: Any) -> Primitive:
    """An operation that only moves elements: linear, and its result may be a view."""
    return Primitive(name, "movement", forward, vjp, **facts)


def linear(name: str, forward: Callable[..., Any], vjp: Any, **facts: Any) -> Primitive:
    """An operation that is linear in all its inputs together: the JVP is the operation itself."""
    return Primitive(name, "linear", forward, vjp, **facts)


def reduction(name: str, forward: Callable[..., Any], vjp: Any = None, **facts: Any) -> Primitive:
    """An operation that folds axes with a combine function; parameters ``axis``, ``keepdims``."""
    return Primitive(name, "reduction", forward, vjp, **facts)


def contraction(name: str, forward: Callable[..., Any], vjp: Any, **facts: Any) -> Primitive:
    """An operation that is linear in each input: products summed over indices."""
    return Primitive(name, "contraction", forward, vjp, **facts)


def opaque(name: str, forward: Callable[..., Any], vjp: Any = None, **facts: Any) -> Primitive:
    """An operation of which nothing more is known than its rules."""
    return Primitive(name, "opaque", forward, vjp, **facts)
