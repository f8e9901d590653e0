"""Wrong gradients of released frameworks, found by check_gradients and nothing else.

``python -m benchmarks.known_bugs [NAME]`` with the extra ``bench``; tinygrad needs a C compiler
(``apt-get install clang``). Every check is told the function and the point, and nothing about what
might be wrong there. Prints what the framework gives, what is right, and a command that shows it
without this library; says so where the installed version is right, or where a package is missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tinygrad_ai.testing.adapters import Adapter, outputs, register_adapter
from tinygrad_ai.testing.checker import check_gradients


class Tinygrad(Adapter):
    """The framework tinygrad: all that it takes to check another one."""

    name = "tinygrad"

    def __init__(self, tinygrad: ModuleType) -> None:
        self.tensor = tinygrad.Tensor

    def owns(self, value: Any) -> bool:
        return isinstance(value, self.tensor)

    def call(self, f: Callable[..., Any], arrays: Sequence[Any]) -> list[Any]:
        return outputs(f(*map(self.tensor, arrays)), lambda y: y.numpy())

    def vjp(self, f: Callable[..., Any], arrays: Sequence[Any], cotangents: Any) -> list[Any]:
        xs = list(map(self.tensor, arrays))
        return [g.numpy() for g in f(*xs).gradient(*xs, gradient=self.tensor(cotangents[0]))]


@dataclass(frozen=True)
class Bug:
    """A function of a framework and a point at which some release has the gradient wrong."""

    package: str
    expression: str
    function: Callable[[ModuleType], Callable[..., Any]]  #: of the imported package
    point: np.ndarray[Any, Any]
    right: str
    command: str  #: Python that prints the wrong gradient without this library


BUGS = (
    Bug(
        "torch",
        "torch.linalg.det at a singular matrix",
        lambda torch: torch.linalg.det,
        np.array([[1.0, 2.0], [2.0, 4.0]]),
        "the cofactors [[4, -2], [-2, 1]]",
        "import torch; a = torch.tensor([[1., 2.], [2., 4.]], requires_grad=True); "
        "torch.linalg.det(a).backward(); print(a.grad)",
    ),
    Bug(
        "jax",
        "jax.numpy.max of 70,000 equal halves",
        lambda jax: jax.numpy.max,
        np.ones(70_000, np.float16),
        "1/70,000 each, 1.43e-5, which float16 holds to 0.2 %; the sum must be 1",
        "import jax; g = jax.grad(jax.numpy.max)(jax.numpy.ones(70_000, 'float16')); "
        "print(g.astype('float32').sum())",
    ),
    Bug(
        "autograd",
        "autograd.numpy.prod with a zero among the factors",
        lambda autograd: importlib.import_module("autograd.numpy").prod,
        np.array([2.0, 0.0, 3.0]),
        "[0, 6, 0]",
        "import autograd, autograd.numpy as np; "
        "print(autograd.grad(np.prod)(np.array([2., 0., 3.])))",
    ),
    Bug(
        "tinygrad",
        "tinygrad.Tensor.elu at 1000",
        lambda tinygrad: tinygrad.Tensor.elu,
        np.array([-1.0, 2.0, 1000.0]),
        "[exp(-1), 1, 1]",
        "from tinygrad import Tensor; x = Tensor([-1., 2., 1000.]); "
        "print(x.elu().sum().gradient(x)[0].numpy())",
    ),
)


def shown(command: str) -> str:
    """What the command prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command], capture_output=True, text=True
    )
    return (done.stdout or done.stderr).strip()


def hunt(bug: Bug) -> str:
    """Check one and tell."""
    try:
        module = importlib.import_module(bug.package)
    except ImportError:
        return f"{bug.package}: not installed; pip install 'tinygrad_ai[bench]'"
    if bug.package == "tinygrad":
        register_adapter(Tinygrad(module))
    title = f"{bug.package} {importlib.metadata.version(bug.package)}: {bug.expression}"
    report = check_gradients(bug.function(module), bug.point, adapter=bug.package)
    if report.verdict == "pass":
        return f"{title}\n  this version has it right (margin {report.margin:.2g})"
    return "\n".join(
        [
            f"{title}\n  {report.text().replace(chr(10), chr(10) + '  ')}",
            f"  right is {bug.right}",
            f"  gives {shown(bug.command)}".replace("\n", "\n        "),
            f'  python -c "{bug.command}"',
        ]
    )


def main() -> None:
    """Hunt them all, or those of one package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?", choices=[bug.package for bug in BUGS])
    chosen = parser.parse_args().package
    for bug in BUGS:
        if chosen in (None, bug.package):
            print(hunt(bug), "\n")


if __name__ == "__main__":
    main()
