"""Kernels at the width of vectors that ``TINYGRAD_AI_SIMD`` forces on this process: a program.

Networks are trained compiled, and compared with eager float64; so are products of matrices of every
layout, and vector functions. Then the code is looked at: for this CPU, and from vectors of 128 bits
also Arm's. ``python widths.py quick`` does part of it. Prints the emitters whose kernels were used.
"""

import itertools
import re
import sys
from functools import cache, partial

import llvmlite.binding as llvm
import numpy as np
from test_vmath import LIMITS, compiled, patterns, ulps, wide

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import config, nn, optim
from tinygrad_ai.jit import cache as files
from tinygrad_ai.jit import launches
from tinygrad_ai.kernels.cpu.machine import machine_code, target_machine
from tinygrad_ai.kernels.cpu.matmul import matmul
from tinygrad_ai.kernels.cpu.simd import host_bytes
from tinygrad_ai.testing.compiled import shared_by

#: Of the largest element, after two steps: what float32 sums in another order make of it.
ROUNDING = {"float64": 1e-12, "float32": 3e-5}
CLASSES, STEPS = 10, 2


class Last(nn.Module):
    """Scores from what a recurrent network says of each time step."""

    def __init__(self, recurrent):
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size, CLASSES)

    def forward(self, x):
        return self.head(self.recurrent(x)[0])


class Words(nn.Module):
    """Scores from the mean of all sums of a text, beside its first and last vectors."""

    def __init__(self):
        self.embedding = nn.Embedding(CLASSES, 11)
        self.head = nn.Linear(33, CLASSES)

    def forward(self, x):
        v = self.embedding((abs(x) * 3).astype("int64"))
        return self.head(ta.concatenate([ta.cumsum(v, 1).mean(1), v[:, 0], v[:, -1]], axis=1))


def perceptron():
    return nn.Sequential(
        nn.Linear(13, 37), nn.Tanh(), nn.LayerNorm(37), nn.Dropout(0.2), nn.Linear(37, CLASSES)
    )


def images():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 9, (1, 3), dilation=(1, 2), groups=3),
        nn.AvgPool2d(2, 1),
        nn.Flatten(),
        nn.LayerNorm(9 * 3 * 2),
        nn.GELU(),
        nn.Linear(9 * 3 * 2, CLASSES),
    )


def attention():
    layer = nn.TransformerEncoderLayer(18, 3, 23, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Linear(18, CLASSES))


#: The model, the shape of its input, the number of labels, and an optimiser. Their epsilons are
#: large: else the step of a gradient that is rounding alone would be as large as any.
NETWORKS = {
    "perceptron": (perceptron, (19, 13), 19, partial(optim.Adagrad, eps=0.1)),
    "RNN": (lambda: Last(nn.RNN(5, 9)), (3, 4, 5), 12, partial(optim.SGD, momentum=0.9)),
    "LSTM": (lambda: Last(nn.LSTM(5, 9)), (3, 4, 5), 12, partial(optim.RMSprop, eps=0.1)),
    "attention": (attention, (3, 7, 18), 21, partial(optim.Adam, eps=0.1)),
    "images": (images, (4, 2, 15, 26), 4, partial(optim.SGD, nesterov=True, momentum=0.5)),
    "words": (Words, (6, 5), 6, partial(optim.AdamW, eps=0.1, amsgrad=True)),
}


def trained(name, dtype, wrap):
    """What training leaves, by name: losses, gradients, parameters, running statistics."""
    build, shape, labels, optimizer = NETWORKS[name]
    ta.random.manual_seed(0)
    model = build().to(dtype=dtype)
    updates = optimizer(model.parameters(), lr=0.1)

    @wrap
    def step(x, y):
        updates.zero_grad()
        loss = F.cross_entropy(model(x).reshape(-1, CLASSES), y)
        loss.backward()
        updates.step()
        return loss

    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS, *shape)).astype("float32").astype(dtype)
    y = rng.integers(0, CLASSES, (STEPS, labels))
    found = {f"loss {k}": step(ta.Tensor(x[k]), ta.Tensor(y[k])).numpy() for k in range(STEPS)}
    found |= {f"{k}.grad": p.grad.numpy() for k, p in model.named_parameters()}
    return found | {k: v.numpy() for k, v in model.state_dict().items()}


