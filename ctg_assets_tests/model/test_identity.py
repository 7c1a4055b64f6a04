"""What identifies a study and its content."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctg_assets.model.identity import StudyIdentity, identify, may_be_odd
from ctg_assets.model.json_text import why_refused
from ctg_assets_tests.support.made_lakes import json_values, study

sections = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


def reordered(value: Any, draw: st.DataObject) -> Any:
    """The same JSON with the keys of each object in another order."""
    if isinstance(value, dict):
        keys = draw.draw(st.permutations(list(value)))
        return {key: reordered(value[key], draw) for key in keys}
    return [reordered(item, draw) for item in value] if isinstance(value, list) else value


def content_hash(content: Any, **spelling: Any) -> str:
    """The hash of a value written as JSON in some way."""
    return identify(json.dumps(content, **spelling).encode()).content_hash


def test_the_facts_of_a_study() -> None:
    """Id, date and hash are read from where the registry keeps them."""
    identity = identify(study("NCT00000102", "2026-03-15"))
    assert (identity.nct_id, identity.last_update_post_date) == ("NCT00000102", date(2026, 3, 15))
    assert len(identity.content_hash) == 64
    assert set(identity.content_hash) <= set("0123456789abcdef")


@pytest.mark.slow
@given(sections, st.data())
def test_spelling_does_not_matter(content: dict[str, Any], data: Any) -> None:
    """Order of keys, white space and escapes are no content."""
    other = reordered(content, data)
    assert content_hash(content) == content_hash(other, indent=3, ensure_ascii=False)


def _holding(content: dict[str, Any], misc: dict[str, Any]) -> dict[str, Any]:
    return {**content, "derivedSection": {"miscInfoModule": {"removedCountries": [], **misc}}}


@given(sections, st.text(), st.text() | st.none())
def test_the_day_of_the_data_version_does_not_matter(
    content: dict[str, Any], one: str, other: str | None
) -> None:
    """`versionHolder` moves with every refresh of the registry; with or without, the hash is the same."""
    held: tuple[dict[str, Any], ...] = ({}, {"versionHolder": one}, {"versionHolder": other})
    assert len({content_hash(_holding(content, misc)) for misc in held}) == 1


@given(sections, json_values.filter(lambda value: not isinstance(value, str | None)))
def test_a_day_of_another_type_is_content(content: dict[str, Any], odd: Any) -> None:
    """It keeps the study in quarantine, so the same study without it is a change that lets it out."""
    sound = _holding(content, {"versionHolder": "2026-11-20"})
    assert content_hash(_holding(content, {"versionHolder": odd})) != content_hash(sound)


@given(sections, st.data())
def test_every_other_change_matters(content: dict[str, Any], data: Any) -> None:
    """A value changed, added or taken away anywhere else gives another hash."""
    changed = copy.deepcopy(content)
    target: Any = changed
    while (inner := [v for v in target.values() if isinstance(v, dict) and v]) and data.draw(
        st.booleans()
    ):
        target = data.draw(st.sampled_from(inner))
    key = data.draw(st.sampled_from(list(target)) if target else st.just("new"))
    target[key] = data.draw(json_values)
    same = json.dumps(changed, sort_keys=True) == json.dumps(content, sort_keys=True)
    # To Python's == 1, 1.0 and True are the same, so the texts are compared.
    assert (content_hash(changed) == content_hash(content)) == same


def test_version_holder_elsewhere_matters() -> None:
    """Only the one place is volatile; a field of that name elsewhere is content."""
    assert content_hash({"versionHolder": 1}) != content_hash({"versionHolder": 2})
    assert content_hash({"derivedSection": {"versionHolder": 1}}) != content_hash(
        {"derivedSection": {"versionHolder": 2}}
    )


def test_what_stands_beside_version_holder_matters() -> None:
    """The rest of its module is content."""
    modules: list[dict[str, Any]] = [{}, {"removedCountries": []}, {"removedCountries": ["Chad"]}]
    hashes = {
        content_hash({"derivedSection": {"miscInfoModule": {"versionHolder": "1", **module}}})
        for module in modules
    }
    assert len(hashes) == 3


@given(st.binary())
def test_any_bytes_have_an_identity(content: bytes) -> None:
    """No bytes make it fail."""
    assert isinstance(identify(content), StudyIdentity)


@given(json_values)
def test_any_json_has_an_identity(content: Any) -> None:
    """Nor does any JSON, wherever it stands."""
    for nested in (
        content,
        {"protocolSection": content, "derivedSection": content},
        {"protocolSection": {"identificationModule": content, "statusModule": content}},
        {"derivedSection": {"miscInfoModule": content}},
    ):
        assert isinstance(identify(json.dumps(nested).encode()), StudyIdentity)
    identity = identify(study(content, content))
    assert identity.nct_id == (content if isinstance(content, str) and content else None)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b'{"a":"\xff"}',
        rb'{"a":"\ud800"}',
        b'{"a":1e999}',
        b"{}{}",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_broken_json_is_identified_by_its_bytes(broken: bytes) -> None:
    """What cannot be read has a hash of its own, and neither id nor date."""
    identity = identify(broken)
    assert (identity.nct_id, identity.last_update_post_date) == (None, None)
    assert identity.content_hash != identify(broken + b" ").content_hash


@pytest.mark.parametrize(
    "posted",
    [
        "",
        "2026",
        "2026-03",
        "20260315",
        "2026-W11-7",
        "2026-02-30",
        "\uff12\uff10\uff12\uff16-03-15",
        20260315,
    ],
)
def test_only_full_dates_count(posted: Any) -> None:
    """A date of another form cannot say which of two contents is newer."""
    assert identify(study("NCT00000102", posted)).last_update_post_date is None


spellings = json_values.map(lambda value: json.dumps(value).encode()) | st.binary()


@given(before=st.binary(max_size=3), novel=spellings, after=st.binary(max_size=3))
@example(before=b"", novel=b'"\xff"', after=b"")
@example(before=b"", novel=rb'"\ud800"', after=b"")
@example(before=b"", novel=b"[" * 5_000 + b"]" * 5_000, after=b"")
@example(before=b"", novel=b"1", after=b"{}")
def test_an_identity_proves_the_syntax(before: bytes, novel: bytes, after: bytes) -> None:
    """Where an NCT id is found, the bytes are one JSON object, or the hash says to check that again."""
    named = study("NCT00000102", novel=0)
    raw = before + named.replace(b'"novel": 0', b'"novel": ' + novel) + after
    identity = identify(raw)
    if identity.nct_id is not None and not may_be_odd(identity.content_hash):
        assert why_refused(raw) is None
