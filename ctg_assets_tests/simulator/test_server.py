"""The stand-in API as clients see it, against the registry's OpenAPI document and recorded answers."""

from __future__ import annotations

import gzip
import json
from functools import cache
from itertools import chain, pairwise
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # ships no types

from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import FileSource, GeneratedSource, StudySource
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.conftest import STUDIES
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, numbered_studies, study
from ctg_assets_tests.simulator.walking import nct_ids, pages

# Hypothesis runs many examples within one use of a fixture; here each example sets its own data version.
ON_SHARED_SERVER = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@cache
def _components() -> dict[str, Any]:
    text = shared_path("spec/ctg-oas-v2.0.5.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document["components"]  # type: ignore[no-any-return] # the document is untyped


def violations(schema: str, value: object) -> list[str]:
    """How a value breaks one of the OpenAPI document's schemas."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": _components()}
    return [error.message for error in Draft202012Validator(root).iter_errors(value)]


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/studies?pageSize=30&countTotal=true", "PagedStudies"),
        ("/studies?fields=NCTId|Phase|LocationCity", "PagedStudies"),
        ("/studies?query.term=nothingmatchesthis", "PagedStudies"),
        ("/studies/{nct_id}", "Study"),
        ("/studies/metadata", "FieldNodeList"),
        ("/studies/enums", "EnumInfoList"),
        ("/stats/size", "GzipStats"),
        ("/version", "Version"),
    ],
)
def test_answers_follow_the_openapi_document(
    simulator: RunningSimulator, client: httpx.Client, path: str, schema: str
) -> None:
    """Every answer is JSON of the documented schema."""
    source = GeneratedSource(60, seed=3)
    simulator.advance(source)
    answer = client.get(path.format(nct_id=source.nct_id(0)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert violations(schema, answer.json()) == []


def test_the_openapi_check_can_fail() -> None:
    """The schemas in use do refuse what is not theirs."""
    assert violations("PagedStudies", {"studies": [], "more": 1})
    assert violations("Version", {})


@pytest.mark.parametrize("page", ["0f10f3a7", "d8b41ec8"])
def test_recorded_pages_are_served_as_recorded(
    simulator: RunningSimulator, client: httpx.Client, page: str
) -> None:
    """A page of recorded studies equals the recorded page, but for order and its opaque token."""
    name = f"ctg/pages/page__cyanheads+clinicaltrialsgov-mcp-server__{page}.json.gz"
    with gzip.open(shared_path(name)) as stream:
        recorded = json.load(stream)
    simulator.advance(InMemorySource(recorded["studies"]))
    served = client.get("/studies", params={"pageSize": len(recorded["studies"])}).json()
    assert served.keys() == recorded.keys()
    assert sorted(nct_ids(served)) == sorted(nct_ids(recorded))
    assert all(item in recorded["studies"] for item in served["studies"])


@pytest.mark.slow
def test_real_studies_pass_through_byte_for_byte(
    simulator: RunningSimulator, client: httpx.Client
) -> None:
    """Each study of a real file stands on a line of its own, exactly as in the file."""
    source = FileSource(shared_path("ctg/studies.jsonl.gz"))
    simulator.advance(source)
    head, *lines, tail = client.get("/studies", params={"pageSize": 1000}).content.split(b"\n")
    assert head == b'{"studies":['
    assert tail.startswith(b'],"nextPageToken":"')
    assert len(lines) == 1000
    served = [line.removesuffix(b",") for line in lines]
    assert set(served) <= {source.raw(index) for index in range(len(source))}
    assert len(set(served)) == 1000


@ON_SHARED_SERVER
@given(st.integers(0, 60), st.integers(1, 25))
def test_walk_gives_each_study_once(
    simulator: RunningSimulator, client: httpx.Client, count: int, size: int
) -> None:
    """A walk sees every study once; all pages but the last are full; a full last page has a successor."""
    simulator.advance(numbered_studies(count))
    walk = list(pages(client, pageSize=size, countTotal="true"))
    found = [nct_ids(page) for page in walk]
    assert sorted(chain.from_iterable(found)) == [nct_id(number) for number in range(1, count + 1)]
    assert [len(ids) for ids in found] == [size] * (count // size) + [count % size]
    assert [page.get("totalCount") for page in walk] == [count] + [None] * (len(walk) - 1)


@ON_SHARED_SERVER
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_page_size_may_change_between_pages(
    simulator: RunningSimulator, client: httpx.Client, sizes: list[int]
) -> None:
    """Pages of different sizes continue one another without gap or overlap."""
    whole = nct_ids(client.get("/studies", params={"pageSize": 1000}).json())
    seen: list[str] = []
    token: str | None = None
    for size in sizes:
        parameters = {"pageSize": str(size)} | ({"pageToken": token} if token else {})
        page = client.get("/studies", params=parameters).json()
        seen += nct_ids(page)
        token = page.get("nextPageToken")
        if token is None:
            break
    assert seen == whole[: len(seen)]
    assert len(seen) == min(25, sum(size or 10 for size in sizes))


def test_tokens_are_the_same_for_the_same_page(client: httpx.Client) -> None:
    """Walking twice gives the same tokens, as the real API does within a data version."""
    first, second = (
        [page.get("nextPageToken") for page in pages(client, pageSize=5)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first) == 6


def test_tokens_survive_a_restart() -> None:
    """A crawl interrupted by a restart of the simulator goes on with the token it has."""
    token = None
    seen: list[str] = []
    for _ in range(3):
        with running_simulator(STUDIES) as simulator:
            asked = {"pageSize": "10"} | ({"pageToken": token} if token else {})
            page = httpx.get(f"{simulator.api_url}/studies", params=asked).json()
        seen += nct_ids(page)
        token = page.get("nextPageToken")
    assert token is None
    assert sorted(seen) == [nct_id(number) for number in range(1, 26)]


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"pageSize": "7"}, True),
        ({"countTotal": "true"}, True),
        ({"fields": "NCTId"}, False),
        ({"query.term": "asthma"}, False),
        ({"sort": "StartDate"}, False),
        ({"format": "json"}, False),
    ],
)
def test_tokens_hold_within_one_query(
    client: httpx.Client, change: dict[str, str], holds: bool
) -> None:
    """Only page size, token and count may differ between the pages of a walk."""
    token = client.get("/studies", params={"pageSize": "5"}).json()["nextPageToken"]
    answer = client.get("/studies", params={"pageSize": "5", "pageToken": token, **change})
    assert answer.status_code == (200 if holds else 400)


def test_tokens_hold_within_one_data_version(
    simulator: RunningSimulator, client: httpx.Client
) -> None:
    """A token of yesterday's data is refused, though the studies are the same."""
    token = client.get("/studies").json()["nextPageToken"]
    assert client.get("/studies", params={"pageToken": token}).status_code == 200
    simulator.advance()
    answer = client.get("/studies", params={"pageToken": token})
    assert answer.status_code == 400
    assert answer.text == "Parameter `pageToken` is invalid for this query and data version"


def test_total_comes_with_the_first_page_only(client: httpx.Client) -> None:
    """`totalCount` is there when asked for, counts the query, and ignores later requests for it."""
    assert "totalCount" not in client.get("/studies").json()
    parameters = {"countTotal": "true", "filter.advanced": "AREA[Phase]PHASE2", "pageSize": "5"}
    first = client.get("/studies", params=parameters).json()
    assert first["totalCount"] == 13
    token = first["nextPageToken"]
    second = client.get("/studies", params={**parameters, "pageToken": token}).json()
    assert "totalCount" not in second
    assert len(second["studies"]) == 5


def test_sorted_walk_keeps_its_order_over_pages(client: httpx.Client) -> None:
    """A sorted query is sorted over all its pages together."""
    walk = pages(client, pageSize=4, sort="LastUpdatePostDate:asc")
    ids = [found for page in walk for found in nct_ids(page)]
    assert all(before < after for before, after in pairwise(ids))
    assert len(ids) == 25


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/studies?pageSize=-1", 400, "Parameter `pageSize` has incorrect format"),
        ("/studies?pageSize=many", 400, "Parameter `pageSize` has incorrect format"),
        ("/studies?countTotal=yes", 400, "Parameter `countTotal` has incorrect format"),
        ("/studies?filter.phase=PHASE3", 400, "`filter.phase` is unknown parameter"),
        ("/studies?format=xml", 400, "Invalid value in parameter `format`: `xml`"),
        ("/studies?pageToken=abracadabra", 400, "Parameter `pageToken` is invalid"),
        ("/studies?filter.ids=XYZ", 400, "Item 1 in parameter `filter.ids` has incorrect format"),
        ("/studies?fields=", 400, "Item 1 in parameter `fields` has incorrect format"),
        ("/studies?fields=BadField", 400, "Unknown piece name of field path: BadField"),
        ("/studies?fields=ConditionList", 500, "Internal Server Error"),
        ("/studies?format=csv", 501, "The simulator does not know `format=csv`"),
        ("/studies?aggFilters=phase:3", 501, "The simulator does not know parameter `aggFilters`"),
        ("/studies/XYZ", 400, "Parameter `nctId` has incorrect format"),
        ("/studies/NCT99999999", 404, "NCT number NCT99999999 not found"),
        ("/studies/NCT00000001?pageSize=3", 400, "`pageSize` is unknown parameter"),
        ("/version?x=1", 400, "`x` is unknown parameter"),
        ("/studies/metadata?includeHistoricOnly=true", 501, "The simulator does not know"),
        ("/nowhere", 404, "Not Found"),
        ("/studies/", 404, "Not Found"),
        ("/studies/NCT00000001/history", 404, "Not Found"),
    ],
)
def test_refusals_are_plain_text(client: httpx.Client, path: str, status: int, text: str) -> None:
    """What cannot be answered is refused in plain text, in the registry's words where known."""
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith(text)


