"""The pytest plugin: the fixture and the marker ``gradcheck``, options, a summary.

pytest imports every installed plugin when it starts, so nothing but pytest is imported here until
a test asks for the fixture; ``tinygrad_ai/__init__.py`` is lazy for the same reason.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SHOWN = 10  # passing lines of the summary, the closest calls first; all with -v


def pytest_addoption(parser: pytest.Parser) -> None:
    """Defaults of every check, where the report goes, and the choice of one operation."""
    add = parser.getgroup("gradcheck", "gradient checks (tinygrad_ai)").addoption
    add("--gradcheck-budget", type=int, metavar="N", help="calls of the function, for one argument")
    add("--gradcheck-seed", type=int, metavar="N", help="seed of the cotangents and directions")
    kinks = "what a kink is: a failure, an interval of right slopes, or not checked"
    add("--gradcheck-kinks", choices=("strict", "interval", "skip"), help=kinks)
    add("--gradcheck-json", type=Path, metavar="PATH", help="write the worst report of each test")
    add("--op", action="append", metavar="NAME", help="only the tests whose `name` is NAME")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known and start listening; raises UsageError where JSON cannot be written."""
    path = config.getoption("gradcheck_json")
    if path is not None and not path.absolute().parent.is_dir():
        raise pytest.UsageError(f"--gradcheck-json: there is no folder {path.parent}")
    config.addinivalue_line(
        "markers",
        "gradcheck(**options): options of check_gradients, and allow_inconclusive, for every "
        "gradcheck of a test",
    )
    config.pluginmanager.register(GradChecks(config), "tinygrad_ai_gradchecks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what ``--op`` names; raises UsageError where no test is about such an operation."""
    wanted = config.getoption("op")
    if not wanted:
        return
    names = [getattr(item, "callspec", None) for item in items]
    names = [spec.params.get("name") if spec else None for spec in names]
    for name in set(wanted) - set(names):
        near = difflib.get_close_matches(name, {n for n in names if isinstance(n, str)})
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise pytest.UsageError(f"--op: no test is parametrised by the operation {name!r}{hint}")
    chosen = [item for item, name in zip(items, names, strict=True) if name in wanted]
    others = [item for item, name in zip(items, names, strict=True) if name not in wanted]
    items[:] = chosen
    config.hook.pytest_deselected(items=others)


@pytest.fixture(scope="session")  # Hypothesis refuses fixtures of one call in tests with @given
def gradcheck(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """``gradcheck(f, *args, **options)``: check_gradients, and the test fails unless it passes.

    Options are those of ``tinygrad_ai.testing.check_gradients``, and ``allow_inconclusive=True``.
    An option of the call beats one of the marker, and that one of the command line. Returns the
    GradReport.
    """
    import tinygrad_ai.testing.checker  # noqa: F401, PLC0415  (here, so that no test is timed with it)

    listening: Any = pytestconfig.pluginmanager.get_plugin("tinygrad_ai_gradchecks")
    return listening


class GradCheckFailed(pytest.fail.Exception):  # type: ignore[name-defined]
    """A failure shown as its text alone, without a traceback of the checker."""

    __module__ = "builtins"  # pytest's own way to a short name in its summary

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines), pytrace=False)

    def __str__(self) -> str:
        """With the notes: Hypothesis writes its failing example there, pytest drops them."""
        return "\n".join([self.msg or "", *getattr(self, "__notes__", [])])


def _badness(verdict: str, margin: float, **rest: Any) -> tuple[int, float]:
    """What sorts the worst check last."""
    return ("pass", "inconclusive", "fail").index(verdict), margin


