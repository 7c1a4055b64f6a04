"""Changed studies laid over a source: lookups agree with each other whatever went and came."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator import identity
from ctg_assets.simulator.overlay import OverlaySource, changed_study
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, numbered_studies, study

_STUDIES = 12


@given(
    gone=st.sets(st.integers(1, _STUDIES)),
    edited=st.sets(st.integers(1, _STUDIES)),
    added=st.sets(st.integers(100, 110)),
)
def test_an_overlay_is_the_studies_that_are_left_changed_and_added(
    gone: set[int], edited: set[int], added: set[int]
) -> None:
    """Every study that is not gone is there once, with its present content, and is found at its place."""
    now = dict.fromkeys(range(1, _STUDIES + 1), "A Study")
    now |= dict.fromkeys(edited, "Edited") | dict.fromkeys(added, "Added")
    now = {number: title for number, title in now.items() if number not in gone}
    source = OverlaySource(
        numbered_studies(_STUDIES),
        {
            nct_id(number): changed_study(msgspec.json.encode(study(number, title=title)))
            for number, title in now.items()
            if title != "A Study"
        },
        gone=[nct_id(number) for number in (*gone, 999)],
    )
    titles = {}
    for index in range(len(source)):
        content = msgspec.json.decode(source.raw(index))["protocolSection"]
        identification = content["identificationModule"]
        assert source.nct_id(index) == identification["nctId"]
        assert source.index_of(identification["nctId"]) == index
        posted = content["statusModule"]["lastUpdatePostDateStruct"]["date"]
        assert source.last_update_post_date(index) == posted
        titles[int(identification["nctId"][3:])] = identification["briefTitle"]
    assert titles == now
    assert all(source.index_of(nct_id(number)) is None for number in (*gone, 999))
    for index in (-1, len(source)):
        for lookup in (source.nct_id, source.raw, source.last_update_post_date):
            with pytest.raises(IndexError, match=f"study {index} of {len(source)}"):
                lookup(index)


def test_every_study_bears_the_registry_day() -> None:
    """`versionHolder` is the data day in changed and unchanged studies; all else stays byte for byte."""
    below = GeneratedSource(5, seed=3)
    changed = {below.nct_id(2): changed_study(below.raw(2))}
    source = OverlaySource(below, changed, data_day="2026-03-09")
    for index in range(5):
        before, after = b'"versionHolder":"2026-03-02"', b'"versionHolder":"2026-03-09"'
        assert before in below.raw(index)
        assert source.raw(index) == below.raw(index).replace(before, after)


@pytest.mark.parametrize(
    "title", ['"versionHolder":"2026-03-02"', '\\"versionHolder": "2026-03-02"', "versionHolder"]
)
def test_text_that_looks_like_the_day_stays(title: str) -> None:
    """A text that speaks of `versionHolder` is none, and a study without it gets none."""
    below = InMemorySource([study(1, title=title), {**study(2), "versionHolder": None}])
    source = OverlaySource(below, {}, data_day="2026-03-09")
    assert [source.raw(index) for index in range(2)] == [below.raw(index) for index in range(2)]


def test_aliases_follow_their_survivors() -> None:
    """An obsolete id leads to the study that has it as alias, as long as that study is there."""
    below = GeneratedSource(400, seed=4)
    alias = identity.alias_of(4, 200)
    assert alias is not None
    survivor = below.nct_id(200)
    merged = changed_study(
        msgspec.json.encode(study(77, aliases=[below.nct_id(0), nct_id(5), below.nct_id(1)]))
    )
    source = OverlaySource(below, {nct_id(77): merged}, gone=[below.nct_id(0)])
    assert source.alias_target(alias) == survivor
    assert source.alias_target(below.nct_id(0)) == source.alias_target(nct_id(5)) == nct_id(77)
    # A study that lives is not somebody else's former self.
    assert source.alias_target(below.nct_id(1)) is None
    assert OverlaySource(below, {}, gone=[survivor]).alias_target(alias) is None