def test_only_reading_is_allowed(client: httpx.Client) -> None:
    """HEAD answers like GET without a body; other methods are 405."""
    head = client.head("/version")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == client.get("/version").headers["content-length"]
    assert client.post("/studies").status_code == 405


def test_single_study(client: httpx.Client) -> None:
    """A study is found by its id in any spelling, whole or cut down to fields."""
    assert client.get("/studies/NCT00000003").content == STUDIES.raw(2)
    assert client.get("/studies/nct3").content == STUDIES.raw(2)
    assert client.get("/studies/NCT00000003?fields=NCTId").json() == {
        "protocolSection": {"identificationModule": {"nctId": "NCT00000003"}}
    }


def test_alias_is_moved_permanently(client: httpx.Client) -> None:
    """An obsolete id answers 301 to the surviving study, keeping the parameters."""
    answer = client.get("/studies/NCT00000905?fields=NCTId")
    assert answer.status_code == 301
    followed = client.get("/studies/NCT00000905?fields=NCTId", follow_redirects=True)
    assert followed.url.path.endswith("/studies/NCT00000005")
    assert followed.json()["protocolSection"] == {"identificationModule": {"nctId": "NCT00000005"}}


def test_version_moves_with_the_data(simulator: RunningSimulator, client: httpx.Client) -> None:
    """`dataTimestamp` is a timestamp without offset that grows with each data version."""
    before = client.get("/version").json()
    assert before["apiVersion"] == "2.0.5"
    simulator.advance()
    after = client.get("/version").json()["dataTimestamp"]
    assert len(after) == len("2026-03-02T09:00:05")
    assert after > before["dataTimestamp"]


