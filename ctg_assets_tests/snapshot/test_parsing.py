"""Studies become typed rows, or are singled out with the reason; unknown fields are counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.fields import FieldNode, field_tree, study_arrow_schema
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot import parsing
from ctg_assets.snapshot.parsing import ParsedStudies, parse_studies
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import json_values, study

GOOD = study("NCT00000001")
MISTYPED = study("NCT00000002", hasResults="no")
MISTYPED_DEEP = study("NCT00000003", title=["not", "text"])


def fitted(value: Any, kind: pa.DataType) -> Any:
    """A JSON value as a row of this type shows it: absent fields None, unknown fields left out."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: fitted(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [fitted(item, kind.value_type) for item in value]
    return float(value) if pa.types.is_floating(kind) else value


def expected_rows(studies: Sequence[bytes]) -> list[Any]:
    """What typed rows should hold, by way of another JSON parser."""
    kind = pa.struct(list(study_arrow_schema()))
    return [fitted(msgspec.json.decode(raw), kind) for raw in studies]


def check(parsed: ParsedStudies, studies: Sequence[bytes]) -> None:
    """Hold the invariants of a result: one row per accepted study, each study in one place, in order."""
    rejected = [rejection.index for rejection in parsed.rejections]
    assert sorted([*parsed.accepted, *rejected]) == list(range(len(studies)))
    assert parsed.accepted == sorted(parsed.accepted)
    assert rejected == sorted(rejected)
    assert all(rejection.reason for rejection in parsed.rejections)
    assert parsed.studies.schema.equals(study_arrow_schema())
    parsed.studies.validate(full=True)
    assert parsed.studies.to_pylist() == expected_rows([studies[i] for i in parsed.accepted])


def values_of(node: FieldNode) -> st.SearchStrategy[Any]:
    """Values that the registry may send for a node, null and absent parts included."""
    item: st.SearchStrategy[Any]
    if node.children:
        item = st.fixed_dictionaries({}, optional={c.name: values_of(c) for c in node.children})
    elif node.base_type == "boolean":
        item = st.booleans()
    elif node.base_type in {"integer", "long"}:
        item = st.integers(-(2**63), 2**63 - 1)
    elif node.base_type == "number":
        item = st.floats(allow_nan=False, allow_infinity=False)
    elif node.base_type == "GeoPoint":
        ordinate = st.floats(-180, 180) | st.integers(-180, 180)
        item = st.fixed_dictionaries({}, optional={"lat": ordinate, "lon": ordinate})
    else:
        item = st.text()
    return st.none() | (st.lists(item, max_size=2) if node.is_list else item)


@st.composite
def studies_by_the_tree(draw: st.DrawFn) -> dict[str, Any]:
    """A study of one module, or none, of some sections: with all at once examples grow too large."""
    study: dict[str, Any] = {}
    for top in draw(st.lists(st.sampled_from(field_tree()), max_size=3)):
        if top.children:
            module = draw(st.sampled_from(top.children))
            study[top.name] = {module.name: draw(values_of(module))}
        else:
            study[top.name] = draw(values_of(top))
    return study


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(studies_by_the_tree(), max_size=4), st.sampled_from([None, 0, 3]), st.booleans())
def test_rows_hold_what_the_json_says(
    contents: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
) -> None:
    """Whatever fields, texts, numbers, white space and escapes: the typed value is the decoded one."""
    studies = [json.dumps(c, indent=indent, ensure_ascii=ascii_only).encode() for c in contents]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.rejections == []
    assert parsed.unknown_fields == {}


def test_generated_studies_are_typed_without_a_rest() -> None:
    """Studies with every field of the tree: nothing is rejected, unknown or different."""
    source = GeneratedSource(60, seed=3)
    studies = [source.raw(index) for index in range(len(source))]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.accepted == list(range(60))
    assert parsed.unknown_fields == {}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([GOOD, MISTYPED, MISTYPED_DEEP, b"", b"{"]), max_size=40))
