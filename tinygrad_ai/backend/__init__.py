"""Where arrays live: a backend is a name, an array namespace and the few things that differ.

The type of an array decides its backend, so no operation carries a device argument.
"""

from tinygrad_ai.backend.base import (
    Backend,
    Namespace,
    backend_for,
    backend_of,
    backends,
    namespaces,
    register_backend,
)
from tinygrad_ai.backend.cupy import CupyBackend
from tinygrad_ai.backend.failure import describe
from tinygrad_ai.backend.numpy import NUMPY, SILENT, error_state
from tinygrad_ai.backend.operands import as_array, holds_values, known, operands

__all__ = [
    "NUMPY",
    "SILENT",
    "Backend",
    "CupyBackend",
    "Namespace",
    "backend_for",
    "backend_of",
    "as_array",
    "backends",
    "describe",
    "error_state",
    "holds_values",
    "known",
    "namespaces",
    "operands",
    "register_backend",
]
