"""What the registry says about its data."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.simulator.catalog import SIZE_SAMPLE, enums, metadata, study_sizes
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.in_memory import InMemorySource, numbered_studies, study

# Titles, descriptions and rules are prose that the simulator does not repeat.
_STRUCTURE = {"name", "piece", "sourceType", "type", "isEnum", "nested"}


def _structure(node: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in node.items() if key in _STRUCTURE}
    if "children" in node:
        kept["children"] = [_structure(child) for child in node["children"]]
    return kept


def test_metadata_is_the_recorded_tree() -> None:
    """`/studies/metadata` has the structure of the real API's answer, node by node."""
    with gzip.open(shared_path("spec/studies-metadata.json.gz")) as recorded:
        assert metadata() == [_structure(node) for node in json.load(recorded)]


def test_enums_are_the_recorded_ones() -> None:
    """`/studies/enums` equals the real API's answer."""
    recorded = shared_path("spec/studies-enums.json").read_text(encoding="utf-8")
    assert enums() == json.loads(recorded)


def test_sizes_of_few_studies_are_exact() -> None:
    """Every study is measured when there are few."""
    source = InMemorySource([study(1, title="x" * 20_000), study(2), study(3)])
    lengths = [len(source.raw(index)) for index in range(3)]
    sizes = study_sizes(source)
    assert sizes["totalStudies"] == 3
    assert sizes["averageSizeBytes"] == sum(lengths) // 3
    assert sizes["largestStudies"][0] == {"id": "NCT00000001", "sizeBytes": lengths[0]}
    assert sizes["percentiles"]["99"] == lengths[0]
    assert {item["sizeRange"]: item["studiesCount"] for item in sizes["ranges"]}["0-5000"] == 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3 * SIZE_SAMPLE))
def test_sizes_add_up_when_sampled(count: int) -> None:
    """The total is exact and the ranges add up to it, however few studies were measured."""
    source = numbered_studies(count)
    sizes = study_sizes(source)
    assert source.read == min(count, SIZE_SAMPLE)
    assert sizes["totalStudies"] == count
    assert sum(item["studiesCount"] for item in sizes["ranges"]) == count
