"""The pytest plugin in projects of its own, found through the entry point as if installed."""

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMPORTS = "import numpy as np, pytest\n"


class Project:
    """A folder with tests, beside a library that only its metadata and the path make known."""

    def __init__(self, folder):
        self.folder = folder / "project"
        self.folder.mkdir()
        self.site = folder / "site"
        entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
        info = self.site / "tinygrad_ai-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinygrad_ai\nVersion: 0\n")
        lines = [
            "[pytest11]",
            *(f"{name} = {module}" for name, module in entry["pytest11"].items()),
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))

    def pytest(self, source, *options, folder=None):
        """Run pytest on a file with these tests; the exit status and what was printed."""
        if source is not None:
            (self.folder / "test_it.py").write_text(IMPORTS + textwrap.dedent(source))
        path = os.pathsep.join(map(str, (self.site, ROOT)))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
            cwd=folder or self.folder,
            env=environment | {"PYTHONPATH": path, "COLUMNS": "120"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_unused_it_imports_nothing_but_itself(project):
    code, said = project.pytest(
        """
        def test_imports():
            import sys
            mine = {name for name in sys.modules if name.startswith("tinygrad_ai")}
            assert mine == {"tinygrad_ai", "tinygrad_ai.pytest_plugin"}
        """
    )
    assert code == 0 and "1 passed" in said and "gradient checks" not in said, said
    program = "import sys, tinygrad_ai.pytest_plugin as p; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr


OURS = """
    import tinygrad_ai as ta

    def test_library(gradcheck):
        assert gradcheck(ta.tanh, np.linspace(-1, 1, 5)).verdict == "pass"

    def test_pair(gradcheck):
        gradcheck(np.sin, np.ones(3), vjp=lambda g, x: g * np.cos(x))

    def wrong(x):
        return x * x

    def test_wrong(gradcheck):
        gradcheck(wrong, np.arange(1.0, 4.0), vjp=lambda g, x: -2 * g * x)

    def test_relu(gradcheck):
        gradcheck(ta.relu, np.array([-1.0, 0.0, 1.0]))

    @pytest.mark.gradcheck(kinks="strict")
    def test_strict_relu(gradcheck):
        gradcheck(ta.relu, np.array([-1.0, 0.0, 1.0]))

    @pytest.mark.gradcheck(kinks="strict")
    def test_the_call_wins(gradcheck):
        gradcheck(ta.relu, np.array([-1.0, 0.0, 1.0]), kinks="skip")

    def test_complex(gradcheck):
        gradcheck(ta.tanh, np.ones(2, complex))

    def test_option(gradcheck):
        gradcheck(ta.tanh, np.ones(2), kinky=True)
"""


def test_a_failure_reads_like_the_report(project):
    report = project.folder / "checks.json"
    code, said = project.pytest(OURS, f"--gradcheck-json={report}")
    assert code == 1 and "4 failed, 4 passed" in said, said
    section = said[said.index("test_wrong __") : said.index("test_strict_relu __")]
    lines = section.splitlines()[1:]
    assert lines[0].startswith("gradient check: FAIL")
    assert "the rule gives" in lines[1] and "sign" in section
    assert lines[-2].startswith("  in test_it.py:") and "checker.py" not in section
    assert "complex arguments cannot be checked" in said and "pytest_plugin.py" not in said
    assert "gradcheck has no option 'kinky'" in said
    summary = said[said.index("gradient checks: error / tolerance") :]
    assert summary.splitlines()[1].startswith("fail")
    assert "test_it.py::test_wrong  wrong" in summary and "test_it.py::test_library" in summary
    checks = {c["test"].split("::")[1]: c for c in json.loads(report.read_text())["checks"]}
    assert checks.keys() == {
        "test_library", "test_pair", "test_wrong", "test_relu", "test_strict_relu",
        "test_the_call_wins",
    }  # fmt: skip
    assert checks["test_wrong"]["verdict"] == "fail" and checks["test_wrong"]["margin"] > 1
    assert checks["test_wrong"]["report"]["causes"][0]["label"] == "sign"
    assert checks["test_pair"]["checks"] == 1 and checks["test_pair"]["function"] == "sin"


def test_options_are_handed_on_and_the_closest_one_wins(project):
    code, said = project.pytest(
        """
        import functools
        from tinygrad_ai.testing import checker, report

        def seen(f, *args, budget=None, seed=None, kinks=None):
            assert (budget, seed, kinks) == args
            return report.GradReport()

        @pytest.fixture(autouse=True)
        def instead(monkeypatch):
            monkeypatch.setattr(checker, "check_gradients", seen)

        def test_command_line(gradcheck):
            gradcheck(len, 9, 3, "skip")

        @pytest.mark.gradcheck(seed=4)
        class TestMarked:
            def test_marker(self, gradcheck):
                gradcheck(len, 9, 4, "skip")

            @pytest.mark.gradcheck(seed=5, kinks="strict")
            def test_inner_marker(self, gradcheck):
                gradcheck(len, 9, 5, "strict")
                gradcheck(len, 9, 6, "strict", seed=6)
        """,
        "--gradcheck-budget=9",
        "--gradcheck-seed=3",
        "--gradcheck-kinks=skip",
    )
    assert code == 0, said


def test_inconclusive_is_shown_and_fails_unless_allowed(project):
    code, said = project.pytest(
        """
        from tinygrad_ai.testing import checker, report

        @pytest.fixture(autouse=True)
        def undecided(monkeypatch):
            answer = lambda f, *args: report.GradReport("inconclusive")
            monkeypatch.setattr(checker, "check_gradients", answer)

        def test_open(gradcheck):
            gradcheck(abs, 1.0)

        def test_allowed(gradcheck):
            gradcheck(abs, 1.0, allow_inconclusive=True)

        @pytest.mark.gradcheck(allow_inconclusive=True)
        def test_allowed_by_the_marker(gradcheck):
            gradcheck(abs, 1.0)
        """
    )
    assert code == 1 and "1 failed, 2 passed" in said, said
    assert "gradient check: INCONCLUSIVE" in said
    assert said.count("\ninconclusive ") == 3


def test_property_based_tests_keep_the_worst_of_their_checks(project):
    code, said = project.pytest(
        """
        from hypothesis import given, settings, strategies as st

        @settings(max_examples=7, derandomize=True, database=None)
        @given(st.floats(0.5, 3))
        def test_cube(gradcheck, x):
            gradcheck(lambda x: x**3, np.array(x), vjp=lambda g, x: 3 * g * x**2)

        @settings(max_examples=50, derandomize=True, database=None)
        @given(st.floats(0.5, 3))
        def test_wrong_above_one(gradcheck, x):
            gradcheck(np.square, np.array(x), vjp=lambda g, x: 2 * g * x * (1 + (x > 1)))
        """
    )
    assert code == 1 and "1 failed, 1 passed" in said, said
    assert "test_cube  <lambda>  (7 checks)" in said
    assert "gradient check: FAIL" in said
    assert "test_wrong_above_one(" in said and "x=" in said[said.index("test_wrong_above_one(") :]


def test_no_folder_for_the_json_is_said_before_the_tests_run(project):
    code, said = project.pytest("def test_nothing(): pass", "--gradcheck-json=absent/checks.json")
    assert code == pytest.ExitCode.USAGE_ERROR and "there is no folder absent" in said
    assert "Traceback" not in said


def test_workers_report_to_the_one_who_prints(project):
    report = project.folder / "checks.json"
    code, said = project.pytest(OURS, "-n2", f"--gradcheck-json={report}")
    assert code == 1 and "test_it.py::test_wrong  wrong" in said, said
    assert len(json.loads(report.read_text())["checks"]) == 6


def test_op_picks_the_properties_of_one_operation(project):
    collect = "--collect-only", "-q", "tests/test_records.py"
    code, said = project.pytest(None, "--op=tanh", "--op=matmul", *collect, folder=ROOT)
    chosen = [line for line in said.splitlines() if "::" in line]
    assert code == 0 and len(chosen) >= 10, said
    assert all("tanh" in line or "matmul" in line for line in chosen)
    code, said = project.pytest(None, "--op=tahn", *collect, folder=ROOT)
    assert code == pytest.ExitCode.USAGE_ERROR and "did you mean tan, tanh" in said, said


PEER = """
    import {module}

    def wrong(x):
        return {wrong}

    def test_right(gradcheck):
        gradcheck({right}, {array}([0.5, -1.5, 2.0]))

    def test_wrong(gradcheck):
        gradcheck(wrong, {array}([0.5, -1.5, 2.0]))
"""


@pytest.mark.peers
@pytest.mark.parametrize(
    ("module", "right", "array", "wrong"),
    [
        ("torch", "torch.tanh", "torch.tensor", "x * x.detach()"),
        ("jax", "jax.numpy.tanh", "jax.numpy.array", "x * jax.lax.stop_gradient(x)"),
    ],
    ids=["torch", "jax"],
)
def test_a_project_with_another_framework(project, module, right, array, wrong):
    code, said = project.pytest(PEER.format(module=module, right=right, array=array, wrong=wrong))
    assert code == 1 and "1 failed, 1 passed" in said, said
    assert "off by the constant factor 0.5" in said and "test_it.py::test_right  tanh" in said