def test_mistyped_studies_are_singled_out(studies: list[bytes]) -> None:
    """Wherever in a batch they stand and however many they are, the others are typed."""
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.accepted == [i for i, raw in enumerate(studies) if raw == GOOD]
    for rejection in parsed.rejections:
        if studies[rejection.index] == MISTYPED:
            assert rejection.reason.startswith('hasResults: expected true or false; found "')
        if studies[rejection.index] == MISTYPED_DEEP:
            assert (
                "protocolSection.identificationModule.briefTitle: expected text" in rejection.reason
            )


@pytest.mark.parametrize("batch_bytes", [1, 300, 1000])
def test_batches_make_no_difference(batch_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes and counts refer to the whole, however it was cut, also when it is an iterator."""
    studies = [GOOD, MISTYPED, study("NCT00000004", novel=1), b"", *[GOOD] * 5, MISTYPED, GOOD]
    whole = parse_studies(studies)
    monkeypatch.setattr(parsing, "_BATCH_BYTES", batch_bytes)
    cut = parse_studies(iter(studies))
    check(cut, studies)
    assert (cut.accepted, cut.rejections) == (whole.accepted, whole.rejections)
    assert cut.unknown_fields == whole.unknown_fields == {"novel": 1}


@pytest.mark.parametrize("batch_bytes", [1, 300, 1 << 20])
@pytest.mark.parametrize("line_break", [b"", b"\n", b"\r\n\t"])
def test_a_column_is_typed_as_a_list_is(
    batch_bytes: int, line_break: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its chunks, where they begin in memory and however the JSON is set."""
    odd = [GOOD, MISTYPED, study("NCT00000004", **{".a": 1, "": [2]}), *[GOOD] * 3, MISTYPED_DEEP]
    studies = [raw.replace(b",", b"," + line_break) + line_break for raw in odd]
    by_list = parse_studies(studies)
    check(by_list, studies)
    monkeypatch.setattr(parsing, "_BATCH_BYTES", batch_bytes)
    array = pa.array([b"not of it", *studies, b"neither"], pa.large_binary())
    column = pa.chunked_array([array[1:3], array[3:3], array[3:-1]])
    assert parse_studies(column, identified=True) == by_list
    assert by_list.unknown_fields == {".a": 1, "": 1}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "truncated"),
        (b"  \n ", "truncated"),
        (b'{"hasResults":true', "truncated"),
        (b'{"hasResults":true}}', "trailing"),
        (b"{}{}", "trailing"),
        (b"{}\n{}", "trailing"),
        (b'{"hasResults":tru}', "hasResults: expected a JSON value; found tru"),
        (b'{"hasResults":NaN}', "hasResults: expected a JSON value; found NaN"),
        (b"\xef\xbb\xbf{}", r"the study: expected a JSON value; found \ufeff"),
        (b"[{}]", "the study: expected a JSON object"),
        (b"null", "the study: expected a JSON object"),
        (b'"text"', "the study: expected a JSON object"),
        (b'{"hasResults":' + b"[" * 100_000, "hasResults[][][][][][][]: expected at most 64"),
        (
            b'{"novel":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
            "novel[][][][][][][]: expected at most 64",
        ),
        (b'{"novel":"\xff"}', r'novel: expected text in UTF-8; found "\xff"'),
        (b'{"protocolSection":{"\xff":1}}', "expected as a name text in UTF-8"),
        (rb'{"novel":"\ud800"}', "novel: expected text without unpaired surrogates"),
        (rb'{"novel":"\ud800\u0041"}', "novel: expected text without unpaired surrogates"),
        (b'{"hasResults":true,"hasResults":true}', "hasResults: was specified twice"),
        (
            b'{"protocolSection":{"identificationModule":{"nctId":"a","nctId":"b"}}}',
            "identificationModule.nctId: was specified twice",
        ),
        (b'{"novel":"\x01"}', "novel: expected text without"),
        (b'{"novel":1e999}', "novel: expected a number that is not out of range"),
        (study("NCT00000005", hasResults=1), "hasResults: expected true or false"),
        (study("NCT00000005", hasResults={}), "hasResults: expected true or false"),
        (study("NCT00000005", protocolSection="text"), "protocolSection: expected an object"),
        (study(5), "nctId: expected text; found 5"),
    ],
)
def test_each_kind_of_fault_has_a_reason(raw: bytes, reason: str) -> None:
    """One bad study between good ones is named with what is wrong, and harms nobody else."""
    parsed = parse_studies([GOOD, raw, GOOD])
    assert parsed.accepted == [0, 2]
    assert [rejection.index for rejection in parsed.rejections] == [1]
    assert reason in parsed.rejections[0].reason
    assert "in row" not in parsed.rejections[0].reason
    assert parsed.studies.to_pylist() == expected_rows([GOOD, GOOD])


