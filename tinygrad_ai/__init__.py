"""tinygrad_ai: a small reverse-mode autodiff tensor library.

``import tinygrad_ai as ta``: tensors and NumPy-named functions at the top, derivatives of
functions beside them, ``ta.nn``, ``ta.optim``, ``ta.data`` and ``ta.Trainer`` to train networks.

The names are those of ``tinygrad_ai.api``. It is imported, and NumPy with it, when the first of
them is used: pytest imports this package at every start to find its plugin.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_ai.api import *  # noqa: F403

__version__ = "0.1.0"

# Installed, the kernels stand inside the package; in a checkout they stand beside it.
_beside = Path(__file__).parent.parent
if not (Path(__file__).parent / "kernels").is_dir() and (_beside / "kernels").is_dir():
    __path__.append(str(_beside))  # noqa: F405


def __getattr__(name: str) -> Any:
    """A module of the package, or a public name (PEP 562); raises AttributeError if neither."""
    if name == "__all__" or not name.startswith("__"):  # tools ask for __wrapped__ and the like
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f"{__name__}.{name}")
        api = importlib.import_module(f"{__name__}.api")
        globals().update({n: getattr(api, n) for n in ("__all__", *api.__all__)})
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