@cache
def exact(name):
    with config.without_kernels():
        return trained(name, "float64", lambda step: step)


def check_steps(name, dtype):
    """Compiled and eager agree, and any number of threads makes the same bits."""
    found = trained(name, dtype, ta.jit)
    for k, expected in exact(name).items():
        error = abs(found[k] - expected).max() / abs(expected).max()
        assert error <= ROUNDING[dtype], (name, dtype, k, error)
    with shared_by(3):
        for k, again in trained(name, dtype, ta.jit).items():
            np.testing.assert_array_equal(again, found[k])


LAYOUTS = [lambda x: x.copy(), lambda x: x.T.copy().T, lambda x: np.repeat(x, 2, 1)[:, ::2]]


def check_products(dtype, layouts):
    """Matrices as they are, transposed, and spaced; no size is a multiple of any width."""
    rng = np.random.default_rng(0)
    m, k, n = 13, 29, 37
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    expected = a.astype("float64") @ b
    for of_a, of_b in itertools.product(layouts, repeat=2):
        error = abs(matmul(of_a(a), of_b(b)) - expected).max()
        assert error <= 30 * k * np.finfo(dtype).eps, error


def check_functions():
    """float32 against float64 of the C library, over the whole range."""
    for name in LIMITS.keys() - {"power"}:
        x = patterns(np.float32, 1001)
        with np.errstate(all="ignore"):
            error = ulps(compiled(name, x), wide(name, x.astype("float64")))
        assert error.max() <= LIMITS[name], (name, x[error.argmax()])


def record(texts):
    """From here on the LLVM IR of kernels is kept in ``texts``, by its emitter's name."""

    def compiled(key, emit):
        def source():
            text = emit()
            texts.setdefault(emit.func.__name__, []).append(text)
            return text

        return files.compiled(key, source)

    launches.compiled = compiled


X86 = "x86" in llvm.get_process_triple()
WIDEST = {64: "%zmm", 32: "%ymm", 16: "%xmm"}  # registers, by their bytes
#: What must not be in the machine code, by the bytes of the widest vectors: AVX-512's registers and
#: masks; with 128 bits also AVX's registers, and all its instructions, which begin with a v.
AVX512 = r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]"
FOREIGN = {4: AVX512, 16: rf"{AVX512}|%ymm|^\tv", 32: AVX512}


def check_code(text):
    """No instruction is foreign to a CPU of this width; Arm's compiler takes what is as narrow."""
    assert not re.search(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b", text), "fast-math"
    machine = target_machine()
    machine.emit_object = machine.emit_assembly
    code = machine_code(text, machine)
    if X86 and host_bytes() in FOREIGN:
        found = re.search(FOREIGN[host_bytes()], code, re.MULTILINE)
        assert not found, code[found.start() - 100 : found.end() + 50]
    if host_bytes() == 16 and (arm := arm_machine()):
        assert machine_code(text, arm)[18] == 183, "no object code of AArch64"
    return code


def arm_machine():
    """A CPU with nothing but NEON; None where this LLVM was built without Arm."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        return None
    return target.create_target_machine(cpu="generic", features="+neon", opt=3)


def main(quick):
    texts = {}
    record(texts)
    for dtype in ["float32"] if quick else ROUNDING:
        for name in ["images", "words"] if quick else NETWORKS:
            check_steps(name, dtype)
        check_products(dtype, LAYOUTS[: 2 if quick else None])
    check_functions()
    for emitter, some in texts.items():
        codes = list(map(check_code, some[: 2 if quick else None]))
        if X86 and emitter == "emit_product" and host_bytes() in WIDEST:
            assert all(WIDEST[host_bytes()] in code for code in codes), "vectors were split"
    print(*sorted(texts))


if __name__ == "__main__":
    main("quick" in sys.argv)