def enrolled(count: str) -> bytes:
    """A study with this spelling of its number of participants."""
    return b'{"protocolSection":{"designModule":{"enrollmentInfo":{"count":%s}}}}' % count.encode()


@pytest.mark.parametrize(
    ("count", "value"),
    [
        ("12.0", 12),
        ("1e3", 1000),
        ("1.2e1", 12),
        ("-0.0", 0),
        ("0e999", 0),
        ("9007199254740993.0", 9007199254740993),
        ("9223372036854775807.000", 9223372036854775807),
        ("-9.223372036854775808E18", -9223372036854775808),
        ("1200E-2", 12),
    ],
)
def test_whole_numbers_are_taken_however_they_are_spelled(count: str, value: int) -> None:
    """A number with a point or an exponent that is whole is that number, to the last digit."""
    parsed = parse_studies([enrolled("5"), enrolled(count), enrolled("7")])
    found = [row["protocolSection"]["designModule"] for row in parsed.studies.to_pylist()]
    assert [module["enrollmentInfo"]["count"] for module in found] == [5, value, 7]
    assert parsed.rejections == []


@pytest.mark.parametrize(
    "count",
    ["5.5", "1e-3", "9223372036854775808", '"5"', "-9223372036854775809", "1e19", "1e300", "true"],
)
def test_what_is_no_whole_number_is_not_rounded(count: str) -> None:
    """An integer field takes whole 64-bit numbers; anything else goes to quarantine, with the field."""
    studies = [enrolled("9223372036854775807"), enrolled(count)]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.accepted == [0]
    reason = parsed.rejections[0].reason
    assert reason.startswith(
        "protocolSection.designModule.enrollmentInfo.count: expected a whole number from"
    )
    assert "; found " in reason


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "\U0001f600", "\u2028\u2029\x7f", '"\\/\b\f\n\r\t', ""]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_character_survives(text: str, *, ascii_only: bool) -> None:
    """NUL, escapes, line separators and characters beyond the basic plane are text like any other."""
    raw = json.dumps(
        {"protocolSection": {"identificationModule": {"briefTitle": text}}}, ensure_ascii=ascii_only
    ).encode()
    parsed = parse_studies([raw])
    check(parsed, [raw])
    assert parsed.accepted == [0]


def test_raw_line_breaks_are_white_space() -> None:
    """Pretty-printed studies, with either kind of line break, are one row each."""
    pretty = json.dumps(json.loads(GOOD), indent=2).encode()
    studies = [pretty, pretty.replace(b"\n", b"\r\n"), b"\n" + GOOD + b"\n\n", GOOD]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.accepted == [0, 1, 2, 3]


