"""The table that a run ends with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

OURS_BARE = "ours: parse, flatten, copy"
OURS_WHOLE = "ours: the same with keys, indexes, foreign keys"
LIMIT = "limit: fastest parser, COPY of encoded rows"
LIMIT_WITH_VALUES = "limit with the fastest parser that hands out values"
DLT, DUCKDB, PANDAS, PYDANTIC = "dlt", "DuckDB", "pandas", "pydantic"
END_TO_END = "shards to marts"
REFRESH = "refresh of 1% changed"
RELEASE = "release of the lake's tables"
COMPARE = "compare contents"
CLICKHOUSE = "load into ClickHouse"

_MEBIBYTE = 1 << 20

# Where starting processes does not weigh more than the work.
_LARGE = 60_000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing measured on one set of studies; `seconds` is the least of `runs` runs."""

    studies_of: str
    studies: int
    json_bytes: int
    name: str
    seconds: float
    median_seconds: float
    runs: int = 1
    rows: int | None = None
    peak_bytes: int | None = None
    server_peak_bytes: int | None = None
    note: str = ""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A goal, what was measured for it, and whether that is enough."""

    goal: str
    found: str
    met: bool


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run found; `measured_on` is a day."""

    measured_on: str
    machine: dict[str, str]
    contenders: list[Line]
    stages: list[Line]
    parsers: list[Line]
    notes: list[str] = []


