"""Generated studies: the same everywhere, complete in structure, true to the registry's forms and shares."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pa_json
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.fields import (
    FieldNode,
    enum_values,
    field_tree,
    leaf_paths,
    study_arrow_schema,
)
from ctg_assets.simulator import identity
from ctg_assets.simulator.generate import study, study_json

SEED = 20
# An awkward beginning, so that nothing depends on starting at a round number.
FIRST = 1357
COUNT = 2000

Study = dict[str, Any]

PARTIAL_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
FORMS = {
    "NormalizedDate": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "PartialDate": PARTIAL_DATE,
    "DateTimeMinutes": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII),
    "NormalizedTime": re.compile(r"\d+ (Year|Month|Week|Day|Hour|Minute)s?", re.ASCII),
    "nct": re.compile(r"NCT\d{8}", re.ASCII),
}


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    """Two thousand neighbouring studies as JSON."""
    return [study_json(SEED, index) for index in range(FIRST, FIRST + COUNT)]


@pytest.fixture(scope="module")
def studies(encoded: list[bytes]) -> list[Study]:
    """The same studies, decoded."""
    return [msgspec.json.decode(one) for one in encoded]


def leaves(studies: list[Study]) -> Iterator[tuple[FieldNode, Any]]:
    """Every leaf value with its node; fails on keys that are unknown, misplaced or without content."""

    def walk(value: Any, node: FieldNode) -> Iterator[tuple[FieldNode, Any]]:
        assert isinstance(value, list) == node.is_list, node.path
        assert value is not None, node.path
        assert value not in ([], {}, ""), node.path
        for item in value if isinstance(value, list) else [value]:
            if node.is_leaf:
                yield node, item
            else:
                yield from children(item, node.children)

    def children(value: Study, nodes: tuple[FieldNode, ...]) -> Iterator[tuple[FieldNode, Any]]:
        known = [node for node in nodes if node.name in value]
        assert list(value) == [node.name for node in known]
        for node in known:
            yield from walk(value[node.name], node)

    for one in studies:
        yield from children(one, field_tree())


@pytest.fixture(scope="module")
def values(studies: list[Study]) -> dict[str, tuple[FieldNode, Counter[Any]]]:
    """All values of every leaf field by path (coordinates as pairs)."""
    found: dict[str, tuple[FieldNode, Counter[Any]]] = {}
    for node, value in leaves(studies):
        key = tuple(value.items()) if isinstance(value, dict) else value
        found.setdefault(node.path, (node, Counter()))[1][key] += 1
    return found


@pytest.mark.slow
def test_every_field_occurs(values: dict[str, Any]) -> None:
    """Two thousand neighbouring studies hold every field of the tree, in its order, never empty."""
    assert set(leaf_paths()) - set(values) == set()


@pytest.mark.slow
def test_json_fits_the_arrow_schema(encoded: list[bytes]) -> None:
    """Every study parses as the data model's types, with no field unknown; one study takes one line."""
    assert not any(b"\n" in one for one in encoded)
    table = pa_json.read_json(
        io.BytesIO(b"\n".join(encoded)),
        read_options=pa_json.ReadOptions(block_size=1 << 27),
        parse_options=pa_json.ParseOptions(
            explicit_schema=study_arrow_schema(), unexpected_field_behavior="error"
        ),
    )
    assert table.num_rows == COUNT
    assert table.schema == study_arrow_schema()
    point = table["protocolSection"].combine_chunks().field("contactsLocationsModule")
    assert point.field("locations").flatten().field("geoPoint").type == pa.struct(
        {"lat": pa.float64(), "lon": pa.float64()}
    )


@pytest.mark.slow
def test_enumerations_are_kept_and_used(values: dict[str, tuple[FieldNode, Counter[Any]]]) -> None:
    """Enumerated fields hold only values of their enumeration, and all of these occur somewhere."""
    used: dict[str, set[str]] = {}
    for node, found in values.values():
        if node.is_enum:
            allowed = {item.value for item in enum_values()[node.base_type]}
            assert set(found) <= allowed, node.path
            used.setdefault(node.base_type, set()).update(found)
    assert used == {name: {item.value for item in items} for name, items in enum_values().items()}


@pytest.mark.slow
def test_texts_have_the_form_of_their_type(
    values: dict[str, tuple[FieldNode, Counter[Any]]],
) -> None:
    """Dates, times, ages and NCT ids are written as the registry writes them."""
    checked = set()
    for node, found in values.values():
        form = FORMS.get(node.base_type)
        if form is not None:
            checked.add(node.base_type)
            assert [text for text in found if not form.fullmatch(text)] == [], node.path
    assert checked == set(FORMS)


