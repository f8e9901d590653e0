"""Which gradient checker finds what: every checker on both corpora of benchmarks/truth.

``python -m benchmarks.truth_table`` with the extra ``bench`` prints a Markdown table. A wrong case
counts as found if the checker fails or crashes on it, a correct one as a false alarm likewise;
only our checker can answer "inconclusive", and then the case counts as neither found nor missed.

``--checker ours`` runs one of them (any that contain the word), ``--only NAME`` the cases whose
name contains NAME, ``--show`` lists what each got wrong and why.
"""

from __future__ import annotations

import argparse
import collections
import functools
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np

from tinygrad_ai.testing.checker import check_gradients

from .truth.case import Array, Case
from .truth.correct import CORRECT
from .truth.wrong import WRONG

LIMIT = 120  # seconds for one case
SEED = 0


@dataclass(frozen=True)
class Answer:
    """What a checker said of one case; causes best first, if it names any."""

    verdict: str  #: pass, fail or inconclusive
    reason: str = ""
    causes: tuple[str, ...] = ()
    seconds: float = 0.0


Checker = Callable[[Case, list[Array]], Answer]


def ours(case: Case, arrays: list[Array]) -> Answer:
    """This library's checker, in the case's own dtype and with its declared domain."""
    report = check_gradients(
        case.f,
        *arrays,
        vjp=case.vjp,
        domains=[d.replace(" ", "_") if isinstance(d, str) else d for d in case.domain]
        if case.domain
        else None,
    )
    causes = tuple(cause.label for cause in report.causes)
    return Answer(report.verdict, report.text(), causes)


def peer(check: Callable[[Case, list[Array]], None], case: Case, arrays: list[Array]) -> Answer:
    """A checker that speaks by raising."""
    check(case, [a.astype(np.float64) for a in arrays])
    return Answer("pass")


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the body after so many seconds (where the system has SIGALRM)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ask(checker: Checker, case: Case) -> Answer:
    """One case, with fresh inputs; a crash is a failure, running out of time is no answer."""
    arrays = case.inputs(np.random.default_rng(SEED))
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), at_most(LIMIT):
            warnings.simplefilter("ignore")
            answer = checker(case, arrays)
    except TimeoutError as error:
        answer = Answer("inconclusive", str(error))
    except Exception as error:  # whatever it is, the checker said no
        answer = Answer("fail", f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - start
    return Answer(answer.verdict, answer.reason, answer.causes, seconds)


def named_right(case: Case, answer: Answer) -> bool:
    """Whether the first cause is the label written beforehand, or one equally right."""
    return bool(answer.causes) and answer.causes[0] in (case.cause, *case.also)


def score(name: str, answers: dict[Case, Answer]) -> str:
    """One checker's row of the table."""
    wrong = collections.Counter(a.verdict for c, a in answers.items() if c.cause)
    correct = collections.Counter(a.verdict for c, a in answers.items() if not c.cause)
    open_ = wrong["inconclusive"] + correct["inconclusive"]
    seconds = sum(a.seconds for a in answers.values())
    found = {c: a for c, a in answers.items() if c.cause and a.verdict == "fail"}
    causes = "–"
    if any(a.causes for a in found.values()):
        causes = f"{sum(named_right(c, a) for c, a in found.items()) / wrong.total():.0%}"
    cells = [name, wrong["fail"], wrong["pass"], correct["fail"], open_, f"{seconds:.1f}", causes]
    return "| " + " | ".join(map(str, cells)) + " |"


def mistakes(answers: dict[Case, Answer]) -> Iterator[str]:
    """Every case that a checker got wrong or left open, with its reason; causes misnamed."""
    for case, answer in answers.items():
        expected = "fail" if case.cause else "pass"
        if answer.verdict != expected:
            kind = {"fail": "FALSE ALARM", "pass": "MISSED"}.get(answer.verdict, "INCONCLUSIVE")
            yield f"{kind}: {case.name} ({case.cause or 'correct'})\n{_indented(answer.reason)}"
        elif case.cause and answer.causes and not named_right(case, answer):
            right = "/".join((case.cause, *case.also))
            yield f"CAUSE: {case.name}: {right}, not\n{_indented(answer.reason)}"
        elif case.cause and answer.verdict == "fail" and not answer.causes:
            yield f"NO CAUSE: {case.name}: {case.cause}\n{_indented(answer.reason)}"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines()[:12])


def checkers(word: str) -> dict[str, Checker]:
    """Those whose name contains ``word``; the peers' packages are imported only if one is asked."""
    found: dict[str, Checker] = {}
    if word in "ours":
        found["ours"] = ours
    if word != "ours":
        from .truth_peers import PEERS  # noqa: PLC0415  (torch, jax and autograd: seconds)

        found |= {n: functools.partial(peer, check) for n, check in PEERS.items() if word in n}
    return found


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checker", default="", help="only those whose name contains this")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--show", action="store_true", help="list what each got wrong, and why")
    options = parser.parse_args()
    cases = [case for case in (*WRONG, *CORRECT) if options.only in case.name]
    rows = []
    for name, checker in checkers(options.checker).items():
        answers = {case: ask(checker, case) for case in cases}
        rows.append(score(name, answers))
        if options.show:
            print(f"--- {name}", *mistakes(answers), sep="\n")
            slow = sorted(answers.items(), key=lambda item: -item[1].seconds)[:3]
            print("slowest:", ", ".join(f"{c.name} {a.seconds:.2f} s" for c, a in slow), "\n")
    wrong = sum(bool(case.cause) for case in cases)
    print(f"{wrong} wrong rules, {len(cases) - wrong} correct ones\n")
    print(
        "| checker | found | missed | false alarms | inconclusive | seconds | cause named first |"
    )
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
