"""NCT ids and posting dates of generated studies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator import identity

SEEDS = st.integers(-(2**70), 2**70)
INDEXES = st.integers(0, identity.MAX_STUDIES - 1)


@given(SEEDS, INDEXES)
def test_nct_id_leads_back_to_its_index(seed: int, index: int) -> None:
    """Whatever the seed, an NCT id has the registry's form and names exactly its study."""
    nct_id = identity.nct_id(seed, index)
    assert len(nct_id) == 11
    assert nct_id.startswith("NCT0")
    assert identity.index_of(seed, nct_id) == index
    assert identity.alias_index(seed, nct_id) is None


@given(SEEDS, st.integers(0, identity.MAX_STUDIES - 1000))
def test_nct_ids_are_unique_and_scattered(seed: int, first: int) -> None:
    """A thousand neighbours have a thousand ids, whose order is not the order of the studies."""
    ids = [identity.nct_id(seed, index) for index in range(first, first + 1000)]
    assert len(set(ids)) == 1000
    assert ids != sorted(ids)
    assert ids != sorted(ids, reverse=True)


@given(SEEDS, INDEXES)
def test_alias_leads_to_its_study_and_is_nobodys_id(seed: int, index: int) -> None:
    """Every 200th study has an obsolete id, which leads back to it and is no study's own id."""
    index -= index % 200
    alias = identity.alias_of(seed, index)
    assert alias is not None
    assert identity.index_of(seed, alias) is None
    assert identity.alias_index(seed, alias) == index
    assert identity.alias_of(seed, index + 1) is None


@given(st.text() | st.from_regex(r"\ANCT[0-9]{8}\Z") | st.from_regex(r"\ANCT\d{8}\Z"))
def test_any_text_is_an_id_an_alias_or_neither(text: str) -> None:
    """Looking up any text answers with a study that has it, or with None; never with an error."""
    index = identity.index_of(5, text)
    owner = identity.alias_index(5, text)
    assert index is None or identity.nct_id(5, index) == text
    assert owner is None or identity.alias_of(5, owner) == text
    assert index is None or owner is None


@pytest.mark.parametrize("index", [-1, identity.MAX_STUDIES])
def test_indexes_without_an_id_are_refused(index: int) -> None:
    """An index outside the range has no NCT id, and the error says what the range is."""
    with pytest.raises(IndexError, match=r"numbered 0 to 7399999"):
        identity.nct_id(1, index)


@given(SEEDS, INDEXES, st.integers(1, 500))
def test_days_follow_one_another(seed: int, index: int, revision: int) -> None:
    """A study is submitted, then posted, then updated, and a later revision is posted later."""
    submitted = identity.first_submit_day(seed, index)
    posted = identity.first_post_day(seed, index)
    updated = identity.last_update_post_day(seed, index)
    assert submitted < posted <= updated <= identity.FIRST_DATA_DAY
    revised = identity.last_update_post_day(seed, index, revision)
    assert updated < revised < identity.last_update_post_day(seed, index, revision + 1)
