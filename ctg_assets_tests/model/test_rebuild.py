"""From studies to rows and back: what a study's rows tell is the study, for any study."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.model.fields import enum_values, leaf_paths, nodes_by_path
from ctg_assets.model.flatten import flatten
from ctg_assets.model.tables import Table, readings, staging_tables
from ctg_assets.model.tables.column_values import Parent
from ctg_assets.model.tables.declaration import Source, enclosing_lists
from ctg_assets.model.tables.readings import Read
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.simulator.generate import study_json
from ctg_assets.snapshot.parsing import parse_studies
from ctg_assets_tests.model.rebuilding import RebuildError, rebuild, rebuilt_paths
from ctg_assets_tests.model.snapshots import typed_rows
from ctg_assets_tests.model.wild import Study, wild_study
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.postgres import build, query

pytestmark = pytest.mark.slow

VERSION = "derivedSection.miscInfoModule.versionHolder"
_BATCH = 1200

# Few examples of many studies, since flattening costs much the same for one study and for a hundred;
# not shrunk, since the failure names the study at fault.
_FEW = settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def _expected(study: Study) -> Study:
    """What the rows of a study tell of it, as `rebuild` promises: found by walking it."""
    return _kept(study, "") or {}


def _kept(value: Any, path: str) -> Any:
    match value:
        case dict():
            below = {
                key: _kept(one, _path_below(path, key))
                for key, one in value.items()
                if _is_known(path, key)
            }
            return {key: one for key, one in below.items() if one is not None} or None
        case list():
            if path.endswith(".denoms[]"):
                value = [
                    one
                    for one in value
                    if one and any(c is not None for c in one.get("counts") or [])
                ]
            return [one for item in value if (one := _kept(item, path)) is not None] or None
        case str():
            return value.replace("\0", "\ufffd")
        case _:
            return value


def _path_below(path: str, key: str) -> str:
    below = f"{path}.{key}" if path else key
    return below if below in nodes_by_path() else f"{below}[]"


def _is_known(path: str, key: str) -> bool:
    if path in nodes_by_path() and nodes_by_path()[path].is_leaf:
        return True  # the parts of a GeoPoint
    return _path_below(path, key) in nodes_by_path() and _path_below(path, key) != VERSION


def _assert_round_trip(studies: Sequence[bytes]) -> None:
    rows = flatten(typed_rows(studies))
    rebuilt = dict(rebuild(rows))
    assert len(rebuilt) == len(studies)
    for content in studies:
        study = json.loads(content)
        nct_id = study["protocolSection"]["identificationModule"]["nctId"]
        assert rebuilt[nct_id] == _expected(study), nct_id


def test_every_field_can_be_rebuilt() -> None:
    """All leaf fields of the registry have a way back, but for the one that moves every day."""
    assert set(rebuilt_paths(staging_tables())) == set(leaf_paths()) - {VERSION}


def test_fields_without_rows_of_their_own() -> None:
    """Only the units of denominators hang on rows of smaller items: those of their counts."""
    copies = {
        path
        for path, source in rebuilt_paths(staging_tables()).items()
        if path.removesuffix("[]").count("[]")
        < source.removesuffix("[]").count("[]") + source.endswith("[]")
        and path != source
    }
    assert {path.partition("denoms[]")[2] for path in copies} == {".units"}


def _as_sent(table: Table, source: Source) -> dict[str, str]:
    """The columns that hold a field as sent, with the field's path."""
    found = {}
    for item in table.fields:
        match item.value:
            case Read(relative, readings.as_sent, _, None):
                path = source.resolve(relative)
                if path is not None:
                    found[item.name] = path
            case _:
                pass
    return found


def _copied(path: str, table: Table, source: Source) -> tuple[str, str, str, str] | None:
    """Where a field of an enclosing item, or the study, has a column in that item's own row.

    As the column that refers to the row, the row's table, its key and the column; None without such.
    """
    holder = enclosing_lists(path.removesuffix("[]"))[-1]
    references = {
        item.value.table: item.name for item in table.fields if isinstance(item.value, Parent)
    }
    for other in staging_tables():
        for one in other.sources:
            columns = {of: name for name, of in _as_sent(other, one).items()}
            if path not in columns or one.list_path != holder or other is table:
                continue
            if holder == "":
                return "nct_id", other.name, "nct_id", columns[path]
            if other.name in references:
                return references[other.name], other.name, "id", columns[path]
    return None


def test_copies_agree_with_what_they_copy() -> None:
    """A column that repeats a field of an enclosing item has the value of that item's own row."""
    rows = flatten(
        typed_rows(json.dumps(wild_study(17, number)).encode() for number in range(1, 60))
    )
    compared, alone = set(), set()
    for table in staging_tables():
        for source in table.sources:
            own = rows[table.name]
            for constant, value in source.constants.items():
                own = own.filter(pc.equal(own[constant], value))
            for name, path in _as_sent(table, source).items():
                if enclosing_lists(path.removesuffix("[]"))[-1] == source.list_path or (
                    path == source.path
                ):
                    continue
                copied = _copied(path, table, source)
                if copied is None:
                    alone.add(path)
                    continue
                reference, parent, key, column = copied
                keys, values = (rows[parent][one].to_pylist() for one in (key, column))
                of_row = dict(zip(keys, values, strict=True))
                assert own[name].to_pylist() == [of_row[one] for one in own[reference].to_pylist()]
                compared.add((table.name, name))
    assert len(compared) >= 10
    assert {path.partition("denoms[]")[2] for path in alone} == {".units"}


