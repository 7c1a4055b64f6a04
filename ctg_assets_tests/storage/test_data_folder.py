"""Opening the rooms: folders that cannot be used, and work that only one may do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import open_lake
from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage.data_folder import DataFolderError
from ctg_assets.storage.files import Work
from ctg_assets.storage.locks import BusyError
from ctg_assets_tests.support.processes import COMPLETE, Order, crawling


def _settings(data_dir: Path, api_url: str = "http://registry.test/api/v2") -> Settings:
    return load_settings(data_dir=data_dir, api_url=api_url, requests_per_minute=10_000, query="")


def _file_as_data_folder(tmp_path: Path) -> Path:
    (tmp_path / "data").write_text("a file")
    return tmp_path / "data"


def _file_as_lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").write_text("a file")
    return tmp_path


def _kernel_folder(tmp_path: Path) -> Path:
    return Path("/proc/ctg assets")


@pytest.mark.parametrize("make", [_file_as_data_folder, _file_as_lake, _kernel_folder])
def test_an_unusable_data_folder_is_named_with_the_remedy(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """The message says which folder cannot be created and which setting chooses another."""
    data_dir = make(tmp_path)
    with pytest.raises(DataFolderError, match="CTG_DATA_DIR") as error:
        open_lake(_settings(data_dir))
    assert str(data_dir / "lake") in str(error.value)


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is there and read-only is found out before anything is tried in it."""
    # For root every folder is writable, so what the system would answer others is put in its place.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataFolderError, match=r"cannot write to .*lake; change its permissions"):
        open_lake(_settings(tmp_path))


def test_any_path_will_do_for_the_data_folder(tmp_path: Path, simulator: RunningSimulator) -> None:
    """Spaces, percent signs and other alphabets in the path of the data folder do no harm."""
    settings = _settings(tmp_path / "my data 100%/Ärzte & 試験", simulator.api_url)
    lake = open_lake(settings)
    with open_registry(settings) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        plan = crawler.plan(query="", page_size=10)
        assert len(list(crawler.walk(plan, 3))) == 3
    assert open_lake(settings).extractions.latest(ExtractionState.COMPLETE) == plan
    assert Compactor(lake.storage, lake.scratch).compact(plan.extraction_id).studies == 25


def test_every_registry_has_a_request_record_of_its_own(tmp_path: Path) -> None:
    """The limit is each registry's: what another one was asked does not count."""
    for api_url in ("http://one.test/api/v2", "http://other.test/api/v2", "http://one.test/api/v2"):
        with open_registry(_settings(tmp_path, api_url)):
            pass
    assert len(list((tmp_path / "state").glob("requests-*.sqlite"))) == 2


def test_two_cannot_crawl_at_once(tmp_path: Path, simulator: RunningSimulator) -> None:
    """A second process is told that it is busy, and what to do."""
    order = Order(simulator.api_url, tmp_path, 10, halt_at=1)
    with crawling(order) as first:
        assert first.message() == "halted"
        with crawling(order) as second:
            assert second.message() == "BusyError"
        with (
            pytest.raises(BusyError, match=r"at work on the extraction .*ctg-assets status"),
            open_lake(order.settings).extractions.lock(),
        ):
            pytest.fail("the lock was held twice")
        first.kill()


def test_a_lock_dies_with_its_holder(tmp_path: Path, simulator: RunningSimulator) -> None:
    """After kill -9 of a crawl the next one may begin."""
    order = Order(simulator.api_url, tmp_path, 10, halt_at=1)
    with crawling(order) as first:
        assert first.message() == "halted"
        first.kill()
    with crawling(Order(simulator.api_url, tmp_path, 10)) as second:
        assert second.message() == COMPLETE


def test_different_kinds_of_work_do_not_exclude_each_other(tmp_path: Path) -> None:
    """Compaction may run beside a crawl, and what holds a lock may hold it once more."""
    settings = _settings(tmp_path)
    storage = open_lake(settings).storage
    with storage.lock(Work.EXTRACTION), storage.lock(Work.SNAPSHOT):
        pass
    with storage.lock(Work.EXTRACTION), storage.lock(Work.EXTRACTION):
        pass
