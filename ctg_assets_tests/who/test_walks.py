"""Walks over WHO's pages: where an interrupted one goes on, and when one begins anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ctg_assets.integrity.verification import verify
from ctg_assets.registry.errors import TransientRegistryError
from ctg_assets.simulator.who import WhoFault
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.who import walks
from ctg_assets.who.access import open_api
from ctg_assets.who.errors import NothingFetchedError
from ctg_assets.who.indicators import DialectName, Indicator
from ctg_assets.who.refreshing import RefreshPart
from ctg_assets.who.releases import ReleaseStore
from ctg_assets.who.walks import WalkStore
from ctg_assets_tests.support.object_store import object_storage
from ctg_assets_tests.who.conftest import Who, ghe, gho

PAGES = 6


@pytest.fixture
def interrupt(who: Who) -> Callable[[Indicator], None]:
    """A function that fetches an indicator until two pages are there."""
    who.simulator.entities |= {"DEX_CMS/GHE_FULL": ghe_rows(), "LIFE": gho_rows("LIFE")}
    who.simulator.gho_page_size = 100

    def fetch(indicator: Indicator) -> None:
        heard = 0

        def tell(code: str, part: RefreshPart, done: int, total: int | None) -> None:
            nonlocal heard
            heard += 1
            if heard == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            who.source.extract(indicator, tell)

    return fetch


@pytest.mark.parametrize("indicator", [ghe(), gho("LIFE")], ids=["xmart", "gho"])
def test_an_interrupted_walk_goes_on(
    who: Who, interrupt: Callable[[Indicator], None], indicator: Indicator
) -> None:
    """The pages that are there are not asked for again, and the walk has every row once."""
    interrupt(indicator)
    assert len(who.simulator.requests) == 2
    end = who.source.extract(indicator)
    assert (end.walk, end.pages) == (1, PAGES)
    assert len(who.simulator.requests) == len(set(who.simulator.requests)) == PAGES
    sent = [raw for batch in who.source.walks.rows(indicator.code, 1) for raw in batch]
    assert len(sent) == len(set(sent)) == len(who.simulator.entities[indicator.asked_for])
    # What is fetched and not transformed is not fetched again.
    assert who.source.extract(indicator) == end
    assert len(who.simulator.requests) == PAGES


def test_another_question_begins_anew(who: Who, interrupt: Callable[[Indicator], None]) -> None:
    """Pages of an earlier filter are no part of what another asks for."""
    interrupt(ghe())
    end = who.source.extract(ghe(filter="DIM_YEAR_CODE eq 2021"))
    assert (end.walk, end.rows) == (2, 192)
    assert who.source.walks.numbers("GHE") == [2]


def test_an_old_walk_begins_anew(
    who: Who, interrupt: Callable[[Indicator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the day before yesterday may be of another release."""
    interrupt(ghe())
    later = walks._now() + timedelta(days=1, minutes=1)
    monkeypatch.setattr(walks, "_now", lambda: later)
    end = who.source.extract(ghe())
    assert (end.walk, end.pages, len(who.simulator.requests)) == (2, PAGES, 2 + PAGES)


def test_a_transient_failure_keeps_the_pages(
    who: Who, interrupt: Callable[[Indicator], None]
) -> None:
    """After an outage in the midst of it the walk goes on."""
    interrupt(ghe())
    who.simulator.faults["DEX_CMS/GHE_FULL"] = WhoFault.OVERLOADED
    with pytest.raises(TransientRegistryError):
        who.source.extract(ghe())
    who.simulator.faults.clear()
    assert who.source.extract(ghe()).walk == 1


def test_a_damaged_page_is_named_and_fetched_again(
    who: Who, interrupt: Callable[[Indicator], None]
) -> None:
    """The file and the remedy are said once; the next walk begins anew."""
    interrupt(ghe())
    page = Path(who.folder / "lake/who/GHE/walks/00001/pages/00002.parquet")
    page.write_bytes(page.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match=r"00002\.parquet is damaged: .*raw rows of WHO"):
        who.source.extract(ghe())
    assert who.source.extract(ghe()).pages == PAGES


def test_nothing_is_transformed_before_it_is_fetched(
    who: Who, interrupt: Callable[[Indicator], None]
) -> None:
    """An open walk is none to make a release of."""
    interrupt(ghe())
    with pytest.raises(NothingFetchedError, match="ctg-assets who extract GHE"):
        who.source.transform(ghe())


def test_an_object_store_holds_the_same(who: Who, tmp_path: Path) -> None:
    """Walks and releases in a bucket are those of a disk: fetched, compacted, kept, and the next release beside the first."""
    storage = object_storage(tmp_path / "scratch")
    in_bucket, releases = WalkStore(storage), ReleaseStore(storage)
    for seed in (1, 1, 2):
        who.simulator.entities["LIFE"] = gho_rows("LIFE", seed=seed)
        with open_api(who.settings(), DialectName.GHO) as requests:
            end = in_bucket.fetch(requests, gho("LIFE"), lambda *_: None)
        state = releases.compact(gho("LIFE"), end, most_set_aside=0)
        assert not state.is_held_back
    assert [(each.number, each.name) for each in releases.releases("LIFE")] == [
        (1, "2024-08-02"),
        (2, "2024-08-02.02"),
    ]
    for release in releases.releases("LIFE"):
        assert sum(rows.num_rows for rows in releases.batches(release)) == 528
        assert release.walk in in_bucket.numbers("LIFE")
    assert verify(storage).findings == []
