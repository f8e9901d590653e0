"""One file a framework: the workloads in that framework's own idiom, at its best settings."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What is known of a framework before it is imported."""

    title: str
    package: str
    program: str = ""  #: that it needs on PATH
    peer: bool = True  #: not ours

    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed (pip install 'tinygrad_ai[bench]')"
        if self.program and shutil.which(self.program) is None:
            return f"{self.program} is not on PATH"
        return ""


ADAPTERS: dict[str, Entry] = {
    "ours_jit": Entry("ours, jit", "tinygrad_ai", peer=False),
    "ours_eager": Entry("ours, eager", "tinygrad_ai", peer=False),
    "torch_eager": Entry("torch", "torch"),
    "torch_compile": Entry("torch.compile", "torch", "g++"),
    "jax_jit": Entry("JAX jit", "jax"),
    "tinygrad_jit": Entry("tinygrad", "tinygrad", "clang"),
    "hips": Entry("HIPS autograd", "autograd"),
    "numpy_hand": Entry("NumPy by hand", "numpy"),
}
