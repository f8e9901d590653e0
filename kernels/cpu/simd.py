"""Explicit vector code: LLVM IR for the host's vector width.

A :class:`Simd` writes operations on vectors of a fixed number of lanes into an ``ir.IRBuilder``:
one of ours, or that of a Numba ``@intrinsic``. Its methods have NumPy's names and meaning; values
are LLVM vectors (of i1 for booleans, also with one lane). No fast-math: what is written is what
is computed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels import C_FUNCTIONS, C_NAMES

POINTER = ir.PointerType()
I64 = ir.IntType(64)
#: What a step launches: the addresses of operands, the first and the last of the units of work
#: to be done, and the number of the thread.
KERNEL = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64, I64])
LINE = 64  # bytes of a cache line
BIT, BYTE = ir.IntType(1), ir.IntType(8)
ELEMENTS = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": ir.IntType(32),
    "int64": I64,
    "bool": BIT,
}


def element_type(dtype: Any) -> ir.Type:
    """The LLVM type of a NumPy dtype; raises TypeError for a dtype that kernels do not hold."""
    name = np.dtype(dtype).name
    if name not in ELEMENTS:
        raise TypeError(f"kernels hold {', '.join(ELEMENTS)}, not {name}")
    return ELEMENTS[name]


#: By the widest vectors in bits, what x86 CPUs lack that have none wider. ``TINYGRAD_AI_SIMD`` is
#: one of them, to try here what other machines run; 32 bits are one number at a time.
LACKING = {"512": "", "256": ",-avx512f", "128": ",-avx", "32": ",-avx512f"}
WIDEST = os.environ.get("TINYGRAD_AI_SIMD") or "512"
if WIDEST not in LACKING:
    raise ValueError(f"TINYGRAD_AI_SIMD is {WIDEST!r}, not one of {', '.join(LACKING)}")


@cache
def host_bytes() -> int:
    """Bytes of the widest vector register: the host's, or fewer that ``TINYGRAD_AI_SIMD`` names."""
    has = llvm.get_host_cpu_features()
    widest = 64 if has.get("avx512f") else 32 if has.get("avx2") else 16
    return min(widest, int(WIDEST) // 8)


def host_lanes(dtype: Any = np.float32) -> int:
    """Elements of ``dtype`` in the widest vector register, at least one."""
    return max(1, host_bytes() // np.dtype(dtype).itemsize)


def host_features() -> str:
    """The host's features for LLVM, without those that machines of narrower vectors lack."""
    # explicit 512-bit vectors are meant: some CPUs' defaults would split them
    x86 = f",-prefer-256-bit{LACKING[WIDEST]}" if "x86" in llvm.get_process_triple() else ""
    return llvm.get_host_cpu_features().flatten() + x86


class Simd:
    """Writes operations on vectors of ``lanes`` lanes with ``builder``."""

    def __init__(self, builder: ir.IRBuilder, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes

    # ------------------------------------------------------------------- values and memory

    def constant(self, kind: Any, value: float) -> ir.Value:
        """A constant in all lanes; ``kind`` is a dtype or the LLVM type of another value."""
        if isinstance(kind, ir.VectorType):
            kind = kind.element
        element = kind if isinstance(kind, ir.Type) else element_type(kind)
        if element == ELEMENTS["float32"]:
            value = float(np.float32(value))
        return ir.Constant(ir.VectorType(element, self.lanes), [value] * self.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """An LLVM scalar in all lanes."""
        vector = ir.VectorType(scalar.type, self.lanes)
        i32 = ir.IntType(32)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, i32(0))
        zeros = ir.Constant(ir.VectorType(i32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, first, zeros)

    def iota(self) -> ir.Value:
        """0, 1, 2… as int64."""
        return ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))

    def mask(self, active: int) -> ir.Value:
        """True in the first ``active`` lanes."""
        return ir.Constant(
            ir.VectorType(BIT, self.lanes), [int(k < active) for k in range(self.lanes)]
        )

    def _memory(self, dtype: Any) -> ir.Type:
        element = element_type(dtype)
        return BYTE if element == BIT else element

    def _from_memory(self, value: ir.Value, dtype: Any) -> ir.Value:
        return self.not_equal(value, self.constant(BYTE, 0)) if dtype == np.bool_ else value

    def _to_memory(self, value: ir.Value) -> ir.Value:
        bits = value.type.element == BIT
        return self.builder.zext(value, ir.VectorType(BYTE, self.lanes)) if bits else value

    def _addresses(self, base: ir.Value, offsets: ir.Value, memory: ir.Type) -> ir.Value:
        addresses = self.builder.gep(base, [offsets], source_etype=memory)
        addresses.type = ir.VectorType(POINTER, self.lanes)  # llvmlite takes it for one address
        return addresses

    def load(self, dtype: Any, base: ir.Value, offset: ir.Value, active: int | None = None) -> Any:
        """Lanes from ``base[offset]`` on (elements); past the first ``active`` lanes 0."""
        memory = self._memory(dtype)
        vector = ir.VectorType(memory, self.lanes)
        address = self.builder.gep(base, [offset], source_etype=memory)
        if active is None:
            value = self.builder.load(address, align=_size(memory), typ=vector)
        else:
            mask, zero = self.mask(active), self.constant(memory, 0)
            align = ir.Constant(ir.IntType(32), _size(memory))
            value = self.call("llvm.masked.load", vector, address, align, mask, zero)
        return self._from_memory(value, dtype)

    def gather(self, dtype: Any, base: ir.Value, offsets: ir.Value, active: int | None) -> Any:
        """Lanes from ``base[offsets]`` (elements, int64); past the first ``active`` lanes 0."""
        memory = self._memory(dtype)
        vector = ir.VectorType(memory, self.lanes)
        addresses = self._addresses(base, offsets, memory)
        align = ir.Constant(ir.IntType(32), _size(memory))
        mask = self.mask(self.lanes if active is None else active)
        zero = self.constant(memory, 0)
        value = self.call("llvm.masked.gather", vector, addresses, align, mask, zero)
        return self._from_memory(value, dtype)

    def store(
        self, value: ir.Value, base: ir.Value, offset: ir.Value, active: int | None = None
    ) -> None:
        """Write the lanes (the first ``active`` ones) to ``base[offset]`` and on."""
        value = self._to_memory(value)
        memory = value.type.element
        address = self.builder.gep(base, [offset], source_etype=memory)
        if active is None:
            self.builder.store(value, address, align=_size(memory))
        else:
            align = ir.Constant(ir.IntType(32), _size(memory))
            arguments = (value, address, align, self.mask(active))
            self.call("llvm.masked.store", ir.VoidType(), *arguments)

    def prefetch(self, address: ir.Value) -> None:
        """Bring the line at ``address`` to the first cache, for reading."""
        flags = [ir.Constant(ir.IntType(32), x) for x in (0, 3, 1)]  # to read, to keep, data
        self.call("llvm.prefetch", ir.VoidType(), address, *flags)

    def scatter(
        self, value: ir.Value, base: ir.Value, offsets: ir.Value, active: int | None = None
    ) -> None:
        """Write the lanes (the first ``active`` ones) to ``base[offsets]`` (elements, int64)."""
        value = self._to_memory(value)
        memory = value.type.element
        align = ir.Constant(ir.IntType(32), _size(memory))
        mask = self.mask(self.lanes if active is None else active)
        addresses = self._addresses(base, offsets, memory)
        self.call("llvm.masked.scatter", ir.VoidType(), value, addresses, align, mask)

    # --------------------------------------------------------------------------- functions

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        """Call a function by name; LLVM itself gives intrinsics the suffix of their types."""
        if name.startswith("llvm."):  # unique for each signature; LLVM puts its own suffix
            name = ".".join([name, *map(_mangled, (result, args[0].type))])
        module = self.builder.module
        function = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(result, [a.type for a in args]), name
        )
        return self.builder.call(function, args)

    def each_lane(self, name: str, *args: ir.Value) -> ir.Value:
        """The C library's function, lane by lane: correct, where no vector code is written."""
        element = args[0].type.element
        symbol = name + ("f" if element == ELEMENTS["float32"] else "")
        result = ir.Constant(args[0].type, ir.Undefined)
        for k in map(ir.IntType(32), range(self.lanes)):
            scalars = [self.builder.extract_element(a, k) for a in args]
            result = self.builder.insert_element(result, self.call(symbol, element, *scalars), k)
        return result

    def fold(self, value: ir.Value, combine: Callable[[Simd, Any, Any], ir.Value]) -> ir.Value:
        """All lanes combined in a tree, as a vector of one lane; ``combine`` gets narrower Simds.

        The order depends on the number of lanes alone. ``lanes`` is a power of 2.
        """
        width = self.lanes
        while width > 1:
            width //= 2
            low, high = (
                self.builder.shuffle_vector(
                    value, value, ir.Constant(ir.VectorType(ir.IntType(32), width), list(part))
                )
                for part in (range(width), range(width, 2 * width))
            )
            value = combine(Simd(self.builder, width), low, high)
        return value

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a·b + c, rounded once."""
        return self.call("llvm.fma", a.type, a, b, c)

    def where(self, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """``a`` in the lanes where ``condition`` (i1) holds, else ``b``."""
        return self.builder.select(condition, a, b)

    def compare(self, sign: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """Comparison with ``<``, ``==`` …; with a NaN only ``!=`` is true."""
        if is_float(a):
            write = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        else:  # as a signed number, true would be -1
            bits = a.type.element == BIT
            write = self.builder.icmp_unsigned if bits else self.builder.icmp_signed
        return write(sign, a, b)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger, ``b`` of equal zeros; NaN where either is NaN."""
        return self._or_nan(a, self.where(self.greater(a, b), a, b))

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The smaller, ``b`` of equal zeros; NaN where either is NaN."""
        return self._or_nan(a, self.where(self.less(a, b), a, b))

    def _or_nan(self, a: ir.Value, best: ir.Value) -> ir.Value:
        """NaN where ``a`` is, else ``best`` of ``a`` and ``b``, which is ``b`` if either is NaN.

        A fold puts what came before in the place of ``b``: then ``a`` can be looked at beforehand.
        With ``a`` for the NaN the compiler would choose once, by both questions, and the fold wait.
        """
        if not is_float(a):
            return best
        return self.where(self.not_equal(a, a), self.constant(a.type, math.nan), best)

    def negative(self, a: ir.Value) -> ir.Value:
        """-a, which turns the sign of zeros too."""
        return self.builder.fneg(a) if is_float(a) else self.builder.neg(a)

    def absolute(self, a: ir.Value) -> ir.Value:
        """|a|."""
        if is_float(a):
            return self.call("llvm.fabs", a.type, a)
        return self.where(self.less(a, self.constant(a.type, 0)), self.negative(a), a)

    def fmod(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The remainder with the sign of ``a``, as C has it."""
        return self.each_lane("fmod", a, b) if is_float(a) else self.builder.srem(a, b)

    def invert(self, a: ir.Value) -> ir.Value:
        """Every bit turned: the logical *not* of booleans."""
        return self.builder.not_(a)

    def cast(self, a: ir.Value, kind: Any) -> ir.Value:
        """``a`` converted to a dtype or LLVM type, C's way (to bool: is not 0).

        A float that no integer can hold gives what x86 gives for it: of 32 or 64 bits the least of
        all, which is nobody's index, and of fewer their last bits.
        """
        element = kind if isinstance(kind, ir.Type) else element_type(kind)
        old, vector = a.type.element, ir.VectorType(element, self.lanes)
        build = self.builder
        if old == element:
            return a
        if element == BIT:
            return self.not_equal(a, self.constant(a.type, 0))
        if is_float(a):
            if isinstance(element, ir.IntType):
                return self._truncated(a, element)
            return (build.fpext if old == ELEMENTS["float32"] else build.fptrunc)(a, vector)
        if not isinstance(element, ir.IntType):
            return (build.uitofp if old == BIT else build.sitofp)(a, vector)
        if old.width > element.width:
            return build.trunc(a, vector)
        return (build.zext if old == BIT else build.sext)(a, vector)

    def _truncated(self, a: ir.Value, element: ir.IntType) -> ir.Value:
        width = max(32, element.width)
        wide = ir.VectorType(ir.IntType(width), self.lanes)
        low = self.compare("<", a, self.constant(a.type, 2.0 ** (width - 1)))  # not so is a NaN
        least = self.constant(wide, -(1 << width - 1))
        found = self.builder.select(low, self.call("llvm.fptosi.sat", wide, a), least)
        if element.width == width:
            return found
        return self.builder.trunc(found, ir.VectorType(element, self.lanes))

    def __getattr__(self, name: str) -> Callable[..., ir.Value]:
        """The other operations: one instruction, one LLVM intrinsic, or C's function by lane."""
        if name in INSTRUCTIONS:
            return partial(self._instruction, *INSTRUCTIONS[name])
        if name in COMPARISONS:
            return partial(self.compare, COMPARISONS[name])
        if name in INTRINSICS:
            return lambda *args: self.call(f"llvm.{name}", args[0].type, *args)
        if (symbol := C_NAMES.get(name, name)) in C_FUNCTIONS:
            return partial(self.each_lane, symbol)
        raise AttributeError(f"no vector code is written for {name}")

    def _instruction(self, real: str, integer: str, *args: ir.Value) -> ir.Value:
        return getattr(self.builder, real if is_float(args[0]) else integer)(*args)


#: NumPy's name -> the instructions for floats and for integers.
INSTRUCTIONS = {
    "add": ("fadd", "add"),
    "subtract": ("fsub", "sub"),
    "multiply": ("fmul", "mul"),
    "divide": ("fdiv", "fdiv"),
    "quotient": ("sdiv", "sdiv"),
    "bitwise_and": ("and_", "and_"),
    "bitwise_or": ("or_", "or_"),
    "bitwise_xor": ("xor", "xor"),
}
COMPARISONS = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=",
}  # fmt: skip
INTRINSICS = frozenset(("sqrt", "floor", "ceil", "trunc", "rint", "copysign"))


