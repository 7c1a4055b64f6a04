"""A registry in motion: what it serves is what its log tells, and its log is the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.model.identity import identify
from ctg_assets.simulator.churn import Churn, Round, first_timestamp
from ctg_assets.simulator.churn_acts import TAKEN_BACK, Act, ChurnError, ChurnRates
from ctg_assets.simulator.churn_log import ActKind, ActRecord, content_hash
from ctg_assets.simulator.source import FileSource, GeneratedSource, StudySource
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.churn_logs import hashes_after, read_churn_log
from ctg_assets_tests.simulator.churning import content_hashes, moving_registry
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, numbered_studies, study
from ctg_assets_tests.simulator.walking import nct_ids, pages

pytestmark = pytest.mark.slow

_STUDIES = 60
_BUSY = ChurnRates(touched=0.2, empty=0.1)


def busy_churn(seed: int, log: Path | None = None) -> Churn:
    """A churn of a few generated studies in which much happens."""
    return Churn(GeneratedSource(_STUDIES, 1), seed, rates=_BUSY, log=log)


def title_of(source: StudySource, wanted: str) -> str:
    """The brief title of a study."""
    index = source.index_of(wanted)
    assert index is not None
    content = msgspec.json.decode(source.raw(index))
    return str(content["protocolSection"]["identificationModule"]["briefTitle"])


def posted_on(source: StudySource, wanted: str) -> str:
    """The day on which a study's latest change was posted."""
    index = source.index_of(wanted)
    assert index is not None
    return source.last_update_post_date(index)


def known_acts(done: Round) -> list[tuple[str, str]]:
    """What a round did to which study."""
    return [(record.act, record.nct_id) for record in done.records]


@pytest.mark.parametrize("seed", range(2))
def test_what_is_served_is_what_the_log_tells(tmp_path: Path, seed: int) -> None:
    """After each of many rounds the studies' hashes follow from the first ones and the log, and dates too."""
    log = tmp_path / "churn.jsonl"
    churn = busy_churn(seed, log)
    beginning = content_hashes(churn.source)
    for number in range(1, 21):
        former = churn.source
        done = churn.advance()
        assert (done.number, done.source) == (number, churn.source)
        assert content_hashes(done.source) == hashes_after(beginning, read_churn_log(log))
        today = f"{done.timestamp:%Y-%m-%d}"
        for record in done.records:
            assert record.content_hash_before != record.content_hash_after
            if record.act in {ActKind.INSERT, ActKind.UPDATE}:
                assert posted_on(done.source, record.nct_id) == today
            elif record.act is ActKind.SILENT_EDIT:
                assert posted_on(done.source, record.nct_id) == posted_on(former, record.nct_id)
    records = read_churn_log(log)
    assert {record.act for record in records} == set(ActKind)
    assert hashes_after(beginning, records, through=0) == beginning


def test_the_same_seed_makes_the_same_rounds(tmp_path: Path) -> None:
    """Two churns of one seed write the same log, byte for byte; one of another seed does not."""
    logs = [tmp_path / name for name in ("one", "same", "other")]
    for log, seed in zip(logs, (5, 5, 6), strict=True):
        churn = busy_churn(seed, log)
        for _ in range(10):
            churn.advance()
    one, same, other = (log.read_bytes() for log in logs)
    assert one == same != other


def test_every_round_is_a_day_and_some_are_empty() -> None:
    """The data timestamp moves a day a round, whether anything happened or not."""
    churn = busy_churn(2)
    first = churn.timestamp
    rounds = [churn.advance() for _ in range(40)]
    assert [(done.timestamp - first).days for done in rounds] == list(range(1, 41))
    assert 0 < sum(not done.records for done in rounds) < 20
    touched = sum(len(done.records) for done in rounds) / (40 * _STUDIES)
    assert 0.1 < touched < 0.3


