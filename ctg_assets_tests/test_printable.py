"""Nothing from elsewhere does more on a terminal or a page than be read."""

from __future__ import annotations

import ast
import io
import logging
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from rich.text import Text
from typer.testing import CliRunner

import ctg_assets
from ctg_assets.cli.app import app
from ctg_assets.cli.console import ConsoleHandler, SafeConsole, facts, labelled, rows_table
from ctg_assets.cli.feed import sink_lines, sinks_table
from ctg_assets.cli.refresh_display import RefreshDisplay
from ctg_assets.cli.status import extraction_facts, warehouse_facts
from ctg_assets.extract.extractions import (
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
    Supersession,
)
from ctg_assets.feed.positions import DeadLetter, SinkState
from ctg_assets.feed.service import SinkStatus
from ctg_assets.lake import open_lake
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.metadata import bar_chart, markdown_table
from ctg_assets.printable import markdown_text, printable, printable_lines
from ctg_assets.refresh.planner import Stage, Step
from ctg_assets.refresh.status import ExtractionStatus, WarehouseStatus
from ctg_assets.results import CheckResult, Listing
from ctg_assets.settings import load_settings

PACKAGE = Path(ctg_assets.__file__).parent
NOW = datetime(2026, 11, 26, tzinfo=UTC)

# Escape sequences, links, bells, a rewritten line, marks of direction, markup and Markdown of several
# kinds, an emoji code, half a surrogate pair; and any text at all.
ODD = st.one_of(
    st.sampled_from(
        [
            "\x1b[2J\x1b[31mred",
            "\x1b]8;;https://evil.example\x07click\x1b]8;;\x07",
            "\x9b31m\x07\x08\r",
            "abc\u202egnp.exe\u2066",
            "line\nrefresh  done\u2028\x85",
            "[red]x[/] [/] [link=https://evil.example]y[/link] :smiley:",
            "a|b <img src=x onerror=alert(1)> [y](https://evil.example) `c` **d** &lt;",
            "\ud83d\x00\ufeff\U000e0041",
        ]
    ),
    st.text(st.characters(codec=None), max_size=20),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=8),
)


def acts(text: str, allowed: str = "\n") -> list[str]:
    """What of a text a terminal would act on, told by Unicode's own properties."""
    return [
        repr(character)
        for character in text
        if character not in allowed
        and (
            unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
            or unicodedata.bidirectional(character)
            in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
            or character in "\u200e\u200f\u061c"
        )
    ]


def plan(text: str) -> ExtractionPlan:
    """A plan with this text wherever a registry or a file may have its say."""
    return ExtractionPlan(
        extraction_id="20261126T000000000000",
        mode=ExtractionMode.FULL,
        source=text,
        query=text,
        data_timestamp=text,
        planned_at=NOW,
        page_size=1,
        expected_studies=1,
        planned_pages=1,
        reason=text,
    )


def sink(text: str) -> SinkStatus:
    """A sink in trouble, with this text as its name and in what it said."""
    state = SinkState(
        sink=text,
        change_seq=1,
        delivered=1,
        dead_letters=2,
        moved_at=NOW,
        failing_since=NOW,
        last_error=text,
        last_error_at=NOW,
        is_held=False,
    )
    letter = DeadLetter(
        sink=text,
        event_id=text,
        first_failed_at=NOW,
        change_seq=1,
        nct_id=text,
        attempts=1,
        reason=text,
        last_failed_at=NOW,
        replay_asked=True,
    )
    return SinkStatus(
        name=text, settings=None, state=state, behind=1, dead_letters=[letter], marts=text
    )


def show_refresh(console: SafeConsole, text: str) -> None:
    """A refresh with this text in all that it tells, live line included."""
    display = RefreshDisplay(console, open_lake(load_settings()))
    with display.live():
        display.stage_started(Step(Stage.STAGING, text))
        display.asset_materialized(text, 1)
        display.check_failed(text, text, warning=True)
        display.check_failed(text, text, warning=False)
        display.stage_finished()


def show_log(console: SafeConsole, text: str) -> None:
    """A log record with this text."""
    ConsoleHandler(console).emit(
        logging.LogRecord("ctg_assets", logging.WARNING, "", 0, "%s", (text,), None)
    )


def show_extraction(console: SafeConsole, text: str) -> None:
    """What status says of an extraction."""
    given_up = Supersession(reason=text, superseded_at=NOW)
    status = ExtractionStatus(plan(text), ExtractionState.SUPERSEDED, 1, None, given_up)
    console.print(facts(extraction_facts(status)))


