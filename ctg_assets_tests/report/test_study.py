"""One study's card and history, on the history of a registry in motion and on odd studies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import ctg_assets
from ctg_assets.cli.app import app
from ctg_assets.history.entries import StudyChangeKind
from ctg_assets.history.extraction_diff import MissingReason
from ctg_assets.lake import Lake, open_lake
from ctg_assets.report.study_card import Event, StudyCard, UnknownStudyError, study_card
from ctg_assets.report.study_page import study_page
from ctg_assets.report.study_words import details, event_in_words, headline
from ctg_assets.settings import load_settings
from ctg_assets.simulator.churn import Churn, Round
from ctg_assets.simulator.churn_acts import ChurnRates
from ctg_assets.simulator.churn_log import ActKind, ActRecord
from ctg_assets.simulator.source import GeneratedSource, StudySource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.history.histories import Chronicler, on
from ctg_assets_tests.report.pages import check_page
from ctg_assets_tests.support.made_lakes import study

_ROUNDS = 8
_STUDIES = 40
# More of what is rare, so that all of it happens in a few rounds.
_RATES = ChurnRates(
    touched=0.15,
    shares={
        ActKind.UPDATE: 40,
        ActKind.SILENT_EDIT: 15,
        ActKind.INSERT: 15,
        ActKind.DELETE: 10,
        ActKind.RESTORE: 15,
        ActKind.MERGE: 5,
    },
)


class Churned:
    """A lake that followed a churn day by day, and what the churn says it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = open_lake(load_settings(data_dir=folder))
        self.acts: list[ActRecord] = []
        source = GeneratedSource(_STUDIES, 3)
        self.first = _raws(source)
        churn = Churn(source, 3, rates=_RATES, listener=self._happened)
        lake = Chronicler(self.lake.storage, self.lake.scratch)
        lake.record(1, *self.first.values())
        for day in range(2, _ROUNDS + 2):
            churn.advance()
            entry = lake.record(day, *_raws(churn.source).values(), explain=self._explain)
        Compactor(self.lake.storage, self.lake.scratch).compact(entry.extraction_id)
        self.last = _raws(churn.source)

    def _happened(self, done: Round) -> None:
        self.acts += done.records

    def _explain(self, nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
        merged = {act.nct_id: act.into for act in self.acts if act.act is ActKind.MERGE}
        return {
            nct_id: MissingReason(StudyChangeKind.MERGE, merged[nct_id])
            if nct_id in merged
            else MissingReason(StudyChangeKind.DELETE)
            for nct_id in nct_ids
        }

    def acts_on(self, nct_id: str) -> list[ActRecord]:
        """What was done to a study, in order."""
        return [act for act in self.acts if act.nct_id == nct_id]


def _raws(source: StudySource) -> dict[str, bytes]:
    return {source.nct_id(index): source.raw(index) for index in range(len(source))}


@pytest.fixture(scope="module")
def churned(tmp_path_factory: pytest.TempPathFactory) -> Churned:
    """The lake that the tests of this module only read."""
    return Churned(tmp_path_factory.mktemp("churned"))


def run(*arguments: str, folder: Path) -> Result:
    """Run `study` on a data folder."""
    return CliRunner().invoke(app, ["study", *arguments], env={"CTG_DATA_DIR": str(folder)})


@pytest.mark.slow
def test_every_study_is_told_as_it_went(churned: Churned) -> None:
    """Each study, gone ones included, has the changes, versions and state that the registry's own log says."""
    every = {*churned.first, *(act.nct_id for act in churned.acts)}
    kinds = set()
    for nct_id in every:
        card = study_card(churned.lake, nct_id)
        acts = churned.acts_on(nct_id)
        days = {f"{change.observed_at:%Y-%m-%d}": change for change in card.changes}
        begun = [on(1)] if nct_id in churned.first else []
        assert sorted(days) == sorted(
            {f"{moment:%Y-%m-%d}" for moment in begun + [on(act.round + 1) for act in acts]}
        )
        # A content that comes back is no new one.
        contents = {act.content_hash_after for act in acts} - {None}
        before = {act.content_hash_before for act in acts[:1]} - {None}
        if acts:
            assert len({version.number for version in card.versions}) == len(contents | before)
        kinds |= {change.kind for change in card.changes}
        if nct_id in churned.last:
            assert card.state == "in the registry"
            title = json.loads(churned.last[nct_id])["protocolSection"]["identificationModule"]
            assert card.title == title["briefTitle"]
        elif acts[-1].act is ActKind.MERGE:
            assert card.state.startswith(f"merged into {acts[-1].into} since ")
        else:
            assert card.state.startswith("gone from the registry since ")
    assert kinds == {"insert", "update", "delete", "restore", "merge"}


@pytest.mark.slow
def test_events_and_fields_are_those_of_the_tables(churned: Churned) -> None:
    """The card has every row of the tables of events and of changed fields, and no other."""
    registry = ctg_assets.open(churned.folder)
    cards = {
        nct_id: study_card(churned.lake, nct_id)
        for nct_id in registry.changes()["nct_id"].unique().to_pylist()
    }
    events = [
        event.event_type
        for card in cards.values()
        for change in card.changes
        for event in change.events
    ]
    assert sorted(events) == sorted(registry.table("study_events")["event_type"].to_pylist())
    fields = {
        (change.change_seq, path)
        for card in cards.values()
        for change in card.changes
        for path in change.fields
    }
    table = registry.table("study_field_changes")
    assert fields == set(
        zip(table["change_seq"].to_pylist(), table["path"].to_pylist(), strict=True)
    )


def test_an_alias_leads_to_the_study_that_bears_it(churned: Churned) -> None:
    """An id that a study bears as alias, and that was never seen itself, shows the study; so do small letters."""
    raw = json.loads(next(iter(churned.last.values())))
    raw["protocolSection"]["identificationModule"]["nctIdAliases"] = ["NCT98765432"]
    nct_id = raw["protocolSection"]["identificationModule"]["nctId"]
    folder = churned.folder.parent / "aliased"
    lake = open_lake(load_settings(data_dir=folder))
    entry = Chronicler(lake.storage, lake.scratch).record(1, json.dumps(raw).encode())
    Compactor(lake.storage, lake.scratch).compact(entry.extraction_id)
    card = study_card(lake, "nct98765432")
    assert (card.nct_id, card.asked) == (nct_id, "NCT98765432")
    assert study_card(lake, f" {nct_id.lower()}").asked is None
    assert "NCT98765432 is an alias of it" in run("NCT98765432", folder=folder).stdout


@pytest.mark.parametrize(
    ("asked", "said"),
    [("NCT99999999", "no study NCT99999999 was ever seen"), ("\x1b[31mfoo", "is no study's id")],
)
def test_unknown_ids_are_said(churned: Churned, asked: str, said: str) -> None:
    """An id that nothing has, and a text that is none, end with a sentence, exit code 1 and no escape sequence."""
    with pytest.raises(UnknownStudyError):
        study_card(churned.lake, asked)
    done = run(asked, folder=churned.folder)
    assert done.exit_code == 1
    assert said in done.stderr
    assert "\x1b" not in done.output


def test_a_folder_without_studies_says_so(lake: Lake) -> None:
    """Before the first refresh the command that brings studies is named."""
    with pytest.raises(UnknownStudyError, match="ctg-assets refresh"):
        study_card(lake, "NCT00000001")


def _odd_card(lake: Lake, **more: object) -> StudyCard:
    hostile = '</script><b>bold</b> \x1b[31mred\u202e & "quoted"'
    Chronicler(lake.storage, lake.scratch).record(1, study("NCT00000001", title=hostile, **more))
    return study_card(lake, "NCT00000001")


def test_a_title_can_only_be_read(lake: Lake) -> None:
    """Markup and escape sequences in a title are shown, not followed, in terminal, JSON and page."""
    card = _odd_card(lake)
    folder = Path(lake.storage.root).parent
    shown = run("NCT00000001", folder=folder).stdout
    assert "</script><b>bold</b> \\x1b[31mred\\u202e" in shown
    assert "\x1b" not in run("NCT00000001", "--json", folder=folder).stdout
    page = study_page(card, on(1))
    check_page(page)
    assert "&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt; \\x1b[31mred\\u202e &amp; " in page


@pytest.mark.parametrize("protocol", [None, [], "text", {"identificationModule": 7}])
def test_a_study_of_another_shape_has_a_card(lake: Lake, protocol: object) -> None:
    """What is not of the kind expected is left out, and the rest is told."""
    raw = json.dumps(
        {
            "protocolSection": {
                "identificationModule": {"nctId": "NCT00000001"},
                "statusModule": {
                    "lastUpdatePostDateStruct": {"date": "2026-01-01"},
                    "startDateStruct": protocol,
                },
                "designModule": {"phases": protocol, "enrollmentInfo": protocol},
                "contactsLocationsModule": {"locations": protocol},
            },
        }
    ).encode()
    Chronicler(lake.storage, lake.scratch).record(1, raw)
    card = study_card(lake, "NCT00000001")
    assert card.title == "(no title)"
    assert dict(card.facts) == {"last update posted": "2026-01-01", "results": "none posted"}


def test_json_has_it_all(churned: Churned) -> None:
    """`--json` prints the card as it is."""
    nct_id = next(act.nct_id for act in churned.acts if act.act is ActKind.UPDATE)
    told = json.loads(run(nct_id, "--json", folder=churned.folder).stdout)
    card = study_card(churned.lake, nct_id)
    assert told["title"] == card.title
    assert [change["change_seq"] for change in told["changes"]] == [
        change.change_seq for change in card.changes
    ]
    assert told["versions"][0]["valid_from"] == card.versions[0].valid_from.isoformat()


def test_the_page_tells_each_change(churned: Churned, tmp_path: Path) -> None:
    """`--html` writes a page with a place on the timeline for each change, newest first."""
    nct_id = max(churned.last, key=lambda one: len(churned.acts_on(one)))
    path = tmp_path / "study.html"
    assert run(nct_id, "--html", str(path), folder=churned.folder).stdout.strip() == str(path)
    page = path.read_text(encoding="utf-8")
    check_page(page)
    card = study_card(churned.lake, nct_id)
    moments: list[str] = []

    class Times(HTMLParser):
        """Collects the moments on the timeline."""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "time":
                moments.append(dict(attrs)["datetime"] or "")

    Times().feed(page)
    assert moments == [change.observed_at.isoformat() for change in reversed(card.changes)]
    assert all(headline(change) in page for change in card.changes)
    assert all(list(details(change)) for change in card.changes if change.kind == "update")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Event("status_changed", None, "RECRUITING", "TERMINATED", None, None),
            "Status changed: Recruiting → Terminated",
        ),
        (
            Event("completion_moved", None, "2026-01", "2026-03", 59, None),
            "Completion moved: 2026-01 → 2026-03 (59 days later)",
        ),
        (
            Event("start_moved", None, "2026-01-03", "2026-01-01", -2, None),
            "Start moved: 2026-01-03 → 2026-01-01 (2 days earlier)",
        ),
        (
            Event("results_posted", None, None, "2026-01-01", None, None),
            "Results posted: 2026-01-01",
        ),
        (
            Event("results_withdrawn", None, "2026-01-01", None, None, None),
            "Results withdrawn: was 2026-01-01",
        ),
        (
            Event(
                "primary_outcome_reworded",
                "Pain",
                '{"measure": "Pain", "timeFrame": "1 year"}',
                '{"measure": "Pain", "timeFrame": "2 years"}',
                None,
                True,
            ),
            "Primary outcome reworded, Pain; time frame: 1 year → 2 years (after the primary completion)",
        ),
        (
            Event("primary_outcome_added", "Pain", None, '{"measure": "Pain"}', None, False),
            "Primary outcome added, Pain",
        ),
        (
            Event("sponsor_changed", "S", "A" * 150 + "B", "A" * 150 + "C", None, None),
            f"Sponsor changed, S: …{'A' * 30}B → …{'A' * 30}C",
        ),
        (Event("sponsor_changed", None, "{odd", "B", None, None), "Sponsor changed: {odd → B"),
    ],
)
def test_events_in_words(event: Event, said: str) -> None:
    """An event is one sentence: codes by their labels, dates with the days they moved, of outcomes what differs."""
    assert event_in_words(event) == said