def test_an_empty_round_moves_nothing_but_the_day() -> None:
    """A round planned without acts changes every study's `versionHolder` and nothing else."""
    churn = busy_churn(1)
    before = content_hashes(churn.source)
    churn.plan()
    done = churn.advance()
    assert done.records == ()
    assert content_hashes(done.source) == before
    assert all(b'"versionHolder":"2026-03-03"' in done.source.raw(at) for at in range(_STUDIES))


def test_planned_acts_are_done_in_their_order() -> None:
    """A plan holds for one round, in which nothing else happens; the next one is drawn again."""
    churn = Churn(numbered_studies(20), 1, rates=ChurnRates(empty=0))
    new = msgspec.json.encode(study(50, posted="2026-03-14"))
    churn.plan(
        Act(ActKind.INSERT, study=new),
        Act(ActKind.UPDATE, nct_id(1), edits=("condition_added", "title_reworded")),
        Act(ActKind.UPDATE, nct_id(2), study=msgspec.json.encode(study(2, title="Given"))),
        Act(ActKind.SILENT_EDIT, nct_id(3)),
        Act(ActKind.DELETE, nct_id(4)),
        Act(ActKind.MERGE, nct_id(5), into=nct_id(6)),
    )
    done = churn.advance()
    assert known_acts(done) == [
        ("insert", nct_id(50)),
        ("update", nct_id(1)),
        ("update", nct_id(2)),
        ("silent_edit", nct_id(3)),
        ("delete", nct_id(4)),
        ("merge", nct_id(5)),
        ("update", nct_id(6)),
    ]
    assert done.records[5].into == nct_id(6)
    assert done.records[6].edits == ("alias_added",)
    assert title_of(done.source, nct_id(2)) == "Given"
    assert posted_on(done.source, nct_id(6)) == "2026-03-03"
    assert done.source.alias_target(nct_id(5)) == nct_id(6)
    assert churn.advance().records


def test_restored_studies_come_back() -> None:
    """A deleted study comes back as it was, changed, or with given content."""
    churn = Churn(numbered_studies(20), 1)
    before = content_hashes(churn.source)
    churn.plan(*(Act(ActKind.DELETE, nct_id(number)) for number in (1, 2, 3)))
    assert len(churn.advance().source) == 17
    churn.plan(
        Act(ActKind.RESTORE, nct_id(1)),
        Act(ActKind.RESTORE, nct_id(2), edits=("title_reworded",)),
        Act(ActKind.RESTORE, study=msgspec.json.encode(study(3, title="Given"))),
    )
    done = churn.advance()
    assert [record.content_hash_before for record in done.records] == [None] * 3
    assert done.records[0].content_hash_after == before[nct_id(1)]
    assert posted_on(done.source, nct_id(1)) == "2024-01-01"
    assert posted_on(done.source, nct_id(2)) == "2026-03-04"
    assert title_of(done.source, nct_id(3)) == "Given"
    assert known_acts(done)[2] == ("restore", nct_id(3))


def test_merged_studies_leave_all_their_ids_to_the_survivor() -> None:
    """A study that others were merged into passes their ids on when it is merged itself, silently or not."""
    churn = Churn(InMemorySource([study(1, aliases=[nct_id(90)]), study(2), study(3)]), 1)
    churn.plan(Act(ActKind.MERGE, nct_id(1), into=nct_id(2)))
    churn.advance()
    churn.plan(Act(ActKind.MERGE, nct_id(2), into=nct_id(3), silent=True))
    done = churn.advance()
    assert known_acts(done) == [("merge", nct_id(2)), ("silent_edit", nct_id(3))]
    assert posted_on(done.source, nct_id(3)) == "2024-01-01"
    targets = [done.source.alias_target(nct_id(number)) for number in (90, 1, 2)]
    assert targets == [nct_id(3)] * 3
    assert len(done.source) == 1


def test_a_silent_edit_can_be_taken_back() -> None:
    """A silent edit taken back brings back the former content, which is then seen a second time."""
    churn = Churn(numbered_studies(20), 1)
    before = content_hashes(churn.source)
    churn.plan(Act(ActKind.SILENT_EDIT, nct_id(1)))
    assert content_hashes(churn.advance().source) != before
    churn.plan(Act(ActKind.SILENT_EDIT, nct_id(1), edits=(TAKEN_BACK,)))
    assert content_hashes(churn.advance().source) == before


