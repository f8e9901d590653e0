"""Wall time of our checker beside torch.autograd.gradcheck (slow mode), on torch functions.

``python -m benchmarks.gradcheck_speed [--rounds N]`` with the extra ``bench``; one thread, float64,
both at their defaults, in turn. Both must accept every function; the goal is at most 2.5 times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tinygrad_ai.testing.checker import check_gradients

from .harness import race

GOAL = 2.5
INDEX = torch.tensor([0, 2, 2, 1])
LABELS = torch.tensor([1, 0, 3, 2, 1, 1])


def spd(a: torch.Tensor) -> torch.Tensor:
    """A well-conditioned positive definite matrix made of any square one."""
    return a @ a.T + 4 * torch.eye(len(a), dtype=a.dtype)


FUNCTIONS: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "tanh": (torch.tanh, ((6, 4),)),
    "sigmoid": (torch.sigmoid, ((6, 4),)),
    "gelu": (F.gelu, ((6, 4),)),
    "softplus": (F.softplus, ((6, 4),)),
    "atan2": (torch.atan2, ((5, 4), (5, 4))),
    "mul with broadcasting": (torch.mul, ((5, 4), (4,))),
    "sum over rows": (lambda x: x.sum(1), ((8, 5),)),
    "prod": (lambda x: x.prod(1), ((6, 4),)),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), ((8, 5),)),
    "softmax": (lambda x: torch.softmax(x, -1), ((6, 5),)),
    "cumsum": (lambda x: torch.cumsum(x, 1), ((6, 5),)),
    "std": (lambda x: x.std(1), ((6, 5),)),
    "index_select": (lambda x: x.index_select(0, INDEX), ((3, 6),)),
    "matmul": (torch.matmul, ((5, 4), (4, 6))),
    "linear": (F.linear, ((6, 4), (5, 4), (5,))),
    "det": (torch.linalg.det, ((5, 5),)),
    "cholesky": (lambda a: torch.linalg.cholesky(spd(a)), ((4, 4),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), ((6, 5), (5,), (5,))),
    "conv2d": (F.conv2d, ((1, 2, 6, 6), (3, 2, 3, 3))),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), ((6, 4),)),
}


def contenders(name: str) -> dict[str, Callable[[], Any]]:
    """Both checkers on one function, at the same point."""
    f, shapes = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    inputs = [torch.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]

    def ours() -> None:
        report = check_gradients(f, *inputs)
        assert report.verdict == "pass", report.text()

    return {"ours": ours, "torch": lambda: torch.autograd.gradcheck(f, inputs)}


def main() -> None:
    """Race, and print a line for each function and the ratio of the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    totals = {"ours": 0.0, "torch": 0.0}
    print(f"{'median, ms':24}{'ours':>8}{'torch':>8}{'ratio':>8}")
    for name in FUNCTIONS:
        times = {k: t.median for k, t in race(contenders(name), rounds=rounds).items()}
        totals = {k: totals[k] + times[k] for k in totals}
        print(line(name, times))
    print(line("all together", totals), f"(goal {GOAL})")


def line(name: str, seconds: dict[str, float]) -> str:
    """A row of the table."""
    ours, theirs = seconds["ours"], seconds["torch"]
    return f"{name:24}{ours * 1e3:8.1f}{theirs * 1e3:8.1f}{ours / theirs:8.2f}"


if __name__ == "__main__":
    main()
