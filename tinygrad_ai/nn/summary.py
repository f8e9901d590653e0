"""The table that ``Module.summary`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.creation import zeros

Rows = list[tuple[str, str, str]]


def summarize(model: Any, input_shape: tuple[int, ...] | None, dtype: Any) -> str:
    """See ``Module.summary``; ``model`` is a Module."""
    shapes = {} if input_shape is None else _output_shapes(model, input_shape, dtype)
    rows: Rows = [("layer", "output shape", "parameters")]
    seen: set[int] = set()
    total = trainable = 0
    for path, module in model.named_modules():
        fresh = [p for _, p in module.own_parameters() if id(p) not in seen]
        seen.update(map(id, fresh))
        total += sum(p.size for p in fresh)
        trainable += sum(p.size for p in fresh if p.requires_grad)
        if fresh or not any(True for _ in module.children()):
            label = f"{path} ({type(module).__name__})" if path else type(module).__name__
            rows.append((label, str(shapes.get(id(module), "")), arithmetic(fresh)))
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    if not shapes:
        widths[1] = -2
    lines = [_line(row, widths) for row in rows]
    rule = "-" * max(map(len, lines))
    frozen = f", of which {trainable:,} are trained" if trainable != total else ""
    end = f"total: {total:,} parameters{frozen}"
    return "\n".join([lines[0], rule, *lines[1:], rule, end])


def _line(row: tuple[str, str, str], widths: list[int]) -> str:
    middle = f"{row[1]:{widths[1]}}  " if widths[1] > 0 else ""
    return f"{row[0]:{widths[0]}}  {middle}{row[2]}".rstrip()


def arithmetic(parameters: list[Any]) -> str:
    """``784*128 + 128 = 100,480``: the sizes multiplied, from the input's side, and added up."""
    terms = ["*".join(map(str, reversed(p.shape))) or "1" for p in parameters]
    count = f"{sum(p.size for p in parameters):,}"
    written = " + ".join(terms)
    return count if written in ("", count) else f"{written} = {count}"


def _output_shapes(model: Any, input_shape: tuple[int, ...], dtype: Any) -> dict[int, Any]:
    """The shape that each module returns, by the module's id."""
    shapes: dict[int, Any] = {}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad(), _watched(model, shapes):
            model(zeros(input_shape, dtype=dtype))
    finally:
        for module, training in modes:
            module.training = training
    return shapes


@contextmanager
def _watched(model: Any, shapes: dict[int, Any]) -> Iterator[None]:
    """Within it every module's ``forward`` notes the shape of its result."""

    def noting(module: Any) -> Callable[..., Any]:
        forward = module.forward

        def noted(*args: Any, **kwargs: Any) -> Any:
            out = forward(*args, **kwargs)
            shapes[id(module)] = tuple(getattr(out, "shape", ())) or ""
            return out

        return noted

    modules = list(model.modules())
    for module in modules:
        object.__setattr__(module, "forward", noting(module))
    try:
        yield
    finally:
        for module in modules:
            object.__delattr__(module, "forward")