@pytest.mark.parametrize(
    ("acts", "message"),
    [
        ([Act(ActKind.DELETE, nct_id(99))], "there is no study NCT00000099"),
        (
            [Act(ActKind.DELETE, nct_id(1)), Act(ActKind.UPDATE, nct_id(1))],
            "touched twice in round",
        ),
        ([Act(ActKind.MERGE, nct_id(1), into=nct_id(1))], "touched twice in round"),
        ([Act(ActKind.RESTORE, nct_id(1))], "NCT00000001 cannot be restored"),
        ([Act(ActKind.RESTORE)], "no deleted study is left to restore in round 1"),
        ([Act(ActKind.INSERT, study=msgspec.json.encode(study(1)))], "there is, or was, such"),
        ([Act(ActKind.INSERT, nct_id(9), study=msgspec.json.encode(study(8)))], "content of NCT0"),
        ([Act(ActKind.INSERT, study=b"{}")], "a study without NCT id"),
        ([Act(ActKind.UPDATE, nct_id(1), study=msgspec.json.encode(study(2)))], "content of NCT0"),
        ([Act(ActKind.UPDATE, nct_id(1), edits=("magic",))], "NCT00000001: no edit 'magic'"),
        ([Act(ActKind.UPDATE, nct_id(1), edits=("site_removed",))], "not possible on this study"),
        ([Act(ActKind.SILENT_EDIT, nct_id(1), edits=(TAKEN_BACK,))], "no silent edit to take back"),
        ([Act(ActKind.DELETE)] * 4, "none of 3 studies is left"),
    ],
)
def test_acts_that_cannot_be_done_are_refused(
    tmp_path: Path, acts: list[Act], message: str
) -> None:
    """An impossible act is refused with the study and the reason; the whole round has not happened."""
    log = tmp_path / "churn.jsonl"
    churn = Churn(numbered_studies(3), 1, log=log)
    before = content_hashes(churn.source)
    churn.plan(Act(ActKind.INSERT), *acts)
    with pytest.raises(ChurnError, match=message):
        churn.advance()
    assert (churn.round, content_hashes(churn.source), log.read_bytes()) == (0, before, b"")
    assert churn.advance().number == 1


@pytest.mark.parametrize("studies", range(4))
def test_tiny_registries_are_never_emptied(studies: int) -> None:
    """With hardly a study there, rounds insert, and neither fail nor take the last ones away."""
    churn = Churn(GeneratedSource(studies, 1), 1, rates=ChurnRates(touched=1, empty=0))
    for _ in range(30):
        done = churn.advance()
    assert len(done.source) > 3


def test_rates_that_make_no_sense_are_refused() -> None:
    """Shares outside 0 to 1, and weights that are all zero, are refused."""
    with pytest.raises(ValueError, match=r"touched: expected a share from 0 to 1, not 2"):
        ChurnRates(touched=2)
    with pytest.raises(ValueError, match=r"empty: expected a share from 0 to 1, not -1"):
        ChurnRates(empty=-1)
    with pytest.raises(ValueError, match="positive weight"):
        ChurnRates(shares={ActKind.UPDATE: 0})


def test_kinds_can_be_chosen() -> None:
    """Kinds of acts without weight do not happen."""
    rates = ChurnRates(touched=0.5, empty=0, shares={ActKind.SILENT_EDIT: 1})
    done = Churn(GeneratedSource(30, 1), 1, rates=rates).advance()
    assert {record.act for record in done.records} == {ActKind.SILENT_EDIT}


def test_a_log_that_does_not_follow_is_refused() -> None:
    """Records that begin with another content than the study has are named."""
    record = ActRecord(
        round=3,
        data_timestamp="2026-03-05T09:00:05",
        act=ActKind.DELETE,
        nct_id=nct_id(1),
        content_hash_before="aa",
    )
    with pytest.raises(ValueError, match="round 3: delete of NCT00000001 begins with content aa"):
        hashes_after({nct_id(1): "bb"}, [record])


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda items: st.lists(items) | st.dictionaries(st.text(), items),
    max_leaves=8,
)