def is_float(value: ir.Value) -> bool:
    """Whether an LLVM vector holds floating-point numbers."""
    return not isinstance(value.type.element, ir.IntType)


def _size(element: ir.Type) -> int:
    """Bytes of an element in memory, which is also its alignment."""
    sizes = {ELEMENTS["float32"]: 4, ELEMENTS["float64"]: 8}
    return sizes[element] if element in sizes else element.width // 8


def _mangled(kind: ir.Type) -> str:
    return "".join(c for c in str(kind) if c.isalnum())


def least(build: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The smaller of two integers."""
    return build.select(build.icmp_signed("<", a, b), a, b)


def operands_of(build: ir.IRBuilder, table: ir.Value, count: int) -> list[ir.Value]:
    """The addresses of a kernel's operands, loaded from its table."""
    return [
        build.load(build.gep(table, [I64(k)], source_etype=POINTER), typ=POINTER)
        for k in range(count)
    ]


def padded(size: int) -> int:
    """``size`` bytes, up to the next multiple of a cache line."""
    return -(-size // LINE) * LINE


@contextmanager
def looped(build: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int) -> Iterator[ir.Value]:
    """``for (i = start; i + step <= stop; i += step)``."""
    before = build.block
    head, body, done = (build.append_basic_block(n) for n in ("head", "body", "done"))
    limit = build.sub(stop, I64(step - 1))
    build.branch(head)
    build.position_at_end(head)
    i = build.phi(I64)
    i.add_incoming(start, before)
    build.cbranch(build.icmp_signed("<", i, limit), body, done)
    build.position_at_end(body)
    yield i
    i.add_incoming(build.add(i, I64(step)), build.block)
    build.branch(head)
    build.position_at_end(done)