@pytest.mark.slow
def test_wild_values_occur(values: dict[str, tuple[FieldNode, Counter[Any]]]) -> None:
    """What makes real studies hard to load is there: partial dates, odd numbers, sentinels, all units."""
    status = "protocolSection.statusModule"
    starts = values[f"{status}.startDateStruct.date"][1]
    assert {len(text) for text in starts} == {4, 7, 10}
    measured = values[
        "resultsSection.outcomeMeasuresModule.outcomeMeasures[].classes[].categories[].measurements[].value"
    ][1]
    assert {"1,234", "<0.001", "NA", "12.5 (3)", ">99"} <= set(measured)
    eligibility = "protocolSection.eligibilityModule"
    ages = {*values[f"{eligibility}.minimumAge"][1], *values[f"{eligibility}.maximumAge"][1]}
    units = {age.partition(" ")[2].removesuffix("s") for age in ages}
    assert units == {"Year", "Month", "Week", "Day", "Hour", "Minute"}
    assert 99999999 in values["protocolSection.designModule.enrollmentInfo.count"][1]
    criteria = values[f"{eligibility}.eligibilityCriteria"][1]
    assert all("\n\n* " in text for text in criteria)
    assert any(not text.isascii() for text in criteria)


@pytest.mark.slow
def test_some_arms_share_a_label(studies: list[Study]) -> None:
    """A few studies have two arms of the same label, as in the registry; most do not."""
    repeated = 0
    for one in studies:
        arms = one["protocolSection"].get("armsInterventionsModule", {}).get("armGroups", [])
        labels = [arm["label"] for arm in arms]
        repeated += len(labels) != len(set(labels))
    assert 0 < repeated < COUNT * 0.05


@pytest.mark.slow
def test_shares_are_those_of_the_registry(studies: list[Study]) -> None:
    """Types, statuses and results occur about as often as in the registry."""
    protocols = [one["protocolSection"] for one in studies]
    types = Counter(one.get("designModule", {}).get("studyType") for one in protocols)
    statuses = Counter(one["statusModule"]["overallStatus"] for one in protocols)
    assert 0.72 < types["INTERVENTIONAL"] / COUNT < 0.81
    assert 0.49 < statuses["COMPLETED"] / COUNT < 0.61
    assert 0.07 < statuses["RECRUITING"] / COUNT < 0.15
    assert 0 < statuses["WITHHELD"] / COUNT < 0.01
    assert 0.10 < sum(one["hasResults"] for one in studies) / COUNT < 0.16