@given(
    content=st.dictionaries(st.text(), _JSON),
    derived=st.none()
    | _JSON
    | st.fixed_dictionaries(
        {"miscInfoModule": _JSON | st.fixed_dictionaries({"versionHolder": _JSON})}
    ),
)
def test_the_log_hashes_as_the_product_does(content: dict[str, object], derived: object) -> None:
    """The simulator's own hash is the one by which the product tells contents apart, whatever they are."""
    study = msgspec.json.encode({**content, "derivedSection": derived})
    assert content_hash(study) == identify(study).content_hash


def test_real_studies_can_be_churned(tmp_path: Path) -> None:
    """Real studies of every shape are changed by every kind of act; the data begin with their latest date."""
    real = shared_path("ctg/studies.jsonl.gz")
    source = FileSource(real)
    assert first_timestamp(source).isoformat() == "2026-03-13T09:00:05"
    log = tmp_path / "churn.jsonl"
    churn = Churn(source, 1, rates=ChurnRates(touched=0.05), log=log)
    beginning = content_hashes(source)
    for _ in range(4):
        churn.advance()
    assert content_hashes(churn.source) == hashes_after(beginning, read_churn_log(log))
    assert Counter(record.act for record in read_churn_log(log)).keys() == set(ActKind)


def test_requests_see_the_churned_studies() -> None:
    """Date ranges, ids, obsolete ids, a census and single studies answer from the newest round."""
    with moving_registry(busy_churn(4)) as registry:
        simulator, churn = registry.simulator, registry.churn
        source = churn.source
        updated, merged, survivor, gone = (source.nct_id(at) for at in range(4))
        churn.plan(
            Act(ActKind.UPDATE, updated),
            Act(ActKind.MERGE, merged, into=survivor),
            Act(ActKind.DELETE, gone),
            Act(ActKind.INSERT),
        )
        simulator.advance()
        source = churn.source
        new = source.nct_id(len(source) - 1)
        with httpx.Client(base_url=simulator.api_url) as client:
            since = {"filter.advanced": "AREA[LastUpdatePostDate]RANGE[2026-03-03,MAX]"}
            page = client.get("/studies", params=since).json()
            assert sorted(nct_ids(page)) == sorted([updated, survivor, new])
            asked = {"filter.ids": f"{merged}|{gone}|{updated}"}
            assert set(nct_ids(client.get("/studies", params=asked).json())) == {survivor, updated}
            assert client.get(f"/studies/{gone}").status_code == 404
            moved = client.get(f"/studies/{merged}")
            assert (moved.status_code, moved.headers["location"][-11:]) == (301, survivor)
            census = {"fields": "NCTId,LastUpdatePostDate", "pageSize": "7"}
            seen = {
                found["identificationModule"]["nctId"]: found["statusModule"]
                for page in pages(client, **census)
                for found in (item["protocolSection"] for item in page["studies"])
            }
        assert seen == {
            source.nct_id(at): {
                "lastUpdatePostDateStruct": {"date": source.last_update_post_date(at)}
            }
            for at in range(len(source))
        }


def test_a_walk_ends_when_a_round_happens() -> None:
    """Page tokens from before a round are refused after it, so that no walk mixes two rounds."""
    with (
        moving_registry(busy_churn(4)) as registry,
        httpx.Client(base_url=registry.simulator.api_url) as client,
    ):
        walk = pages(client, pageSize=10)
        next(walk)
        registry.churn.plan()
        registry.simulator.advance()
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            next(walk)


def test_studies_published_past_a_churn_are_refused() -> None:
    """Whoever publishes other studies in between is told that the log would be no truth any more."""
    with moving_registry(busy_churn(4)) as registry:
        registry.simulator.advance(numbered_studies(3))
        with pytest.raises(ChurnError, match="publish no other studies in between"):
            registry.simulator.advance()