class GradChecks:
    """What was checked in this run: by test and function the number, the worst margin, its report.

    The process that runs a test notes its checks and hangs them on the test's report, which
    pytest-xdist carries to the process that prints the summary.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.item: pytest.Item | None = None
        self.noted: dict[str, dict[str, Any]] = {}  #: of the running test, by function
        self.entries: list[dict[str, Any]] = []  #: of the whole run

    def __repr__(self) -> str:
        return "gradcheck"  # in Hypothesis's failing examples

    def __call__(self, f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What the fixture calls."""
        __tracebackhide__ = True
        from tinygrad_ai.errors import TinygradError  # noqa: PLC0415  (NumPy comes with it)
        from tinygrad_ai.testing.checker import check_gradients  # noqa: PLC0415  (likewise)

        options = self._options() | options
        undecided_is_fine = options.pop("allow_inconclusive", False)
        caller = sys._getframe(1)
        place = f"  in {Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        unknown = options.keys() - inspect.signature(check_gradients).parameters.keys()
        if unknown:
            raise GradCheckFailed(f"gradcheck has no option {min(unknown)!r}", place)
        try:
            report = check_gradients(f, *args, **options)
        except TinygradError as error:
            notes = getattr(error, "__notes__", [])
            raise GradCheckFailed(f"gradient check: {error}", *notes, place) from None
        self._note(getattr(f, "__name__", type(f).__name__), report)
        if not (
            report.verdict == "pass" or (report.verdict == "inconclusive" and undecided_is_fine)
        ):
            raise GradCheckFailed(report.text(), place)
        return report

    def _options(self) -> dict[str, Any]:
        """Those of the command line, under those of the markers from the outermost inwards."""
        given = {k: self.config.getoption(f"gradcheck_{k}") for k in ("budget", "seed", "kinks")}
        options = {k: v for k, v in given.items() if v is not None}
        markers = list(self.item.iter_markers("gradcheck")) if self.item else []
        for marker in reversed(markers):
            options |= marker.kwargs
        return options

    def _note(self, name: str, report: Any) -> None:
        """Count a check, and keep its report if it is the worst of its function so far."""
        verdict, margin = report.verdict, float(report.margin)
        worst = self.noted.setdefault(name, {"function": name, "checks": 0})
        worst["checks"] += 1
        if worst["checks"] == 1 or _badness(verdict, margin) > _badness(**worst):
            worst |= {"verdict": verdict, "margin": margin, "report": report.to_json()}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Know which test runs."""
        self.item = item
        try:
            return (yield)
        finally:
            self.item = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Hang on a report what was checked since the one before it."""
        report: Any = yield
        if self.noted:
            report.gradchecks = [{"test": item.nodeid} | e for e in self.noted.values()]
            self.noted = {}
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect, where the summary will be printed."""
        self.entries += getattr(report, "gradchecks", [])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The worst margin of every test and function: failures first, then the closest calls."""
        path = self.config.getoption("gradcheck_json")
        if path is not None:
            self._write(path)
        if not self.entries:
            return
        entries = sorted(self.entries, key=lambda e: _badness(**e), reverse=True)
        passed = sum(e["verdict"] == "pass" for e in entries)
        hidden = 0 if self.config.get_verbosity() > 0 else max(0, passed - SHOWN)
        terminalreporter.write_sep("=", "gradient checks: error / tolerance, the worst")
        for entry in entries[: len(entries) - hidden]:
            colour = {"pass": "green", "fail": "red"}.get(entry["verdict"], "yellow")
            times = f"  ({entry['checks']} checks)" if entry["checks"] > 1 else ""
            terminalreporter.write(f"{entry['verdict']:13}", **{colour: True})
            terminalreporter.write_line(
                f"{entry['margin']:<9.2g} {entry['test']}  {entry['function']}{times}"
            )
        if hidden:
            terminalreporter.write_line(f"… and {hidden} that pass with more room (-v shows them)")

    def _write(self, path: Path) -> None:
        from tinygrad_ai.files import atomic_write  # noqa: PLC0415  (with NumPy behind it)

        checks = [e | {"report": json.loads(e["report"])} for e in self.entries]
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"checks": checks}, indent=1))