@pytest.mark.slow
def test_sizes_are_skewed_as_in_the_registry(encoded: list[bytes]) -> None:
    """Half of the studies stay near 10 KB, the average is pulled up by a few of several hundred."""
    sizes = sorted(map(len, encoded))
    assert 8_000 < sizes[COUNT // 2] < 12_500
    assert 13_000 < sum(sizes) / COUNT < 23_000
    assert sizes[COUNT // 20] < 6_500
    assert sizes[-1] > 200_000


def _in_order(earlier: str, later: str) -> bool:
    length = min(len(earlier), len(later))
    return earlier[:length] <= later[:length]


@pytest.mark.slow
def test_dates_follow_one_another(studies: list[Study]) -> None:
    """Submission, posting and update come in order, and so do start and completions."""
    for one in studies:
        status = one["protocolSection"]["statusModule"]
        first = status["studyFirstSubmitDate"]
        assert (
            first <= status["studyFirstSubmitQcDate"] <= status["studyFirstPostDateStruct"]["date"]
        )
        posted = status["lastUpdatePostDateStruct"]["date"]
        assert first <= status["lastUpdateSubmitDate"] <= posted
        if one["hasResults"]:
            submitted = status["resultsFirstSubmitDate"]
            quality = status["resultsFirstSubmitQcDate"]
            assert first <= submitted <= quality <= status["resultsFirstPostDateStruct"]["date"]
            assert status["resultsFirstPostDateStruct"]["date"] <= posted
        if "startDateStruct" in status:
            start, primary, completion = (
                status[name]["date"]
                for name in (
                    "startDateStruct",
                    "primaryCompletionDateStruct",
                    "completionDateStruct",
                )
            )
            assert _in_order(start, primary)
            assert _in_order(primary, completion)


@pytest.mark.slow
def test_results_are_all_there_or_not_at_all(studies: list[Study]) -> None:
    """`hasResults`, the results section and its dates agree, and so do arms, groups and enrollment."""
    for one in studies:
        protocol = one["protocolSection"]
        dated = "resultsFirstSubmitDate" in protocol["statusModule"]
        assert one["hasResults"] == dated == ("resultsSection" in one)
        if not dated:
            continue
        baseline = one["resultsSection"]["baselineCharacteristicsModule"]
        total = int(baseline["denoms"][0]["counts"][-1]["value"])
        assert protocol["designModule"]["enrollmentInfo"]["count"] == total
        for outcome in one["resultsSection"]["outcomeMeasuresModule"]["outcomeMeasures"]:
            ids = [group["id"] for group in outcome["groups"]]
            assert ids == [f"OG{place:03d}" for place in range(len(ids))]
            assert {arm["label"] for arm in protocol["armsInterventionsModule"]["armGroups"]} == {
                group["title"] for group in outcome["groups"]
            }


@pytest.mark.slow
def test_withheld_studies_show_next_to_nothing(studies: list[Study]) -> None:
    """A withheld study has an id and its dates, but no sponsor, design or condition."""
    withheld = [
        one["protocolSection"]
        for one in studies
        if one["protocolSection"]["statusModule"]["overallStatus"] == "WITHHELD"
    ]
    assert withheld
    for protocol in withheld:
        assert protocol["statusModule"]["delayedPosting"] is True
        assert set(protocol) == {"identificationModule", "statusModule", "oversightModule"}


@pytest.mark.slow
def test_cheap_facts_are_those_of_the_study(studies: list[Study]) -> None:
    """The id, alias and date that can be had without generating a study are the ones it has."""
    for index, one in enumerate(studies, start=FIRST):
        identification = one["protocolSection"]["identificationModule"]
        alias = identity.alias_of(SEED, index)
        assert identification["nctId"] == identity.nct_id(SEED, index)
        if one["protocolSection"]["statusModule"]["overallStatus"] != "WITHHELD":
            assert identification.get("nctIdAliases") == ([alias] if alias else None)
        posted = one["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"]["date"]
        assert posted == identity.iso(identity.last_update_post_day(SEED, index))


@pytest.mark.slow
def test_invented_contacts_cannot_reach_anybody(studies: list[Study]) -> None:
    """Every e-mail address, link and phone number lies in the ranges reserved for examples."""
    text = msgspec.json.encode(studies).decode()
    assert set(re.findall(r"@([\w.-]+)", text)) == {"example.org"}
    assert {host.split(".", 1)[-1] for host in re.findall(r"https?://([\w.-]+)", text)} == {
        "example.org"
    }
    phones = re.findall(r'"phone":"([^"]+)"', text)
    assert phones
    assert all(phone.startswith("555-01") for phone in phones)


_DIGEST = """
import hashlib, sys
from ctg_assets.simulator.generate import study_json
indexes = range(0, 400, 3)
encoded = {index: study_json(9, index, index % 3) for index in eval(sys.argv[1])(indexes)}
print(hashlib.sha256(b"".join(encoded[index] for index in indexes)).hexdigest())
"""


@pytest.mark.process
def test_studies_do_not_depend_on_the_process() -> None:
    """Processes with other hash seeds, asking in another order, get the same bytes."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST, order],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed, order in (("1", "list"), ("2", "reversed"), ("77", "list"))
    }
    assert len(digests) == 1
    assert re.fullmatch(r"[0-9a-f]{64}\n", digests.pop())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-(2**70), 2**70),
    st.integers(0, identity.MAX_STUDIES - 1),
    st.integers(0, 40),
)
def test_any_study_has_the_registrys_shape(seed: int, index: int, revision: int) -> None:
    """Whatever seed, index and revision: the keys are known and in order, and there is a text for each."""
    assert [node for node, _ in leaves([study(seed, index, revision)])]


def test_other_seeds_give_other_studies() -> None:
    """Studies of the same index but another seed differ in id and content."""
    one, other = study(1, 7), study(2, 7)
    for path in ("identificationModule", "descriptionModule", "eligibilityModule"):
        assert one["protocolSection"][path] != other["protocolSection"][path]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 30))
def test_a_revision_changes_what_an_update_changes(index: int, revision: int) -> None:
    """An update moves the update dates and the text, and leaves what the study is and found alone."""
    before, after = study(SEED, index), study(SEED, index, revision)
    assert after == study(SEED, index, revision)
    was, now = before["protocolSection"], after["protocolSection"]
    day = identity.iso(identity.FIRST_DATA_DAY + revision)
    assert now["statusModule"]["lastUpdatePostDateStruct"] == {"date": day, "type": "ACTUAL"}
    assert after["derivedSection"]["miscInfoModule"]["versionHolder"] == day
    if was["statusModule"]["overallStatus"] != "WITHHELD":
        assert was["descriptionModule"] != now["descriptionModule"]
    for module in ("identificationModule", "eligibilityModule", "contactsLocationsModule"):
        assert was.get(module) == now.get(module)
    assert before.get("resultsSection") == after.get("resultsSection")


def test_revisions_move_statuses_on_for_good() -> None:
    """A status that an update has reached is kept by the updates after it."""
    moved = 0
    for index in range(300):
        history = [
            study(SEED, index, revision)["protocolSection"]["statusModule"]["overallStatus"]
            for revision in range(6)
        ]
        distinct = list(dict.fromkeys(history))
        assert len(distinct) <= 2
        assert history == sorted(history, key=distinct.index)
        moved += len(distinct) - 1
    assert moved > 20


def test_the_data_day_is_nothing_but_the_version_holder() -> None:
    """On another registry day a study differs in `versionHolder` alone."""
    day = identity.FIRST_DATA_DAY + 9
    today, later = study(SEED, 7), study(SEED, 7, data_day=day)
    assert later["derivedSection"]["miscInfoModule"].pop("versionHolder") == identity.iso(day)
    assert today["derivedSection"]["miscInfoModule"].pop("versionHolder") == "2026-03-02"
    assert today == later
