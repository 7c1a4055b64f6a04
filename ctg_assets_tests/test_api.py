"""`import ctg_assets` for people in notebooks, against the JSON that went in."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import ctg_assets
from ctg_assets import api
from ctg_assets.extract.import_file import import_file
from ctg_assets.lake import open_lake
from ctg_assets.load.as_of import NothingObservedError
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.settings import load_settings
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.times import ImpossibleTimeError
from ctg_assets_tests.model.row_counter import count_rows
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.lakes import completed, planned

FIRST, SECOND = "2026-11-10T09:00:05", "2026-11-12T09:00:05"
STUDIES = 30
# Of the recorded ones; the whole file goes to a database in whole_way/test_real_studies.py.
_REAL = 150

_HEAVY = ("dagster", "dbt", "polars", "pyarrow", "pydantic")


def _study(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw)
    return found


def _nct_id(raw: bytes) -> str:
    return str(_study(raw)["protocolSection"]["identificationModule"]["nctId"])


def _titled(raw: bytes, title: str) -> bytes:
    study = _study(raw)
    study["protocolSection"]["identificationModule"]["briefTitle"] = title
    return json.dumps(study).encode()


def _conditions(studies: Sequence[bytes]) -> list[tuple[str, str]]:
    """The condition lists of studies, as the registry sent them."""
    return [
        (_nct_id(raw), condition)
        for raw in sorted(studies, key=_nct_id)
        for condition in _study(raw)["protocolSection"]["conditionsModule"].get("conditions", [])
    ]


def _named(table: pa.Table) -> list[tuple[str, str]]:
    """The rows of table `conditions` by study, those of a study in the table's order."""
    pairs = zip(table["nct_id"].to_pylist(), table["name"].to_pylist(), strict=True)
    return sorted(pairs, key=itemgetter(0))


class Observed:
    """A data folder of two walks, and the studies that each saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = GeneratedSource(STUDIES, 5)
        self.first = [source.raw(index) for index in range(STUDIES)]
        # One has another title then, and one is gone.
        self.second = [_titled(self.first[0], "Changed"), *self.first[2:]]
        self.changed, self.gone = _nct_id(self.first[0]), _nct_id(self.first[1])
        settings = load_settings(data_dir=folder, max_shrink_fraction=1)
        lake = open_lake(settings)
        for at, studies in ((FIRST, self.first), (SECOND, self.second)):
            plan = planned(lake, settings, studies=len(studies), data_timestamp=at)
            completed(lake, plan, studies)
            Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The data folder that the tests of this module only read."""
    return Observed(tmp_path_factory.mktemp("observed"))


@pytest.fixture
def registry(observed: Observed) -> Iterator[ctg_assets.DataFolder]:
    """That folder as people open it; nothing in it may change."""
    before = sorted(observed.folder.rglob("*"))
    yield ctg_assets.open(observed.folder)
    assert sorted(observed.folder.rglob("*")) == before


