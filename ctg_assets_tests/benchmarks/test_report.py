"""The table: ratios, growth and goals are computed from the figures that are in it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks import report
from benchmarks.report import Line, Results


def _line(name: str, seconds: float, studies: int = 1000, kind: str = "real") -> Line:
    return Line(
        studies_of=f"{studies:,} {kind}",
        studies=studies,
        json_bytes=studies * 20_000,
        name=name,
        seconds=seconds,
        median_seconds=seconds,
        peak_bytes=512 << 20,
        server_peak_bytes=256 << 20,
    )


def _results(
    contenders: Sequence[Line] = (), stages: Sequence[Line] = (), parsers: Sequence[Line] = ()
) -> Results:
    return Results(
        measured_on="2026-11-21",
        machine={"cores": "2"},
        contenders=list(contenders),
        stages=list(stages),
        parsers=list(parsers),
    )


def _goals(results: Results) -> dict[str, tuple[str, bool]]:
    return {goal.goal: (goal.found, goal.met) for goal in report.goals(results)}


def test_nobody_else_is_compared_with_our_making_of_keys() -> None:
    """A peer's seconds are divided by ours without keys, and those by the limit's."""
    contenders = [
        _line(report.OURS_BARE, 1.2),
        _line(report.OURS_WHOLE, 9.0),
        _line(report.LIMIT, 0.4),
        _line(report.DLT, 14.4),
        _line(report.DUCKDB, 1.0),
        _line(report.PANDAS, 59.4),
    ]
    assert _goals(_results(contenders=contenders)) == {
        "at least 12 times dlt (1,000 real)": ("12.0 times", True),
        "at most 3 times the limit (1,000 real)": ("3.00 times", True),
    }


def test_dlt_is_judged_on_the_larger_set() -> None:
    """Where a peer ran on a sample and on more, only the larger set counts."""
    contenders = [
        *(_line(report.OURS_BARE, 10.0, studies) for studies in (13_572, 1000)),
        _line(report.DLT, 119.0, 13_572),
        _line(report.DLT, 200.0, 1000),
    ]
    assert _goals(_results(contenders=contenders)) == {
        "at least 12 times dlt (13,572 real)": ("11.9 times", False)
    }


def test_generated_studies_are_held_against_the_limit_at_one_size() -> None:
    """The goal of generated studies is that of 60,000, which is stricter than that of real ones."""
    contenders = [
        line
        for studies in (6_000, 60_000)
        for line in (
            _line(report.OURS_BARE, 2.1, studies, "generated"),
            _line(report.LIMIT, 1.0, studies, "generated"),
        )
    ]
    assert _goals(_results(contenders=contenders)) == {
        "at most 2 times the limit (60,000 generated)": ("2.10 times", False)
    }


def test_a_contender_is_compared_on_its_own_studies_only() -> None:
    """Figures of other studies never enter a ratio, so a goal without its counterpart is not checked_records."""
    contenders = [_line(report.OURS_BARE, 2.0, studies=500), _line(report.DLT, 50.0)]
    assert _goals(_results(contenders=contenders)) == {}


def test_times_are_judged_on_the_largest_set_that_has_a_goal() -> None:
    """Each goal of time is one of a number of studies; of two that were measured, the larger counts."""
    stages = [
        line
        for studies, seconds in ((60_000, 12.5), (600_000, 40.0), (900_000, 990.0))
        for line in (
            _line(report.END_TO_END, 12 * seconds + 0.1, studies, "generated"),
            _line(report.REFRESH, seconds, studies, "generated"),
            _line(report.CLICKHOUSE, 4 * seconds, studies, "generated"),
        )
    ]
    found = _goals(_results(stages=stages))
    assert [(goal, said) for goal, said in found.items() if " s (" in goal] == [
        ("shards to marts in 480 s (600,000 generated)", ("480.1 s", False)),
        ("refresh of 1% changed in 40 s (600,000 generated)", ("40.0 s", True)),
        ("load into ClickHouse in 60 s (60,000 generated)", ("50.0 s", True)),
    ]


def test_a_refresh_without_marts_meets_no_goal() -> None:
    """Where marts were left out, or the studies are real ones, the goals of time do not apply."""
    stages = [
        _line(report.REFRESH, 1.0, 60_000, "generated"),
        _line(report.END_TO_END, 1.0, 600_000, "real"),
        _line(report.REFRESH, 1.0, 600_000, "real"),
    ]
    assert not [goal for goal in _goals(_results(stages=stages)) if " s (" in goal]


def test_memory_and_growth_are_judged_on_the_largest_set() -> None:
    """Of memory, a stage's and Postgres' count together; twice the studies may take 5% more than twice."""
    end = _line(report.END_TO_END, 48.0, 60_000, "generated")
    load, dbt = (_line(name, 20.0, 60_000, "generated") for name in ("load", report.STAR))
    stages = [
        _line(report.END_TO_END, 5.0, 6_000, "generated"),
        msgspec.structs.replace(load, peak_bytes=3 << 30, server_peak_bytes=(1 << 30) - 1),
        msgspec.structs.replace(dbt, peak_bytes=1 << 30, server_peak_bytes=2 << 30),
        # Of different stages, so they do not add up.
        msgspec.structs.replace(end, peak_bytes=3 << 30, server_peak_bytes=2 << 30),
    ]
    assert _goals(_results(stages=stages)) == {
        "below 4 GiB resident, Postgres included (60,000 generated)": ("4.00 GiB", True),
        "60,000 against 6,000: at most 10.5 times": ("9.6 times", True),
    }


def test_the_table_shows_every_figure_with_its_ratios() -> None:
    """Each line of the results is a row, beside it how often it takes our time."""
    contenders = [
        _line(report.OURS_BARE, 1.0),
        _line(report.OURS_WHOLE, 2.0),
        msgspec.structs.replace(_line(report.DLT, 40.0), note="csv", runs=3, rows=1234),
    ]
    stages = [_line("parse", 0.5, 10, "generated"), _line("parse", 4.0, 100, "generated")]
    table = report.as_markdown(_results(contenders=contenders, stages=stages))
    assert (
        "| 1,000 real | dlt (csv) | 40.00 (median of 3: 40.00) | 40.00 | 40.00 | 20.00 | 1,234 | 512 "
        "| 256 |"
    ) in table
    assert "| parse | 8.0 |" in table
    assert "Measured on 2026-11-21: cores 2." in table


def test_results_survive_their_file() -> None:
    """What is kept as JSON is all that was found."""
    results = _results(parsers=[_line("orjson", 0.25)])
    assert msgspec.json.decode(report.as_json(results), type=Results) == results
