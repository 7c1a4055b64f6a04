"""Single odd studies and what they used to stop: the cases 01, 02, 06, 09 and 10 of `../shared/cases`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.import_file import import_file
from ctg_assets.history.missing_studies import explain_missing
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.in_memory import numbered_studies
from ctg_assets_tests.support.lakes import json_of
from ctg_assets_tests.support.odd_registry import OddRegistry, running
from ctg_assets_tests.support.postgres import query
from ctg_assets_tests.support.registries import client_of


def _imported(lake: Lake, folder: Path, day: int, lines: Sequence[bytes]) -> SnapshotManifest:
    path = folder / f"{day}.jsonl"
    path.write_bytes(b"\n".join(lines))
    at = datetime(2025, 1, day, tzinfo=UTC)
    return Compactor(lake.storage, lake.scratch).compact(
        import_file(lake, path, page_size=20, data_timestamp=at).extraction_id
    )


def _quarantined(lake: Lake, manifest: SnapshotManifest) -> dict[str | None, str]:
    rows = lake.snapshots.quarantine(manifest.snapshot_id).select(["nct_id", "reason"])
    return {row["nct_id"]: row["reason"] for row in rows.to_pylist()}


_WITHOUT_ID = {
    "metadata": b'{"exportedAt": "2020-01-01"}',
    "number nought": b'{"protocolSection":{"identificationModule":{"nctId":"NCT00000000"}}}',
    "of another form": b'{"protocolSection":{"identificationModule":{"nctId":"ISRCTN1"}}}',
    "shorter": b'{"protocolSection":{"identificationModule":{"nctId":"NCT123"}}}',
    "with a surrogate": rb'{"protocolSection":{"identificationModule":{"nctId":"NCT0000001\ud83d"}}}',
    "undecodable": b'{"protocolSection":{"identificationModule": tru}}',
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", _WITHOUT_ID)
def test_what_has_no_id_is_never_asked_for(
    simulator: RunningSimulator, settings: Settings, lake: Lake, tmp_path: Path, kind: str
) -> None:
    """A record of a file that no registry can have is gone after a whole walk, which is recorded (01)."""
    simulator.advance(numbered_studies(60))
    manifest = _imported(lake, tmp_path, 1, [_WITHOUT_ID[kind], *json_of(*range(1, 61), 99)])
    assert (manifest.studies, manifest.quarantined) == (61, 1)
    asking = settings.model_copy(update={"api_url": simulator.api_url})
    for expected in ({"delete": 2}, {}):
        with client_of(simulator.api_url) as client:
            crawler = Crawler(client, lake.extractions, lake.shards)
            plan = crawler.plan(query="", page_size=50)
            list(crawler.walk(plan, 10))
        entry = Recorder(lake.storage, lake.scratch).record(
            plan.extraction_id, explain=explain_missing(asking, query="")
        )
        assert entry.complete
        found = {kind: number for kind, number in entry.changes.items() if kind != "update"}
        assert found == expected
        manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
        assert (manifest.studies, manifest.quarantined) == (60, 0)


def test_an_answer_that_cannot_be_read_ends_nothing(settings: Settings) -> None:
    """Of three studies asked for, one answered in broken JSON is still there, another removed."""
    with running(OddRegistry()) as registry:
        registry.studies = {
            "NCT00000001": json_of(1)[0],
            "NCT00000002": rb'{"protocolSection":{"identificationModule":{"nctId":"\ud83d"}}}',
        }
        asking = settings.model_copy(
            update={"api_url": registry.api_url, "requests_per_minute": 100_000}
        )
        asked = [f"NCT0000000{digit}" for digit in range(4)] + ["?87ca87ca87ca87ca", "NCT1"]
        reasons = explain_missing(asking, query="")(asked)
    assert {nct_id: reason.kind for nct_id, reason in reasons.items()} == {
        "NCT00000001": None,
        "NCT00000002": None,
    }


def _with_nul(number: int, *, nul: bool) -> bytes:
    mark = "\0" if nul else ""
    content = json.loads(json_of(number)[0])
    protocol = content["protocolSection"]
    protocol["identificationModule"]["orgStudyIdInfo"] = {"id": f"o{mark}"}
    protocol["sponsorCollaboratorsModule"] = {
        "leadSponsor": {"name": f"Sponsor{mark}"},
        "collaborators": [{"name": f"Other{mark}"}],
    }
    protocol["outcomesModule"] = {"primaryOutcomes": [{"measure": f"M{mark}", "timeFrame": "1"}]}
    protocol["contactsLocationsModule"] = {
        "locations": [{"facility": f"Site{mark}", "city": "Ulm", "status": "RECRUITING"}]
    }
    protocol[f"novel{mark}"] = {f"key{mark}": f"value{mark}"}
    protocol["statusModule"]["overallStatus"] = f"RECRUITING{mark}"
    protocol["statusModule"]["whyStopped"] = f"why{mark}"
    return json.dumps(content).encode()


def test_no_table_holds_u0000(lake: Lake, address: PostgresAddress, tmp_path: Path) -> None:
    """U+0000 is U+FFFD in every table, history tables included, at first, changed and changed back (02)."""
    for day, nul in enumerate((False, True, False, True), start=1):
        manifest = _imported(lake, tmp_path, day, [_with_nul(1, nul=nul), *json_of(2)])
        load_staging(address, lake, manifest)
        [(name,)] = query(
            address, "SELECT name FROM staging.sponsors WHERE lead_or_collaborator = 'lead'"
        )
        assert name == ("Sponsor\ufffd" if nul else "Sponsor")
    marked = query(
        address,
        "SELECT count(*) FROM staging.study_field_changes "
        "WHERE concat(item, path, old_value, new_value) LIKE '%\ufffd%'",
    )
    assert marked[0][0] > 0
    events = query(
        address, "SELECT count(*) FROM staging.study_events WHERE new_value LIKE '%\ufffd%'"
    )
    assert events[0][0] > 0
    again = load_staging(address, lake, manifest)
    assert again.rows["studies"] == 2


def _case(name: str) -> list[bytes]:
    return shared_path(f"cases/{name}.jsonl").read_bytes().splitlines()


def test_one_undecodable_study_is_set_aside_alone(lake: Lake, tmp_path: Path) -> None:
    """The study with the unpaired surrogate is in quarantine under its id, the other is taken (06)."""
    manifest = _imported(lake, tmp_path, 1, _case("06-lone-surrogate"))
    reasons = _quarantined(lake, manifest)
    assert manifest.studies == 1
    assert list(reasons) == ["NCT09820002"]
    field = "protocolSection.identificationModule.briefTitle: expected text without unpaired"
    assert reasons["NCT09820002"].startswith(field)


def test_a_number_out_of_range_does_not_lose_the_id(
    lake: Lake, address: PostgresAddress, tmp_path: Path
) -> None:
    """The study is quarantined under its id, and its old content is overtaken (09)."""
    [odd] = _case("09-number-out-of-range-loses-id")
    load_staging(address, lake, _imported(lake, tmp_path, 1, [odd.replace(b"1E400", b"14")]))
    assert query(address, "SELECT count(*) FROM staging.studies") == [(1,)]
    manifest = _imported(lake, tmp_path, 2, [odd])
    load_staging(address, lake, manifest)
    assert query(address, "SELECT count(*) FROM staging.studies") == [(0,)]
    assert query(address, "SELECT ended_by FROM staging.study_versions WHERE NOT is_current") == [
        ("update",)
    ]
    [(nct_id, reason)] = _quarantined(lake, manifest).items()
    assert nct_id is not None
    assert nct_id.startswith("NCT")
    assert reason.startswith("protocolSection.designModule.enrollmentInfo.count: expected a number")
    assert "out of range" in reason


def test_whole_numbers_with_a_point(lake: Lake, address: PostgresAddress, tmp_path: Path) -> None:
    """12.0 and 1e3 are 12 and 1000 in the tables (10)."""
    manifest = _imported(lake, tmp_path, 1, _case("10-whole-number-with-point"))
    load_staging(address, lake, manifest)
    counts = query(address, "SELECT enrollment FROM staging.studies ORDER BY 1")
    assert counts == [(12,), (1000,)]
    assert manifest.quarantined == 0


def test_the_hash_of_an_odd_study_does_not_move_with_the_registrys_day(lake: Lake) -> None:
    """A study that nobody decodes is not new each day because its version holder is."""
    from ctg_assets.model.identity import identify  # noqa: PLC0415

    spelled = (
        '{"protocolSection":{"identificationModule":{"nctId":"NCT01234567","briefTitle":%s}},'
        '"derivedSection":{"miscInfoModule":{"versionHolder":"2026-11-%s"}}}'
    )
    title = r'"\ud83d"'
    one, two, other = (
        identify((spelled % each).encode())
        for each in ((title, "20"), (title, "21"), (r'"\ud83e"', "20"))
    )
    assert one == two
    assert one.nct_id == "NCT01234567"
    assert one.content_hash != other.content_hash
