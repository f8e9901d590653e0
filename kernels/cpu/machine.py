"""From LLVM IR to code in memory: object code for this machine, and what calls it."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tinygrad_ai.kernels.cpu.memory import address
from tinygrad_ai.kernels.cpu.simd import host_features

if hasattr(os, "register_at_fork"):  # else the child of a process that just compiles waits for ever
    _llvm = llvm.ffi.lib._lock
    os.register_at_fork(
        before=_llvm.__enter__, after_in_parent=_llvm.__exit__, after_in_child=_llvm.__exit__
    )


def machine_code(source: str, machine: Any = None) -> bytes:
    """The object code of LLVM IR, for the host or another of LLVM's target machines."""
    machine = machine or target_machine()
    module = llvm.parse_assembly(source)
    module.verify()
    # LLVM's own pipeline takes four times as long, and its code is no faster: vectors are written
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_loop_unroll_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    return machine.emit_object(module)


def target_machine() -> Any:
    """This machine, as LLVM compiles for it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host_features(), opt=3, jit=True
    )


_libraries = count()


@cache
def _linker() -> Any:
    """What loads object code: one for all, as an engine for each would take a millisecond."""
    return llvm.create_lljit_compiler(target_machine())


class Native:
    """A compiled function: ``address`` and, called with addresses, the function itself.

    The code is unloaded with the last reference to this.
    """

    def __init__(self, code: str | bytes, name: str, arguments: int, result: Any = None) -> None:
        """Load object code, or compile LLVM IR, for its function ``name``.

        It takes that many pointers or 64-bit integers; ``result`` is the ctypes type of what it
        returns, None if that is nothing.
        """
        code = machine_code(code) if isinstance(code, str) else code
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        self._code = library.export_symbol(name).link(_linker(), f"kernels{next(_libraries)}")
        self.address = self._code[name]
        self.call = ctypes.CFUNCTYPE(result, *[ctypes.c_void_p] * arguments)(self.address)

    def __call__(self, *addresses: int) -> None:
        """Run on the addresses of arrays; the global interpreter lock is released meanwhile."""
        self.call(*addresses)

    def launch(self, operands: Sequence[np.ndarray[Any, Any]], begin: int, end: int) -> None:
        """Run a kernel that steps launch on arrays, for the units from ``begin`` to ``end``."""
        table = struct.pack(f"{len(operands)}P", *map(address, operands))
        self.call(table, begin, end, 0)