def test_studies_change_with_the_data_version() -> None:
    """A source callback makes the next version's studies, and the queries see them."""

    def one_more(source: StudySource, version: int) -> StudySource:
        return InMemorySource([study(number) for number in range(1, len(source) + 2)])

    options = SimulatorOptions(next_source=one_more)
    with running_simulator(numbered_studies(3), options) as simulator:
        url = f"{simulator.api_url}/studies"
        counts = []
        for _ in range(3):
            page = httpx.get(url, params={"countTotal": "true", "pageSize": "1"}).json()
            counts.append(page["totalCount"])
            httpx.post(f"{simulator.base_url}/simulator/advance").raise_for_status()
        assert counts == [3, 4, 5]


def test_controls(simulator: RunningSimulator, client: httpx.Client) -> None:
    """The controls move the data, set faults and show state and requests, outside the API's log."""
    controls = f"{simulator.base_url}/simulator"
    known = len(simulator.requests)
    state = client.get(f"{controls}/state").json()
    assert state["studies"] == 25
    moved = client.post(f"{controls}/advance").json()
    assert moved["version"] == state["version"] + 1
    assert moved["dataTimestamp"] == client.get("/version").json()["dataTimestamp"]
    faults = client.put(f"{controls}/faults", json=["request=1@version:502"])
    assert faults.json() == [{"fault": "request=1@version:502", "struck": 0}]
    assert client.get("/version").status_code == 502
    assert client.get(f"{controls}/state").json()["faults"][0]["struck"] == 1
    refused = client.put(f"{controls}/faults", json=["page=1:explode"])
    assert (refused.status_code, "KIND is" in refused.text) == (400, True)
    token = client.get("/studies").json()["nextPageToken"]
    client.post(f"{controls}/expire-tokens")
    assert client.get("/studies", params={"pageToken": token}).status_code == 400
    logged = client.get(f"{controls}/requests").json()[known:]
    assert [item["status"] for item in logged] == [200, 502, 200, 400]
    assert client.get(f"{controls}/advance").status_code == 405


def test_large_sources_say_that_sizes_are_sampled(
    simulator: RunningSimulator, client: httpx.Client
) -> None:
    """Sizes measured on a sample are marked as such by a header."""
    assert "x-simulator-sample" not in client.get("/stats/size").headers
    simulator.advance(numbered_studies(2500))
    sizes = client.get("/stats/size")
    assert sizes.headers["x-simulator-sample"] == "2000"
    assert sizes.json()["totalStudies"] == 2500
