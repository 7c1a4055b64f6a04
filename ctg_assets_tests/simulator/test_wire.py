"""What faults, rate limit, latency and compression look like from a client, and in the request log."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.rate_window import RateWindow
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.simulator.in_memory import numbered_studies
from ctg_assets_tests.simulator.walking import nct_ids, pages


@pytest.mark.parametrize("status", [500, 502, 503, 403, 429])
def test_status_faults(simulator: RunningSimulator, client: httpx.Client, status: int) -> None:
    """A status fault answers with that status once; the next request is served."""
    simulator.set_faults(f"request=1:{status}")
    assert client.get("/studies").status_code == status
    assert client.get("/studies").status_code == 200
    assert [(item.status, item.fault) for item in simulator.requests[-2:]] == [
        (status, f"request=1:{status}"),
        (200, None),
    ]


def test_status_fault_with_retry_after(simulator: RunningSimulator, client: httpx.Client) -> None:
    """A status fault may tell the client how long to wait; without a value it does not."""
    simulator.set_faults("request=1:503=7", "request=2:503")
    assert client.get("/studies").headers["retry-after"] == "7"
    assert "retry-after" not in client.get("/studies").headers


@pytest.mark.parametrize(("kind", "status"), [("html", 200), ("html-503", 503)])
def test_html_faults(
    simulator: RunningSimulator, client: httpx.Client, kind: str, status: int
) -> None:
    """An HTML fault gives a page of HTML where JSON belongs, in good and in bad status."""
    simulator.set_faults(f"request=1:{kind}")
    answer = client.get("/studies")
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("fault", "status", "failure"),
    [
        ("reset", None, httpx.ReadError),
        ("timeout", None, httpx.ReadTimeout),
        ("timeout=0.01", None, httpx.ReadError),
        ("reset-body", 200, httpx.ReadError),
        ("timeout-body", 200, httpx.ReadTimeout),
        ("truncate", 200, httpx.RemoteProtocolError),
    ],
)
def test_broken_connections(
    simulator: RunningSimulator, fault: str, status: int | None, failure: type[Exception]
) -> None:
    """Each way to break a connection fails in the client as it does with a real server."""
    simulator.set_faults(f"request=1:{fault}")
    with httpx.Client(base_url=simulator.api_url, timeout=0.3) as client:
        with pytest.raises(failure):
            client.get("/studies")
        assert client.get("/version").status_code == 200
    broken = simulator.requests[-2]
    assert broken.status == status
    assert broken.fault == f"request=1:{fault.partition('=')[0]}"


def _collect(chunks: Iterable[bytes], received: bytearray) -> None:
    """Add chunks to what was received, as far as they come."""
    for chunk in chunks:
        received += chunk


def test_broken_bodies_have_heads(simulator: RunningSimulator, client: httpx.Client) -> None:
    """A body that breaks off does so after a good head and a part of the body."""
    simulator.set_faults("request=1:truncate")
    with client.stream("GET", "/studies", headers={"accept-encoding": "identity"}) as answer:
        assert answer.status_code == 200
        received = bytearray()
        with pytest.raises(httpx.RemoteProtocolError):
            _collect(answer.iter_bytes(), received)
    assert 0 < len(received) < int(answer.headers["content-length"])
    assert received.startswith(b'{"studies":[')


@pytest.mark.parametrize("kind", ["cut", "malformed"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_broken_json(
    simulator: RunningSimulator, client: httpx.Client, kind: str, encoding: str
) -> None:
    """A complete, correctly compressed answer with status 200 whose JSON cannot be read."""
    simulator.set_faults(f"request=1:{kind}")
    answer = client.get("/studies", headers={"accept-encoding": encoding})
    assert answer.status_code == 200
    assert answer.headers.get("content-encoding", "identity") == encoding
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_trickle_is_slow_but_whole(simulator: RunningSimulator, client: httpx.Client) -> None:
    """A trickled answer arrives in many pieces and is the answer that would have come at once."""
    headers = {"accept-encoding": "identity"}
    expected = client.get("/studies", headers=headers).content
    simulator.set_faults("request=1:trickle=0.2")
    with client.stream("GET", "/studies", headers=headers) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 5
    assert b"".join(pieces) == expected


def test_expired_tokens(simulator: RunningSimulator, client: httpx.Client) -> None:
    """After an expiry, tokens issued before are refused; the data are as before and walk anew."""
    before = client.get("/version").json()
    simulator.set_faults("page=2:expire-tokens")
    walk = pages(client, pageSize=10)
    next(walk)
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        next(walk)
    assert refusal.value.response.status_code == 400
    assert refusal.value.response.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get("/version").json() == before
    assert sum(len(page["studies"]) for page in pages(client, pageSize=10)) == 25


def test_new_data_in_mid_crawl(simulator: RunningSimulator, client: httpx.Client) -> None:
    """When the data version moves under a walk, its token is refused and the timestamp is a new one."""
    before = client.get("/version").json()["dataTimestamp"]
    simulator.set_faults("page=2:new-data")
    walk = pages(client, pageSize=10)
    next(walk)
    with pytest.raises(httpx.HTTPStatusError):
        next(walk)
    assert client.get("/version").json()["dataTimestamp"] > before
    assert sum(len(page["studies"]) for page in pages(client, pageSize=10)) == 25


def test_page_faults_follow_the_walk(simulator: RunningSimulator, client: httpx.Client) -> None:
    """A page fault strikes the page of a walk, whatever was requested in between."""
    simulator.set_faults("page=3:500")
    walk = pages(client, pageSize=10)
    first, second = next(walk), next(walk)
    client.get("/version")
    with pytest.raises(httpx.HTTPStatusError):
        next(walk)
    asked = {"pageSize": "10", "pageToken": second["nextPageToken"]}
    assert len(nct_ids(client.get("/studies", params=asked).json())) == 5
    assert len(nct_ids(first)) == 10


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("gzip; q=1.0", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.0", None),
        ("identity", None),
        ("br", None),
    ],
)
def test_compression_when_accepted(
    client: httpx.Client, accepted: str, encoding: str | None
) -> None:
    """Answers are compressed when the client accepts gzip, and say the same either way."""
    plain = client.get("/studies", headers={"accept-encoding": "identity"})
    with client.stream("GET", "/studies", headers={"accept-encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == encoding
    assert int(answer.headers["content-length"]) == len(raw)
    assert (gzip.decompress(raw) if encoding else raw) == plain.content


def test_window_slides() -> None:
    """At most so many requests pass in any 60 seconds; refused ones do not count; waits are exact."""
    window = RateWindow(2)
    assert [window.seconds_to_wait(now) for now in (0.0, 10.0, 10.5, 59.9)] == [0, 0, 50, 1]
    assert [window.seconds_to_wait(now) for now in (60.0, 61.0, 70.0)] == [0, 9, 0]


def test_rate_limit_answers_429() -> None:
    """Over the limit every API request is 429 with a Retry-After within the minute, and is logged."""
    options = SimulatorOptions(requests_per_minute=3)
    with (
        running_simulator(numbered_studies(2), options) as simulator,
        httpx.Client(base_url=simulator.api_url) as client,
    ):
        answers = [client.get("/version") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert [item.status for item in simulator.requests] == [200, 200, 200, 429, 429]
        assert client.get(f"{simulator.base_url}/simulator/state").status_code == 200


def test_latency_precedes_answers() -> None:
    """No answer comes sooner than the latency."""
    with running_simulator(
        numbered_studies(1), SimulatorOptions(latency_seconds=0.05)
    ) as simulator:
        started = time.monotonic()
        assert httpx.get(f"{simulator.api_url}/version").status_code == 200
        assert time.monotonic() - started >= 0.05


def test_request_log(simulator: RunningSimulator, client: httpx.Client) -> None:
    """Every API request is logged with arrival time, path, query and data version, in order."""
    known = len(simulator.requests)
    before = time.time_ns()
    client.get("/studies", params={"query.term": "asthma", "pageSize": 1})
    client.head("/version")
    client.get("/nowhere")
    after = time.time_ns()
    records = simulator.requests[known:]
    assert [(item.method, item.path, item.query, item.status) for item in records] == [
        ("GET", "/api/v2/studies", "query.term=asthma&pageSize=1", 200),
        ("HEAD", "/api/v2/version", "", 200),
        ("GET", "/api/v2/nowhere", "", 404),
    ]
    times = [before, *(item.arrived_ns for item in records), after]
    assert times == sorted(times)
    assert [item.number for item in records] == [known + 1, known + 2, known + 3]
    assert {item.data_timestamp for item in records} == {simulator.version.data_timestamp}


def test_request_log_file_grows_over_restarts(tmp_path: Path) -> None:
    """The log file has a JSON object per request and is appended to by the next simulator."""
    log_file = tmp_path / "requests.jsonl"
    for _ in range(2):
        options = SimulatorOptions(request_log=log_file)
        with running_simulator(numbered_studies(1), options) as simulator:
            httpx.get(f"{simulator.api_url}/version")
            httpx.get(f"{simulator.api_url}/studies?pageSize=x")
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    assert [(line["number"], line["path"], line["status"]) for line in lines] == [
        (1, "/api/v2/version", 200),
        (2, "/api/v2/studies", 400),
    ] * 2
    assert all(line["settled"] for line in lines)
    assert [line["arrived_ns"] for line in lines] == sorted(line["arrived_ns"] for line in lines)
