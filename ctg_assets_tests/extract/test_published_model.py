"""Asking a registry for its model: once per data version, and without harm when it cannot be asked."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.published_model import (
    RecordedAnswerError,
    check_published_model,
    read_published_model,
    recorded_model,
)
from ctg_assets.lake import Lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.results import CheckResult, Listing
from ctg_assets.simulator import catalog
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.model.models import changed_fields
from ctg_assets_tests.support.published import recorded_answers


class Asker:
    """Plans walks and checks the registry's model with each, as the asset does."""

    def __init__(
        self, client: RegistryClient, lake: Lake, crawler: Crawler, simulator: RunningSimulator
    ) -> None:
        self.client = client
        self.lake = lake
        self.crawler = crawler
        self.simulator = simulator

    def check(self) -> CheckResult:
        """The result at the present data version."""
        plan = self.crawler.plan(query="", page_size=10)
        return check_published_model(self.client, self.lake.storage, plan)

    def asked(self) -> int:
        """How many requests went to the two endpoints so far."""
        endpoints = ("/studies/metadata", "/studies/enums")
        return sum(request.path.endswith(endpoints) for request in self.simulator.requests)


@pytest.fixture
def asker(
    client: RegistryClient, lake: Lake, crawler: Crawler, simulator: RunningSimulator
) -> Asker:
    """An asker that has nothing on record, at a registry of our own model."""
    simulator.publish_model()
    return Asker(client, lake, crawler, simulator)


def with_another_leaf() -> list[dict[str, Any]]:
    """The registry's field tree with a field that our model does not have."""
    tree = catalog.metadata()
    new = {"name": "isNew", "piece": "IsNew", "type": "boolean", "sourceType": "BOOLEAN"}
    return [*tree, new]


def test_the_registry_is_asked_once_per_data_version(asker: Asker) -> None:
    """Two requests at each data version, none for another plan at the same one."""
    before = asker.asked()
    assert asker.check().passed
    assert asker.asked() - before == 2
    assert asker.check().passed
    assert asker.asked() - before == 2
    asker.simulator.advance()
    assert asker.check().passed
    assert asker.asked() - before == 4


def test_differences_are_listed_and_not_blocking(asker: Asker) -> None:
    """What drifted is in the description and, one by one, in a table."""
    asker.simulator.publish_model(metadata=with_another_leaf())
    check_result = asker.check()
    assert (check_result.passed, check_result.blocking) == (False, False)
    assert "field added: isNew (boolean of BOOLEAN, piece IsNew)" in check_result.description
    assert check_result.facts["differences"] == Listing(
        ("what", "name", "in our model", "in the registry"),
        (("field added", "isNew", "", "boolean of BOOLEAN, piece IsNew"),),
    )


def test_what_is_on_record_is_compared_with_the_present_model(asker: Asker) -> None:
    """When the model has learned the field, the same answer agrees with it, without being asked again."""
    asker.simulator.publish_model(metadata=with_another_leaf())
    assert not asker.check().passed
    before = asker.asked()
    new = {"path": "isNew", "piece": "IsNew", "type": "boolean", "source_type": "BOOLEAN"}
    with changed_fields(lambda rows: [*rows, new]):
        assert asker.check().passed
    assert asker.asked() == before


@pytest.mark.parametrize("fault", ["500", "403", "html", "reset", "malformed"])
@pytest.mark.parametrize("endpoint", ["metadata", "enums"])
def test_a_registry_that_does_not_tell_is_no_failure(
    asker: Asker, endpoint: str, fault: str
) -> None:
    """Each request is tried once; the result says why it failed, and the next plan asks again."""
    asker.simulator.set_faults(f"every=1@{endpoint}:{fault}")
    before = asker.asked()
    check_result = asker.check()
    assert (check_result.passed, check_result.blocking) == (False, False)
    assert check_result.description.startswith("the registry's model could not be asked for: ")
    assert f"/studies/{endpoint}" in check_result.description
    assert asker.asked() - before == {"metadata": 1, "enums": 2}[endpoint]
    asker.simulator.set_faults()
    assert asker.check().passed


def test_a_record_that_cannot_be_read_is_none(asker: Asker) -> None:
    """A record that an earlier version wrote in another form is asked for again."""
    assert asker.check().passed
    (record,) = asker.lake.storage.names("registries")
    asker.lake.storage.write_bytes(f"registries/{record}", b'{"source": 1}')
    assert recorded_model(asker.lake.storage, asker.client.api_url) is None
    before = asker.asked()
    assert asker.check().passed
    assert asker.asked() - before == 2


def test_recorded_answers_can_be_read_gzipped_or_not(tmp_path: Path) -> None:
    """Files as the registry sends them, compressed or not, give the same model."""
    plain = [tmp_path / name for name in ("metadata.json", "enums.json")]
    zipped = [tmp_path / name for name in ("metadata.json.gz", "enums")]
    for answer, path, packed in zip(recorded_answers(), plain, zipped, strict=True):
        path.write_bytes(answer)
        packed.write_bytes(gzip.compress(answer))
    assert read_published_model(*plain) == read_published_model(*zipped)


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"[]", b"[{}]", b"\x1f\x8bnonsense"])
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """What is no answer of the registry, or an empty one, is not learned from."""
    other = tmp_path / "other.json"
    other.write_bytes(content)
    enums = tmp_path / "enums.json"
    enums.write_bytes(recorded_answers()[1])
    with pytest.raises(RecordedAnswerError, match=r"other\.json"):
        read_published_model(other, enums)
