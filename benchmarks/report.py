"""Results as text for a terminal, as Markdown, and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adapters import ADAPTERS
from benchmarks.harness import Ratio, geometric_mean, ratio
from benchmarks.measure import Result, Start
from benchmarks.workloads import WORKLOADS

OURS = ("ours_jit", "ours_eager")


@dataclass(frozen=True)
class Line:
    """One workload on so many cores: everybody's results, and ours beside the fastest peer's."""

    workload: str
    cores: int
    results: Mapping[str, Result]
    floor: float | None  #: seconds

    @property
    def timed(self) -> dict[str, Result]:
        """Those with a timing."""
        return {name: r for name, r in self.results.items() if r.timing is not None}

    @property
    def ours(self) -> Result | None:
        """Compiled, or eager where nothing is compiled."""
        return next((self.timed[name] for name in OURS if name in self.timed), None)

    @property
    def fastest_peer(self) -> Result | None:
        """By the minimum."""
        peers = [r for name, r in self.timed.items() if ADAPTERS[name].peer]
        return min(peers, key=lambda r: r.timing.minimum, default=None)  # type: ignore[union-attr]

    @property
    def speed(self) -> Ratio | None:
        """The fastest peer's time over ours: above 1 ours is faster."""
        ours, peer = self.ours, self.fastest_peer
        if ours is None or peer is None:
            return None
        assert ours.timing is not None and peer.timing is not None
        return ratio(peer.timing, ours.timing)


def line(results: Mapping[str, Result], probe: tuple[float, float]) -> Line:
    """The line of one workload; ``probe`` is the peak in FLOP/s and the bandwidth in bytes/s."""
    some = next(iter(results.values()))
    facts = next((r.facts for r in results.values() if "flops" in r.facts), None)
    floor = None if facts is None else facts["flops"] / probe[0] + facts["bytes"] / probe[1]
    return Line(some.workload, some.cores, results, floor)


