"""The house: who may import whom, how long the evening read is, what an import costs."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tinygrad_ai

PACKAGE = Path(tinygrad_ai.__file__).parent
KERNELS = PACKAGE.parent / "kernels"

#: Top to bottom: a room imports only from rooms of earlier lines, and from its own.
FLOORS = [
    ["errors", "dtypes", "config", "files"],
    ["kernels"],
    ["backend"],
    ["autodiff"],
    ["ops"],
    ["tensor"],
    ["creation", "random"],
    ["functional", "transforms"],
    ["jit"],
    ["nn", "optim", "data", "metrics", "io", "generation"],
    ["plots", "train"],
    ["api"],
    ["testing", "explain", "pytest_plugin"],
    ["examples", "learn"],
    ["cli", "__main__"],
]
FLOOR = {room: k for k, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py")) + sorted(KERNELS.rglob("*.py"))


def room_of(path):
    if KERNELS in path.parents:
        return "kernels"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """Every module of this package that a file names in an import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "tinygrad_ai":
                yield from (f"tinygrad_ai.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"relative import on line {node.lineno}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE.parent)))
def test_a_file_imports_only_from_what_stands_before_it(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "tinygrad_ai" and len(parts) > 1:
            other = parts[1]
            assert other in FLOOR, f"{path} imports {name}, of no known room"
            assert (
                other == room
                or FLOOR[other] < FLOOR[room]
                or (FLOOR[other] == FLOOR[room] and other != room and (other, room) not in cycles())
            ), f"{room} imports {other}"


def cycles():
    """Pairs of rooms of one floor that import each other."""
    arrows = set()
    for path in FILES:
        room = room_of(path)
        for name in imported(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] == "tinygrad_ai" and len(parts) > 1 and parts[1] != room:
                arrows.add((room, parts[1]))
    return {(a, b) for a, b in arrows if (b, a) in arrows}


def test_kernels_import_nothing_from_the_rest():
    for path in KERNELS.rglob("*.py"):
        for name in imported(ast.parse(path.read_text())):
            assert not name.startswith("tinygrad_ai") or name.startswith("tinygrad_ai.kernels")


def code_lines(path):
    """Lines with code on them: no blank lines, comments or docstrings."""
    source = path.read_text()
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (
            tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):  # fmt: skip
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                lines -= set(range(value.lineno, value.end_lineno + 1))
    return len(lines)


def test_the_core_is_an_evening_read():
    read = [
        *(PACKAGE / "autodiff").glob("*.py"),
        PACKAGE / "tensor.py",
        PACKAGE / "ops" / "elementwise.py",
        PACKAGE / "backend" / "base.py",
        PACKAGE / "backend" / "numpy.py",
    ]
    total = sum(map(code_lines, read))
    assert total <= 1200, f"{total} lines of code"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE.parent)))
def test_no_file_outgrows_its_room(path):
    assert len(path.read_text().splitlines()) <= 430


def test_importing_needs_only_the_core():
    program = (
        "import sys, tinygrad_ai.api\n"
        "heavy = {'numba', 'llvmlite', 'cupy', 'torch', 'matplotlib', 'PIL', 'safetensors',\n"
        "         'hypothesis', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout.strip() == "[]", said.stderr
