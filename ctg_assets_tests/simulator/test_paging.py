"""Page sizes, page tokens and the default order."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.paging import DefaultOrder, page_offset, page_size, page_token


@pytest.mark.parametrize(
    ("text", "size"),
    [(None, 10), ("0", 10), ("1", 1), ("1000", 1000), ("1001", 1000), ("2147483647", 1000)],
)
def test_page_size_is_defaulted_and_coerced(text: str | None, size: int) -> None:
    """No size and 0 mean 10, more than 1000 means 1000."""
    assert page_size(text) == size


@pytest.mark.parametrize("text", ["-1", "ten", "", "1.5", "2147483648", "१०", "1 "])
def test_page_size_refuses_what_is_no_count(text: str) -> None:
    """Anything but a non-negative 32-bit integer is refused with 400."""
    with pytest.raises(ApiError) as refusal:
        page_size(text)
    assert refusal.value.status == 400


@given(st.integers(0, 2**32 - 1), st.binary())
def test_token_leads_back_to_its_offset(offset: int, binding: bytes) -> None:
    """A token is URL-safe, always the same for the same page, and gives back its offset."""
    token = page_token(offset, binding)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert token == page_token(offset, binding)
    assert page_offset(token, binding) == offset


@given(st.integers(0, 2**32 - 1), st.binary(), st.binary())
def test_token_holds_for_its_binding_only(offset: int, binding: bytes, other: bytes) -> None:
    """A token of one query or data version is refused in another."""
    token = page_token(offset, binding)
    if binding != other:
        with pytest.raises(ApiError) as refusal:
            page_offset(token, other)
        assert refusal.value.status == 400


@given(st.text())
def test_garbage_is_no_token(text: str) -> None:
    """Whatever text is not a token is refused, never an internal error."""
    with pytest.raises(ApiError):
        page_offset(text, b"query")


@given(st.integers(0, 2**32 - 1), st.data())
def test_damaged_token_is_refused(offset: int, data: st.DataObject) -> None:
    """A token with one character replaced is refused, unused trailing bits included."""
    token = page_token(offset, b"query")
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABab09-_").filter(lambda new: new != token[place]))
    with pytest.raises(ApiError):
        page_offset(token[:place] + character + token[place + 1 :], b"query")


@given(st.integers(0, 3000))
def test_default_order_visits_each_study_once(size: int) -> None:
    """The default order is a permutation, and its inverse agrees with it."""
    order = DefaultOrder(size)
    assert sorted(order) == list(range(size))
    assert [order.place_of(study) for study in order[:50]] == list(range(min(size, 50)))
    assert order[:] == list(order)


def test_default_order_looks_unsorted() -> None:
    """Studies come neither ascending nor descending, so that no client relies on their order."""
    order = list(DefaultOrder(1000))
    ascending = sum(a < b for a, b in pairwise(order))
    assert 250 < ascending < 750