def heading(about: Mapping[str, Any]) -> str:
    """The machine and the versions."""
    m = about["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in {**about["frameworks"], **m["versions"]}.items())
    vectors = " ".join(m["vectors"])
    return (
        f"{m['processor']}, {m['cores']} cores ({vectors}), {m['system']}, Python {m['python']}, "
        f"load {m['load']}\n{versions}\n"
    )


def seconds(t: float) -> str:
    """With a unit, three digits."""
    unit, factor = next((u for u in (("s", 1.0), ("ms", 1e3)) if t * u[1] >= 1), ("µs", 1e6))
    return f"{t * factor:.3g} {unit}"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool = False) -> str:
    """A table: the first column to the left, the others to the right."""
    rows = [head, *rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    cells = [
        [row[0].ljust(widths[0]), *(c.rjust(n) for c, n in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    if not markdown:
        return "\n".join("  ".join(row).rstrip() for row in cells)
    rule = ["-" * n if k == 0 else "-" * (n - 1) + ":" for k, n in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])


def detail(line: Line) -> str:
    """Everybody's times for one workload, and why somebody has none."""
    base, rows, notes = line.ours, [], []
    for name, r in line.results.items():
        title = ADAPTERS[name].title
        if r.timing is None:
            notes.append(f"  {title}: not timed: {r.refused}")
            continue
        assert base is None or base.timing is not None
        against = ratio(r.timing, base.timing) if base is not None and base.timing else None
        ratios = ["", "", ""]
        if against is not None:
            ratios = [f"{against.minima:.2f}", f"{against.medians:.2f}",
                      f"{against.low:.2f}–{against.high:.2f}"]  # fmt: skip
        rows.append([f"  {title}", seconds(r.timing.minimum), seconds(r.timing.median), *ratios])
        if left := r.facts.get("numpy"):
            notes += [f"  {title} leaves to NumPy: {n} × {what}" for what, n in left.items()]
    floor = f"; floor {seconds(line.floor)}" if line.floor else ""
    head = ["", "minimum", "median", "× min", "× median", "95 %"]
    title = f"{WORKLOADS[line.workload].title}; {line.cores} core(s){floor}"
    return "\n".join([title, grid(head, rows), *notes])


def summary(found: Sequence[Line], markdown: bool = False) -> str:
    """A line a workload: ours, the floor, every peer's minimum, and how ours compares."""
    names = list(dict.fromkeys(name for line in found for name in line.results))
    head = ["workload", *(ADAPTERS[n].title for n in names), "floor", "fastest peer ÷ ours: min",
            "median", "95 %"]  # fmt: skip
    rows = []
    for line in found:
        times = [
            seconds(line.timed[n].timing.minimum) if n in line.timed else "–"  # type: ignore[union-attr]
            for n in names
        ]
        speed = line.speed
        compared = ["–", "–", "–"]
        if speed is not None:
            compared = [f"{speed.minima:.2f}", f"{speed.medians:.2f}",
                        f"{speed.low:.2f}–{speed.high:.2f}"]  # fmt: skip
        title = WORKLOADS[line.workload].title if markdown else line.workload
        rows.append([title, *times, seconds(line.floor) if line.floor else "–", *compared])
    table = grid(head, rows, markdown)
    whole = [line for line in found if WORKLOADS[line.workload].kind != "operation"]
    ratios = [line.speed for line in whole if line.speed is not None]
    if not ratios:
        return table
    means = [geometric_mean([getattr(r, k) for r in ratios]) for k in ("minima", "medians")]
    return (
        f"{table}\n\nGeometric mean of the fastest peer ÷ ours over {len(ratios)} workloads, "
        f"single operations apart: {means[0]:.2f} (minima), {means[1]:.2f} (medians)."
    )


def starting(found: Sequence[Start], markdown: bool = False) -> str:
    """Imports, first calls, memory."""
    head = ["start", "import", "first call, cold", "warm", "memory over imports, cold", "warm"]
    rows = []
    for s in found:
        name = f"{s.workload}: {ADAPTERS[s.adapter].title}"
        if s.refused:
            rows.append([name, "–", "–", "–", s.refused[:60], "–"])
            continue
        memory = [f"{bytes_ / 2**20:.0f} MiB" for bytes_ in (s.cold_bytes, s.warm_bytes)]
        rows.append([name, *(seconds(t) for t in (s.import_seconds, s.cold, s.warm)), *memory])
    return grid(head, rows, markdown)


def refusals(found: Sequence[Line]) -> str:
    """Who was not timed, and why; nobody is dropped silently."""
    return "\n".join(
        f"- {line.workload}, {line.cores} core(s): {ADAPTERS[name].title}: {r.refused}"
        for line in found
        for name, r in line.results.items()
        if r.timing is None
    )


def markdown(about: Mapping[str, Any], found: Sequence[Line], begun: Sequence[Start]) -> str:
    """The whole report."""
    parts = ["# Benchmarks", heading(about).strip()]
    for count in dict.fromkeys(line.cores for line in found):
        peak, bandwidth = about["probes"][count]
        parts += [
            f"## {count} core(s): minimum of the rounds",
            f"Peak {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s. Every framework's first "
            "calls agreed with float64 gradients derived by hand.",
            summary([line for line in found if line.cores == count], markdown=True),
        ]
    absent = [f"- {ADAPTERS[name].title}: {why}" for name, why in about["missing"].items()]
    if refused := "\n".join(filter(None, [*absent, refusals(found)])):
        parts += ["## Not timed", refused]
    if begun:
        parts += ["## Starts (one core)", starting(begun, markdown=True)]
    return "\n\n".join(parts) + "\n"


def plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10 … on a logarithmic axis of a plot."""
    from matplotlib import ticker  # noqa: PLC0415 - heavy, and only for pictures

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.NullFormatter())


def plot(found: Sequence[Line], path: Path) -> None:
    """Bars: speed relative to the fastest peer, a panel for each number of cores."""
    import matplotlib  # noqa: PLC0415 - heavy, and only for pictures

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    counts = list(dict.fromkeys(line.cores for line in found))
    names = list(dict.fromkeys(name for line in found for name in line.results))
    size = (max(8.0, 1.3 * len(found) / len(counts)), 3.8 * len(counts))
    figure, panels = plt.subplots(len(counts), 1, figsize=size, squeeze=False, layout="constrained")
    for panel, count in zip(panels[:, 0], counts, strict=True):
        shown = [line for line in found if line.cores == count and line.fastest_peer is not None]
        width = 0.8 / len(names)
        for k, name in enumerate(names):
            bars = [
                (at + k * width, line.fastest_peer.timing.minimum / line.timed[name].timing.minimum)  # type: ignore[union-attr]
                for at, line in enumerate(shown)
                if name in line.timed
            ]
            if bars:
                panel.bar(*zip(*bars, strict=True), width, label=ADAPTERS[name].title)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_yscale("log")
        plain_numbers(panel.yaxis)
        panel.set_ylim(bottom=0.02)
        panel.set_ylabel("speed, fastest peer = 1")
        panel.set_title(f"{count} core(s)")
        ticks = [at + 0.4 - width / 2 for at in range(len(shown))]
        panel.set_xticks(ticks, [line.workload for line in shown], rotation=30, ha="right")
    named = dict(zip(*reversed(panels[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named, loc="outside upper center", ncols=8, fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