def test_values_joined_hold_no_separator() -> None:
    """Lists joined into one text are lists of enumerated values, none of which has the separator."""
    joined = {
        nodes_by_path()[path]
        for table in staging_tables()
        for item in table.fields
        if isinstance(item.value, Read) and item.value.reading is readings.joined
        for path in table.source_paths(item.value.path)
    }
    assert joined
    for node in joined:
        assert not any("/" in one.value for one in enum_values()[node.base_type])


@given(st.integers(0, 2**32), st.integers(0, 599_000), st.integers(0, 3))
@_FEW
def test_generated_studies_come_back(seed: int, first: int, revision: int) -> None:
    """Whatever is generated is rebuilt from its rows."""
    _assert_round_trip([study_json(seed, first + index, revision) for index in range(25)])


@given(
    st.integers(0, 2**32),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5),
)
@_FEW
def test_wild_studies_come_back(seed: int, texts: list[str]) -> None:
    """Whatever shape the field tree allows, with whatever text, is rebuilt from its rows."""
    studies = [wild_study(seed, number, tuple(texts)) for number in range(1, 13)]
    _assert_round_trip([json.dumps(study).encode() for study in studies])


@pytest.mark.soak
def test_real_studies_come_back() -> None:
    """Every recorded study that can be typed is rebuilt from its rows; but in a soak, a part of them."""
    lines = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    accepted = [lines[index] for index in parse_studies(lines).accepted]
    assert len(accepted) == len(lines) - 1
    accepted = accepted[:: round(len(accepted) / times(400, len(accepted)))]
    for start in range(0, len(accepted), _BATCH):
        _assert_round_trip(accepted[start : start + _BATCH])


def test_older_versions_of_real_studies_come_back() -> None:
    """Every older content of a recorded study, one at a time where ids repeat, is rebuilt from its rows."""
    lines = gzip.decompress(shared_path("ctg/versions.jsonl.gz").read_bytes()).splitlines()
    versions: dict[str, list[bytes]] = {}
    for line in lines:
        version = json.loads(line)
        versions.setdefault(version["nctId"], []).append(json.dumps(version["study"]).encode())
    while versions:
        _assert_round_trip([one.pop() for one in versions.values()])
        versions = {nct_id: left for nct_id, left in versions.items() if left}


def test_order_of_rows_does_not_matter() -> None:
    """Rows read back in any order give the same studies."""
    rows = flatten(
        typed_rows([json.dumps(wild_study(5, number)).encode() for number in range(1, 30)])
    )
    backwards = {
        name: table.take(list(range(table.num_rows))[::-1]) for name, table in rows.items()
    }
    assert dict(rebuild(backwards)) == dict(rebuild(rows))


def test_studies_come_back_from_postgres(address: PostgresAddress) -> None:
    """What is loaded, indexed and read back with SQL is still the studies."""
    studies = [wild_study(11, number) for number in range(1, 40)]
    contents = [json.dumps(study).encode() for study in studies]
    contents += [study_json(3, index) for index in range(40)]
    shapes = [table.shape for table in staging_tables()]
    load_tables(
        LoadRequest(address, shapes, build=build(tables=[shape.name for shape in shapes])),
        [flatten(typed_rows(contents))],
    )
    rows = {}
    for shape in shapes:
        names = shape.arrow_schema.names
        listed = ", ".join(f'"{name}"' for name in names)
        found = query(address, f"SELECT {listed} FROM staging.{shape.name}")
        read = [dict(zip(names, row, strict=True)) for row in found]
        rows[shape.name] = pa.Table.from_pylist(read, schema=shape.arrow_schema)
    rebuilt = dict(rebuild(rows))
    expected = [_expected(json.loads(content)) for content in contents]
    assert list(rebuilt.values()) == sorted(
        expected,
        key=lambda one: list(rebuilt).index(
            one["protocolSection"]["identificationModule"]["nctId"]
        ),
    )


def test_a_table_left_out_is_named() -> None:
    """Without one of the tables a study is not rebuilt in part, but refused."""
    rows = flatten(typed_rows([study_json(1, 1)]))
    del rows["conditions"]
    with pytest.raises(RebuildError, match=r"without their rows in \['conditions'\]"):
        list(rebuild(rows))


def test_a_missing_parent_is_named() -> None:
    """A row that lies in one that is not there is named with its table and reference."""
    study = {
        "protocolSection": {
            "identificationModule": {"nctId": "NCT00000001"},
            "armsInterventionsModule": {"interventions": [{"otherNames": ["x"]}]},
        }
    }
    rows = flatten(typed_rows([json.dumps(study).encode()]))
    rows["interventions"] = rows["interventions"].slice(1)
    with pytest.raises(
        RebuildError, match="'intervention_other_names' lie in rows of 'interventions'"
    ):
        list(rebuild(rows))
