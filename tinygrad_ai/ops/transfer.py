"""Moving a value to another device; its gradient comes back the same way."""

from __future__ import annotations

from typing import Any

from tinygrad_ai.autodiff import linear
from tinygrad_ai.backend import backend_for, backend_of


def _transfer(xp: Any, x: Any, *, source: str, target: str) -> Any:
    return backend_for(target).asarray(backend_of(x).to_numpy(x))


transfer = linear(
    "transfer",
    _transfer,
    vjp=lambda g, source, target: transfer(g, source=target, target=source),
    batch=lambda size, source, target: {"source": source, "target": target},
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"source": "cpu", "target": "cpu"}),
    why="a copy on another device is the same number",
)
