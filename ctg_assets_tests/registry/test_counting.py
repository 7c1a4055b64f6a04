"""What is counted of requests to the registry."""

from __future__ import annotations

import httpx
import pytest

from ctg_assets.metrics import REQUESTS, REQUESTS_FAILED
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import RegistryError
from ctg_assets_tests.registry.clock import FakeClock
from ctg_assets_tests.support.counting import NotedCounters
from ctg_assets_tests.support.registries import API_URL

PAGE = httpx.Response(200, content=b'{"studies":[]}')


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Simulated time for client and counting."""
    clock = FakeClock()
    clock.install(monkeypatch)
    return clock


class SlowLimit:
    """A limit that makes everybody wait for a minute."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def acquire(self) -> None:
        """Wait."""
        self._clock.sleep(60)


def client_with(
    clock: FakeClock, counters: NotedCounters, *answers: httpx.Response | Exception
) -> RegistryClient:
    """A client of a registry that gives these answers, each after two seconds."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        clock.sleep(2)
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    return RegistryClient(
        API_URL,
        rate_limit=SlowLimit(clock),
        user_agent="tests",
        read_timeout_seconds=30,
        retry_seconds=600,
        transport=httpx.MockTransport(answer),
        counters=counters,
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (httpx.Response(429), "429"),
        (httpx.Response(503), "503"),
        (httpx.Response(200, content=b"<html></html>"), "unusable"),
        (httpx.Response(200, content=b'{"studies":['), "unusable"),
        (httpx.ConnectError("refused"), "no answer"),
        (httpx.ReadTimeout("too slow"), "no answer"),
    ],
)
def test_a_request_that_brought_nothing_is_counted_with_the_reason(
    failure: httpx.Response | Exception, reason: str, clock: FakeClock
) -> None:
    """It and the next one that brings a page are two requests, one of them failed."""
    counters = NotedCounters()
    client_with(clock, counters, failure, PAGE).page(PageRequest("", 10))
    assert counters.of(REQUESTS.name) == {("/studies",): 2}
    assert counters.of(REQUESTS_FAILED.name) == {("/studies", reason): 1}
    # Of both, whatever was waited for before or between.
    assert counters.of("etl_api_request_duration_seconds_sum") == {("/studies",): pytest.approx(4)}
    assert counters.of("etl_api_request_duration_seconds_bucket") == {("/studies", "2.5"): 2}


def test_a_failure_for_good_is_counted_once(clock: FakeClock) -> None:
    """A request that is not tried again has failed like any other, under its own endpoint."""
    counters = NotedCounters()
    client = client_with(clock, counters, httpx.Response(403))
    with pytest.raises(RegistryError):
        client.version()
    assert counters.of(REQUESTS.name) == {("/version",): 1}
    assert counters.of(REQUESTS_FAILED.name) == {("/version", "403"): 1}


def test_a_redirect_costs_a_request_of_its_own(clock: FakeClock) -> None:
    """Both are counted, as the limit counts them; where it leads to elsewhere, the endpoint is another one."""
    counters = NotedCounters()
    moved = httpx.Response(302, headers={"Location": "https://elsewhere.example/x"})
    client_with(clock, counters, moved, PAGE).page(PageRequest("", 10))
    assert counters.of(REQUESTS.name) == {("/studies",): 1, ("other",): 1}
    assert counters.of(REQUESTS_FAILED.name) == {}


def test_a_request_is_counted_before_it_is_sent(clock: FakeClock) -> None:
    """What is killed while it waits for an answer has been asked of the registry all the same."""
    counters = NotedCounters()

    def answer(_: httpx.Request) -> httpx.Response:
        assert counters.of(REQUESTS.name) == {("/version",): 1}
        raise KeyboardInterrupt

    client = RegistryClient(
        API_URL,
        rate_limit=SlowLimit(clock),
        user_agent="tests",
        read_timeout_seconds=30,
        retry_seconds=600,
        transport=httpx.MockTransport(answer),
        counters=counters,
    )
    with pytest.raises(KeyboardInterrupt):
        client.version()
    assert counters.of(REQUESTS_FAILED.name) == {}