def test_a_study_larger_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large one study is, it is typed, and so are its neighbours."""
    monkeypatch.setattr(parsing, "_BATCH_BYTES", 1024)
    huge = study("NCT00000006", title="x" * 200_000)
    studies = [GOOD, huge, GOOD, MISTYPED]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.accepted == [0, 1, 2]


def test_nothing_at_all() -> None:
    """No studies make an empty table of the right schema."""
    check(parse_studies([]), [])
    check(parse_studies([b"", b""]), [b"", b""])


def extras_by_hand(
    value: Any, kind: pa.DataType | pa.Schema, path: str = "", positions: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """The values (path, positions, value) of unknown fields in a JSON value, by recursion."""
    if isinstance(value, list):
        for position, item in enumerate(value, start=1):
            yield from extras_by_hand(item, kind.value_type, f"{path}[]", (*positions, position))
    elif isinstance(value, dict):
        for key, below in value.items():
            number = kind.get_field_index(key)
            inner = f"{path}.{key}" if path else key
            if number >= 0:
                yield from extras_by_hand(below, kind.field(number).type, inner, positions)
            elif below is not None:
                yield inner, positions, below


def counted_by_hand(value: Any, kind: pa.DataType | pa.Schema) -> Counter[str]:
    """The unknown fields of a JSON value."""
    return Counter(path for path, _, _ in extras_by_hand(value, kind))


novel_names = st.sampled_from(["novel", ".novel", "a.b", "", "[0]", "nctID", "ü", "a/b", '"'])
novelties = st.dictionaries(novel_names, json_values, max_size=2)


@pytest.mark.soak
@settings(max_examples=times(25, 100), deadline=None)
@given(st.lists(st.tuples(*[novelties] * 4), min_size=1, max_size=4), st.booleans())
def test_values_of_unknown_fields_are_kept(
    places: list[tuple[dict[str, Any], ...]], escaped: bool
) -> None:
    """At every depth, in lists too, of whatever and changing types; nobody is quarantined for them."""
    contents = [
        {
            **top,
            "protocolSection": {
                **section,
                "contactsLocationsModule": {
                    "locations": [
                        {"city": "Ulm", **item},
                        {"geoPoint": {"lat": 1.5, **point}},
                        {"city": None, **point},
                    ]
                },
            },
        }
        for top, section, item, point in places
    ]
    studies = [json.dumps(content, ensure_ascii=escaped).encode() for content in contents]
    if escaped:
        studies = [raw.replace(b"/", b"\\/") for raw in studies]
    parsed = parse_studies(studies)
    check(parsed, studies)
    assert parsed.rejections == []
    expected = [
        (index, *extra)
        for index, content in enumerate(contents)
        for extra in sorted(extras_by_hand(content, study_arrow_schema()), key=lambda one: one[:2])
    ]
    kept = [
        (extra.index, extra.path, extra.positions, json.loads(extra.json))
        for extra in parsed.extras
    ]
    assert kept == expected
    assert parsed.unknown_fields == Counter(path for _, path, _, _ in expected)


def test_values_of_unknown_fields_are_kept_as_sent() -> None:
    """Numbers and white space stay as the registry spelled them."""
    parsed = parse_studies([b'{"novel": [1.50,\n1e3 ,"\\u0041"] }', GOOD])
    [extra] = parsed.extras
    assert extra.json == b'[1.50,\n1e3 ,"\\u0041"]'


@pytest.mark.parametrize(
    "values", [(1, "text"), ({}, []), (1, 1.5), ([1], [{}]), ({"a": 1}, {"a": {}})]
)
def test_unknown_fields_that_change_type_are_still_only_unknown(values: tuple[Any, Any]) -> None:
    """An unknown field of two types cannot be read as one column; it is counted all the same."""
    studies = [study("NCT00000007", novel=values[0]), GOOD, study("NCT00000008", novel=values[1])]
    parsed = parse_studies([*studies, MISTYPED])
    check(parsed, [*studies, MISTYPED])
    assert parsed.accepted == [0, 1, 2]
    assert parsed.unknown_fields == {"novel": 2}


def test_an_unknown_field_without_value_is_none() -> None:
    """A null says nothing about a field, known or not."""
    parsed = parse_studies([study("NCT00000009", novel=None)])
    assert parsed.accepted == [0]
    assert parsed.unknown_fields == {}


def test_only_accepted_studies_count_for_unknown_fields() -> None:
    """What is in quarantine is looked at there."""
    parsed = parse_studies([study("NCT00000010", novel=1, hasResults="no"), GOOD])
    assert parsed.accepted == [1]
    assert parsed.unknown_fields == {}
