"""Eager speed beside torch: an MLP training step, and the cost of one small operation.

``python -m benchmarks.eager [--threads N]`` with the extra ``bench``; one core by default. Before
anything is timed, loss and gradients of both must agree.
"""

from __future__ import annotations

import argparse
import os


def limit_threads(n: int) -> None:
    """Hold BLAS to ``n`` threads; before NumPy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n)


def mlp_step(threads: int) -> None:
    """784-128-10, batch 128, cross-entropy, Adam: forward, backward and update."""
    import numpy as np  # noqa: PLC0415  (after the threads are set)
    import torch  # noqa: PLC0415

    import tinygrad_ai as ta  # noqa: PLC0415
    from benchmarks.harness import race, table  # noqa: PLC0415

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    x = rng.random((128, 784), dtype=np.float32)
    y = rng.integers(0, 10, 128)

    ours = ta.nn.Sequential(ta.nn.Linear(784, 128), ta.nn.ReLU(), ta.nn.Linear(128, 10))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    our_adam = ta.optim.Adam(ours.parameters(), lr=1e-3)
    their_adam = torch.optim.Adam(theirs.parameters(), lr=1e-3, fused=True)
    tx, ty, ox = torch.from_numpy(x), torch.from_numpy(y), ta.Tensor(x)

    def our_step() -> float:
        our_adam.zero_grad()
        loss = ta.nn.functional.cross_entropy(ours(ox), y)
        loss.backward()
        our_adam.step()
        return loss.item()

    def their_step() -> float:
        their_adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(tx), ty)
        loss.backward()
        their_adam.step()
        return loss.item()

    assert abs(our_step() - their_step()) < 1e-5
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=1e-6)
    print(f"\nMLP 784-128-10, batch 128, Adam, {threads} thread(s)")
    print(table(race({"torch eager, fused Adam": their_step, "ours eager": our_step}),
                "torch eager, fused Adam"))  # fmt: skip


def overhead() -> None:
    """One elementwise operation on one element: what a Tensor costs over the NumPy call."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    import tinygrad_ai as ta  # noqa: PLC0415
    from benchmarks.harness import race  # noqa: PLC0415

    raw = np.ones(1, np.float32)
    plain, leaf = ta.Tensor(raw), ta.Tensor(raw, requires_grad=True)
    t_plain, t_leaf = torch.ones(1), torch.ones(1, requires_grad=True)
    timings = race(
        {
            "numpy x*x": lambda: raw * raw,
            "ours x*x": lambda: plain * plain,
            "ours x*x, tracked": lambda: leaf * leaf,
            "torch x*x": lambda: t_plain * t_plain,
            "torch x*x, tracked": lambda: t_leaf * t_leaf,
            "numpy tanh": lambda: np.tanh(raw),
            "ours tanh": lambda: ta.tanh(plain),
            "ours tanh, tracked": lambda: ta.tanh(leaf),
            "torch tanh": lambda: torch.tanh(t_plain),
            "torch tanh, tracked": lambda: torch.tanh(t_leaf),
        },
        calls=2000,
        rounds=20,
    )
    print(f"\n{'one element':24}{'min µs':>10}{'over NumPy':>12}")
    for name, t in timings.items():
        base = timings["numpy tanh" if "tanh" in name else "numpy x*x"]
        print(f"{name:24}{t.minimum * 1e6:10.2f}{(t.minimum - base.minimum) * 1e6:12.2f}")


def main() -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    limit_threads(threads)
    mlp_step(threads)
    overhead()


if __name__ == "__main__":
    main()
