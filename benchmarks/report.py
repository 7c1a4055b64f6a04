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
TYPED_AHEAD = "compact, typed while crawling"
AFTER_CRAWL = "last page to marts"
REFRESH = "refresh of 1% changed"
RELEASE = "release of the lake's tables"
COMPARE = "compare contents"
CLICKHOUSE = "load into ClickHouse"

# The marts are told apart, since the goals are about those that were there when they were set.
STAR = "dbt, star schema"
OTHER_MARTS = "dbt, other marts"

_MEBIBYTE = 1 << 20

# Where starting processes does not weigh more than the work.
_LARGE = 60_000

# The goals of stages: the seconds that they may take, by the number of generated studies.
_TIMES = {
    END_TO_END: {600_000: 480},
    AFTER_CRAWL: {600_000: 300},
    REFRESH: {_LARGE: 12, 600_000: 40},
    CLICKHOUSE: {_LARGE: 60},
}


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
    """The goals that were measured; others make no keys, so they are compared with us without ours.

    Goals of time are judged on the largest set that has one.
    """
    found: list[Goal] = []
    against_dlt = _against(results.contenders, DLT, OURS_BARE)
    if against_dlt:
        line, ours = max(against_dlt, key=lambda pair: pair[0].studies)
        found.append(
            Goal(
                goal=f"at least 12 times {DLT} ({line.studies_of})",
                found=f"{line.seconds / ours.seconds:.1f} times",
                met=line.seconds >= 12 * ours.seconds,
            )
        )
    for line, ours in _against(results.contenders, LIMIT, OURS_BARE):
        if _is_generated(line) and line.studies != _LARGE:
            continue
        times = 2 if _is_generated(line) else 3
        found.append(
            Goal(
                goal=f"at most {times} times the limit ({line.studies_of})",
                found=f"{ours.seconds / line.seconds:.2f} times",
                met=ours.seconds <= times * line.seconds,
            )
        )

    def is_whole(line: Line) -> bool:
        """Without marts, following changes is not all that the goal is about."""
        return line.name != REFRESH or _beside(results.stages, line, END_TO_END) is not None

    for name, seconds_of in _TIMES.items():
        timed = (_stage(results.stages, studies, name) for studies in sorted(seconds_of))
        for line in [one for one in timed if one is not None and is_whole(one)][-1:]:
            seconds = seconds_of[line.studies]
            found.append(
                Goal(
                    goal=f"{name} in {seconds} s ({line.studies_of})",
                    found=f"{line.seconds:.1f} s",
                    met=line.seconds <= seconds,
                )
            )
    found += _goal_of_memory(results.stages)
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


def _goal_of_memory(stages: Sequence[Line]) -> list[Goal]:
    ends = [line for line in stages if line.name == END_TO_END]
    if not ends:
        return []
    largest = max(ends, key=lambda line: line.studies)
    of_largest = [
        line
        for line in stages
        if line.studies_of == largest.studies_of
        and line.name not in (END_TO_END, AFTER_CRAWL, CLICKHOUSE)
    ]
    # The two peaks of a stage need not fall together, so this is more than ever was.
    together = ((line.peak_bytes or 0) + (line.server_peak_bytes or 0) for line in of_largest)
    peak = max(together, default=0)
    goal = f"below 4 GiB resident, Postgres included ({largest.studies_of})"
    return [Goal(goal=goal, found=f"{peak / 2**30:.2f} GiB", met=peak < 4 * 2**30)]


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