DISPLAYS: dict[str, Callable[[SafeConsole, str], None]] = {
    "a line": lambda console, text: console.print(text),
    "a styled line": lambda console, text: console.print(text, style="red"),
    "rich's own text": lambda console, text: console.print(Text(text, "red")),
    "a labelled line": lambda console, text: console.print(labelled(text, "red", text)),
    "rows": lambda console, text: console.print(rows_table(text, {text: 1})),
    "facts": lambda console, text: console.print(facts([(text, text)])),
    "a database": lambda console, text: console.print(
        facts(warehouse_facts(WarehouseStatus(problem=text)))
    ),
    "an extraction": show_extraction,
    "sinks": lambda console, text: console.print(sinks_table([sink(text)])),
    "sinks at rest": lambda console, text: console.print(
        sinks_table([replace(sink(text), state=None)])
    ),
    "a sink's troubles": lambda console, text: console.print(*sink_lines(sink(text))),
    "a refresh": show_refresh,
    "a log record": show_log,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISPLAYS)
@hypothesis.given(text=ODD)
@hypothesis.settings(
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_no_display_acts_on_what_it_shows(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of control characters and marks of direction only line breaks arrive, and styling comes from us.

    Every way in which the console shows something, over escape sequences, links, bells, bidirectional
    marks, markup, surrogates and any text of Unicode.
    """
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    file = io.StringIO()
    DISPLAYS[name](SafeConsole(file=file), text)
    assert acts(file.getvalue()) == []
    file.getvalue().encode()


@hypothesis.given(text=ODD)
def test_texts_made_printable_stay_so(text: str) -> None:
    """Nothing that acts is left, what is left alone is unchanged, and a second time changes nothing."""
    assert acts(printable(text), allowed="") == []
    assert acts(printable_lines(text)) == []
    assert printable(printable(text)) == printable(text)
    if not acts(text, allowed="") and text.isprintable():
        assert printable(text) == text


def test_what_is_set_aside_can_be_read() -> None:
    """Characters are shown as Python writes them; letters of all scripts and emoji stay."""
    assert printable("a\x1b[31m\n\u202e\ud83d") == r"a\x1b[31m\n\u202e\ud83d"
    assert printable_lines("a\nb\x07") == "a\nb\\x07"
    for text in ("Charité, 北京, Ελλάδα, עברית, नमस्ते, \U0001f600", "[red] :smiley:"):
        assert printable(text) == text


@hypothesis.given(text=ODD)
def test_pages_show_texts_as_they_are(text: str) -> None:
    """A Markdown cell is one cell on one line, without markup, links, HTML or what acts.

    Every character that means something in Markdown or HTML has a backslash before it.
    """
    for page in (
        markdown_table((text, "b"), [(text, text)]),
        str(bar_chart(text, {text: 1}).value),
    ):
        assert acts(page) == []
        head, rule, *rows = page.split("\n")
        assert len(rows) == 1
        assert set(rule) <= set("- |")
        for line in (head, *rows):
            # Within a word underscores are letters.
            unescaped = iter(re.sub(r"(?<=[^\W_])_+(?=[^\W_])", "", line.replace(" | ", "   ")))
            for character in unescaped:
                if character == "\\":
                    assert next(unescaped) in "\\`*_[]<>|~&#!$"
                else:
                    assert character not in "`*_[]<>|~&#!$"


@hypothesis.given(text=ODD)
def test_checks_tell_dagster_nothing_that_acts(text: str) -> None:
    """Descriptions, facts and tables of checks, which the UI and the console show, are printable."""
    listing = Listing(("what",), ((text,),))
    result = check_result(CheckResult(False, text, facts={"a": text, text: 1, "t": listing}))
    assert acts(f"{result.description}{result.metadata}", allowed="") == []


def test_the_command_line_says_of_a_strange_file_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose name and content hold escape sequences and markup is named, with their escapes."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    file = tmp_path / "x\x1b[31m[bold]\u202e.json"
    file.write_bytes(b"\x1b]8;;https://evil.example\x07[/] nonsense")
    done = CliRunner().invoke(app, ["import-file", str(file)])
    assert done.exit_code == 1
    assert r"x\x1b[31m[bold]\u202e.json" in done.stderr
    assert acts(done.output) == []


def test_nothing_is_printed_in_another_way() -> None:
    """No module of the command line knows rich's markup, or a console that is not the safe one."""
    modules = {path.name: path for path in (PACKAGE / "cli").rglob("*.py")}
    assert "console.py" in modules
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not any(one.startswith(("rich.markup", "rich.logging")) for one in imported), name
        assert "rich.console.Console" not in imported or name == "console.py"
        printed = [
            literal.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"print", "update", "status"}
            for literal in ast.walk(node)
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str)
        ]
        assert [text for text in printed if "[/" in text or "[red]" in text] == []


def test_markdown_is_escaped_once() -> None:
    """What Markdown gives a meaning gets one backslash, and a cut cell ends in no half escape."""
    assert markdown_text("a|_b_ nct_id\n<x>") == r"a\|\_b\_ nct_id\\n\<x\>"
    (_, _, row) = markdown_table(("h",), [("|" * 100,)]).split("\n")
    assert row == r"\|" * 59 + "…"
