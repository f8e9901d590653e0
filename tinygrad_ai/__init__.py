"""tinygrad_ai: a small reverse-mode autodiff tensor library."""

from pathlib import Path

# Installed, the kernels stand inside the package; in a checkout they stand beside it.
_beside = Path(__file__).parent.parent
if not (Path(__file__).parent / "kernels").is_dir() and (_beside / "kernels").is_dir():
    __path__.append(str(_beside))