def as_json(results: Results) -> bytes:
    """The results, with all digits."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2)


def as_markdown(results: Results) -> str:
    """The results as Markdown tables, with ratios and goals."""
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    parts = [f"Measured on {results.measured_on}: {machine}.", *results.notes]
    if results.contenders:
        parts += ["### Flatten and load, against others", _contenders(results.contenders)]
    parts += ["### Stages", _stages(results.stages)]
    if len(_generated_sizes(results.stages)) > 1:
        parts += ["### Growth", _growth(results.stages)]
    if results.parsers:
        parts += ["### JSON parsers, on all cores", _parsers(results.parsers)]
    parts += ["### Goals", _goals(goals(results))]
    return "\n\n".join(parts) + "\n"


def goals(results: Results) -> list[Goal]:
    """The goals that were measured; others make no keys, so they are compared with us without ours."""
    found: list[Goal] = []
    for peer, times in ((DLT, 25), (PANDAS, 50), (PYDANTIC, 50)):
        found += [
            Goal(
                goal=f"at least {times} times {peer} ({line.studies_of})",
                found=f"{line.seconds / ours.seconds:.1f} times",
                met=line.seconds >= times * ours.seconds,
            )
            for line, ours in _against(results.contenders, peer, OURS_BARE)
        ]
    found += [
        Goal(
            goal=f"at most 1.5 times the limit ({line.studies_of})",
            found=f"{ours.seconds / line.seconds:.2f} times",
            met=ours.seconds <= 1.5 * line.seconds,
        )
        for line, ours in _against(results.contenders, LIMIT, OURS_BARE)
    ]
    ends = [line for line in results.stages if line.name == END_TO_END]
    if ends:
        largest = max(ends, key=lambda line: line.studies)
        minutes = 8 * largest.studies / 600_000
        found.append(
            Goal(
                goal=f"{END_TO_END} in 8 minutes for 600,000, so {minutes:.2f} for {largest.studies:,}",
                found=f"{largest.seconds / 60:.2f} minutes",
                met=largest.seconds <= 60 * minutes,
            )
        )
        of_largest = [
            line
            for line in results.stages
            if line.studies_of == largest.studies_of and line.name not in (END_TO_END, CLICKHOUSE)
        ]
        # The two peaks of a stage need not fall together, so this is more than ever was.
        together = ((line.peak_bytes or 0) + (line.server_peak_bytes or 0) for line in of_largest)
        peak = max(together, default=0)
        found.append(
            Goal(
                goal=f"below 4 GiB resident, Postgres included ({largest.studies_of})",
                found=f"{peak / 2**30:.2f} GiB",
                met=peak < 4 * 2**30,
            )
        )
    found += [
        Goal(
            goal=f"{REFRESH}: at most 5% of {END_TO_END} ({line.studies_of})",
            found=f"{100 * line.seconds / whole.seconds:.1f}%",
            met=line.seconds <= 0.05 * whole.seconds,
        )
        for line, whole in _against(results.stages, REFRESH, END_TO_END)
        if line.studies >= _LARGE
    ]
    found += [
        Goal(
            goal=f"{CLICKHOUSE} in a minute ({line.studies_of})",
            found=f"{line.seconds:.0f} s",
            met=line.seconds <= 60,
        )
        for line in results.stages
        if line.name == CLICKHOUSE and line.studies == _LARGE
    ]
    sizes = _generated_sizes(results.stages)
    if len(sizes) > 1:
        small, large = (_stage(results.stages, size, END_TO_END) for size in sizes[-2:])
        if small and large:
            growth = large.seconds / small.seconds
            most = 1.05 * large.studies / small.studies
            found.append(
                Goal(
                    goal=f"{large.studies:,} against {small.studies:,}: at most {most:.1f} times",
                    found=f"{growth:.1f} times",
                    met=growth <= most,
                )
            )
    return found


def _contenders(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        bare, whole = (_beside(lines, line, name) for name in (OURS_BARE, OURS_WHOLE))
        rows.append(
            (
                line.studies_of,
                line.name + (f" ({line.note})" if line.note else ""),
                _seconds(line),
                f"{1000 * line.seconds / line.studies:.2f}",
                "" if bare is None else f"{line.seconds / bare.seconds:.2f}",
                "" if whole is None else f"{line.seconds / whole.seconds:.2f}",
                "" if line.rows is None else f"{line.rows:,}",
                _mebibytes(line.peak_bytes),
                _mebibytes(line.server_peak_bytes),
            )
        )
    head = (
        "studies", "what", "seconds", "ms a study", "times ours (copy)", "times ours (with keys)",
        "rows", "peak MiB", "Postgres MiB",
    )  # fmt: skip
    return _table(head, rows, words=2)


def _stages(lines: Sequence[Line]) -> str:
    head = ("studies", "stage", "seconds", "MB of JSON a second", "peak MiB", "Postgres MiB")
    rows = [
        (
            line.studies_of,
            line.name + (f" ({line.note})" if line.note else ""),
            _seconds(line),
            f"{line.json_bytes / 1e6 / line.seconds:,.0f}" if line.seconds else "",
            _mebibytes(line.peak_bytes),
            _mebibytes(line.server_peak_bytes),
        )
        for line in lines
    ]
    return _table(head, rows, words=2)


def _growth(lines: Sequence[Line]) -> str:
    sizes = _generated_sizes(lines)
    names = dict.fromkeys(line.name for line in lines if line.studies in sizes)
    pairs = list(itertools.pairwise(sizes))
    rows = []
    for name in names:
        ratios = []
        for small, large in pairs:
            one, ten = _stage(lines, small, name), _stage(lines, large, name)
            ratios.append(f"{ten.seconds / one.seconds:.1f}" if one and ten else "")
        rows.append((name, *ratios))
    head = ("stage", *(f"{large:,} / {small:,}" for small, large in pairs))
    data = ("(the data)", *(f"{large / small:.1f}" for small, large in pairs))
    return _table(head, [data, *rows], words=1)


def _parsers(lines: Sequence[Line]) -> str:
    rows = [
        (
            line.studies_of,
            line.name,
            _seconds(line),
            f"{line.json_bytes / 1e6 / line.seconds:,.0f}",
        )
        for line in lines
    ]
    return _table(("studies", "parser", "seconds", "MB a second"), rows, words=2)


def _goals(found: Iterable[Goal]) -> str:
    rows = [(goal.goal, goal.found, "met" if goal.met else "not met") for goal in found]
    return _table(("goal", "found", ""), rows, words=3)


def _against(lines: Sequence[Line], name: str, ours: str) -> list[tuple[Line, Line]]:
    """The lines of a contender, each with ours on the same studies."""
    pairs = ((line, _beside(lines, line, ours)) for line in lines if line.name == name)
    return [(line, beside) for line, beside in pairs if beside is not None]


def _beside(lines: Sequence[Line], line: Line, name: str) -> Line | None:
    same = (one for one in lines if one.studies_of == line.studies_of and one.name == name)
    return next(same, None)


def _stage(lines: Sequence[Line], studies: int, name: str) -> Line | None:
    found = (
        line
        for line in lines
        if line.name == name and line.studies == studies and _is_generated(line)
    )
    return next(found, None)


def _generated_sizes(lines: Sequence[Line]) -> list[int]:
    return sorted({line.studies for line in lines if _is_generated(line)})


def _is_generated(line: Line) -> bool:
    return line.studies_of.endswith("generated")


def _seconds(line: Line) -> str:
    if line.runs == 1:
        return f"{line.seconds:.2f}"
    return f"{line.seconds:.2f} (median of {line.runs}: {line.median_seconds:.2f})"


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / _MEBIBYTE:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    """A Markdown table; the first `words` columns are words, the others numbers."""
    rule = ["---" if place < words else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