@pytest.mark.process
def test_importing_the_package_is_cheap() -> None:
    """The import alone loads no heavy library, though all names are there; using them, no Dagster and no dbt."""
    code = (
        "import sys, ctg_assets; assert set(ctg_assets.__all__) <= set(dir(ctg_assets)); "
        f"print(*sorted(set({_HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    code = "import sys, ctg_assets; ctg_assets.open; print({'dagster', 'dbt'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_names_are_those_of_the_module_behind_them() -> None:
    """Each name that the package offers is the one documented, and no other is made up."""
    assert ctg_assets.open is api.open_folder
    assert ctg_assets.RefreshError is api.RefreshError
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ctg_assets.nonsense  # noqa: B018 - asking for it is the test


def test_studies_are_nested_as_sent(observed: Observed, registry: ctg_assets.DataFolder) -> None:
    """The current studies have the titles last sent, in the registry's own nesting."""
    table = registry.studies()
    assert {
        row["nct_id"]: row["protocolSection"]["identificationModule"]["briefTitle"]
        for row in table.to_pylist()
    } == {
        _nct_id(raw): _study(raw)["protocolSection"]["identificationModule"]["briefTitle"]
        for raw in observed.second
    }


def test_only_the_columns_asked_for_are_read(registry: ctg_assets.DataFolder) -> None:
    """A dotted path brings its leaf and what encloses it; one that does not exist names the nearest."""
    path = "protocolSection.statusModule.overallStatus"
    table = registry.studies([path])
    assert table.num_rows == STUDIES - 1
    assert set(table.to_pylist()[0]["protocolSection"]["statusModule"]) == {"overallStatus"}
    with pytest.raises(
        ctg_assets.UnknownNameError, match=r"nearest are .*statusModule.overallStatus"
    ):
        registry.studies(["protocolSection.statusModule.overalStatus"])
    with pytest.raises(ctg_assets.UnknownNameError, match=r"no column 'nct_id\.deeper'"):
        registry.studies(["nct_id.deeper"])


def test_a_flat_table_has_a_row_for_each_item_sent(
    observed: Observed, registry: ctg_assets.DataFolder
) -> None:
    """Conditions are those in the studies' JSON, in its order, and the batches are the same rows."""
    expected = _conditions(observed.second)
    table = registry.table("conditions")
    assert _named(table) == expected
    assert pa.concat_tables(registry.batches("conditions")) == table


@pytest.mark.slow
def test_every_table_can_be_read(registry: ctg_assets.DataFolder) -> None:
    """Each name in `tables` gives a table with the columns that the dictionary has."""
    assert registry.tables == [shape.name for shape in staging_shapes()]
    for shape in staging_shapes():
        assert registry.table(shape.name).schema == shape.arrow_schema, shape.name


def test_an_unknown_table_names_the_nearest(registry: ctg_assets.DataFolder) -> None:
    """A slip of the pen is told at once, also where batches are asked for."""
    with pytest.raises(
        ctg_assets.UnknownNameError, match=r"no table 'condition'.*nearest are conditions"
    ):
        registry.table("condition")
    with pytest.raises(ctg_assets.UnknownNameError, match="no table 'xyzzy'; there are"):
        registry.batches("xyzzy")


def test_versions_of_a_study_carry_its_json(
    observed: Observed, registry: ctg_assets.DataFolder
) -> None:
    """A changed study has two versions, each byte for byte as sent; a gone one ended by its removal."""
    rows = registry.versions(observed.changed).to_pylist()
    assert [row["study"] for row in rows] == [observed.first[0], observed.second[0]]
    assert [row["is_current"] for row in rows] == [False, True]
    assert [row["valid_from"].isoformat() for row in rows] == [f"{FIRST}+00:00", f"{SECOND}+00:00"]
    (gone,) = registry.versions(observed.gone).to_pylist()
    assert (gone["study"], gone["is_current"], gone["ended_by"]) == (
        observed.first[1],
        False,
        "delete",
    )
    with pytest.raises(ctg_assets.UnknownNameError, match="NCT99999999"):
        registry.versions("NCT99999999")


def test_changes_can_be_narrowed(observed: Observed, registry: ctg_assets.DataFolder) -> None:
    """By study, by time, and by the number last seen; all of them together without any of these."""
    everything = registry.changes()
    assert everything.num_rows == STUDIES + 2
    later = [
        ("2026-11-12", date(2026, 11, 12)),
        (SECOND, datetime(2026, 11, 12, 9, 0, 5, tzinfo=UTC)),
    ]
    for since in [each for pair in later for each in pair]:
        found = registry.changes(since=since).to_pylist()
        assert {row["nct_id"]: row["kind"] for row in found} == {
            observed.changed: "update",
            observed.gone: "delete",
        }
    assert registry.changes(observed.gone)["kind"].to_pylist() == ["insert", "delete"]
    assert registry.changes(after=STUDIES) == everything.slice(STUDIES)
    assert registry.changes(since="2026-11-13").num_rows == 0
    with pytest.raises(ValueError, match="since: 'yesterday' is no time"):
        registry.changes(since="yesterday")


@pytest.mark.slow
def test_the_past_is_as_it_was(observed: Observed, registry: ctg_assets.DataFolder) -> None:
    """As of the first day, tables and studies are those of the first walk; a day is its end."""
    for at in ("2026-11-10", date(2026, 11, 11), datetime(2026, 11, 12, 9, 0, 4, tzinfo=UTC)):
        past = registry.as_of(at)
        assert _named(past.table("conditions")) == _conditions(observed.first)
        assert past.studies().num_rows == STUDIES
    assert registry.as_of("2026-11-12").table("studies").num_rows == STUDIES - 1
    assert set(registry.tables) - set(past.tables) == {
        "study_versions",
        "study_changes",
        "study_field_changes",
        "study_version_reporting",
        "study_events",
    }
    for name in past.tables:
        assert past.table(name).schema == registry.table(name).schema, name


def test_the_past_has_bounds(registry: ctg_assets.DataFolder) -> None:
    """Before the first observation, in the future, or at no time at all: each is told."""
    with pytest.raises(NothingObservedError, match="first observation is of 2026-11-10"):
        registry.as_of("2026-11-09")
    with pytest.raises(ImpossibleTimeError, match="later than now"):
        registry.as_of("2999-01-01")
    with pytest.raises(ValueError, match="as_of: 'June' is no time"):
        registry.as_of("June")


def test_a_folder_without_data_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is created by looking, and the error names the command."""
    registry = ctg_assets.open(tmp_path / "data")
    reads: list[Callable[[], object]] = [
        registry.studies,
        registry.changes,
        lambda: registry.table("studies"),
    ]
    for read in reads:
        with pytest.raises(ctg_assets.NoDataError, match=r"no studies in .*ctg-assets refresh"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_settings_say_where_a_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the environment tells the folder, and the default is `data`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTG_DATA_DIR", raising=False)
    assert ctg_assets.open().path == tmp_path / "data"
    monkeypatch.setenv("CTG_DATA_DIR", "elsewhere")
    assert ctg_assets.open().path == tmp_path / "elsewhere"
    assert ctg_assets.open("here").path == tmp_path / "here"


@pytest.mark.process
def test_a_refresh_that_fails_raises_what_it_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The registry refuses: the exit code and the message come with the exception, and were printed."""
    with running_simulator(GeneratedSource(1, 1)) as running:
        url = running.api_url.replace("/api/v2", "/nowhere")
        registry = ctg_assets.open(
            tmp_path / "data",
            api_url=url,
            retry_seconds=0,
            requests_per_minute=1000,
            postgres_url="postgresql://nobody@127.0.0.1:9/none",
        )
        with pytest.raises(ctg_assets.RefreshError) as raised:
            registry.refresh()
    assert raised.value.exit_code == 1
    assert "127.0.0.1" in str(raised.value)
    assert "127.0.0.1" in capfd.readouterr().out
    with pytest.raises(ValueError, match="sometimes"):
        registry.refresh(mode="sometimes")


@pytest.mark.slow
def test_real_studies_give_the_rows_that_their_json_has(tmp_path: Path) -> None:
    """Of the recorded studies each flat table has as many rows as counting in the JSON gives."""
    lines = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    studies = [json.loads(line) for line in lines[:_REAL]]
    path = tmp_path / "studies.jsonl"
    path.write_bytes(b"\n".join(lines[:_REAL]))
    settings = load_settings(data_dir=tmp_path)
    lake = open_lake(settings)
    plan = import_file(lake, path, page_size=1000, data_timestamp=datetime(2026, 11, 1, tzinfo=UTC))
    Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    registry = ctg_assets.open(tmp_path)
    typed = set(registry.studies(["nct_id"])["nct_id"].to_pylist())
    assert len(typed) == _REAL
    for name, rows in count_rows(studies).items():
        assert registry.table(name).num_rows == rows, name
