"""The registry client against answers made up here; no network, no waiting."""

from __future__ import annotations

import email.utils
import gzip
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from ctg_assets.model.published import PublishedEnum, PublishedField, PublishedModel
from ctg_assets.registry.client import Page, PageRequest, RegistryClient, RegistryVersion
from ctg_assets.registry.errors import (
    BadRequestError,
    NotFoundError,
    PageTokenRejectedError,
    PermanentRegistryError,
    TransientRegistryError,
)
from ctg_assets_tests.registry.clock import FakeClock
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.published import recorded_answers

API = "https://registry.example/api/v2"
STUDY = b'{"protocolSection":{"identificationModule":{"nctId":"NCT00000001"}}}'
PAGE = b'{"studies":[' + STUDY + b'],"nextPageToken":"abc"}'
VERSION = b'{"apiVersion":"2.0.5","dataTimestamp":"2026-11-20T09:00:05"}'
HTML = b"\n  <!DOCTYPE html><html><body>Scheduled maintenance</body></html>"
FIRST = PageRequest("", 1000)
SECOND = PageRequest("", 1000, token="abc")

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class CountingLimit:
    """A rate limit that permits everything and counts."""

    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self) -> None:
        """Permit one more."""
        self.acquired += 1


class Registry:
    """A made-up registry: gives its answers one after the other, the last one for ever."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.limit = CountingLimit()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The next answer; an exception is raised as a failure of the transport."""
        assert self.limit.acquired == len(self.requests) + 1, "sent without asking the rate limit"
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        # A response can be read only once, and the last answer is given for ever.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def gzipped(content: bytes, _: httpx.Request) -> httpx.Response:
    """An answer whose body travels compressed."""
    return httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=content)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Simulated time for the client, stamina and tenacity."""
    clock = FakeClock()
    clock.install(monkeypatch)
    return clock


def client_of(registry: Registry, **options: Any) -> RegistryClient:
    """A client of a made-up registry."""
    arguments: dict[str, Any] = {
        "rate_limit": registry.limit,
        "user_agent": "tests/1 (of ctg-assets)",
        "read_timeout_seconds": 60.0,
        "retry_seconds": 0.0,
        "transport": httpx.MockTransport(registry.answer),
    }
    return RegistryClient(API, **{**arguments, **options})


def page_of(*answers: Answer, request: PageRequest = FIRST, **options: Any) -> Page:
    """The page that these answers to one call give."""
    with client_of(Registry(answers), **options) as client:
        return client.page(request)


def test_a_page() -> None:
    """A page has its studies' bytes, the next token, and when it was fetched in UTC."""
    before = datetime.now(UTC)
    page = page_of(httpx.Response(200, content=PAGE))
    assert page.studies == [STUDY]
    assert (page.next_token, page.total_count) == ("abc", None)
    assert before <= page.fetched_at <= datetime.now(UTC)
    assert page.fetched_at.utcoffset() == timedelta(0)
    assert page.seconds >= 0


def test_metadata_and_enums() -> None:
    """The registry's fields and values come as typed trees; what else is said of them is left out."""
    recorded = recorded_answers()
    registry = Registry([httpx.Response(200, content=answer) for answer in recorded])
    with client_of(registry) as client:
        metadata, enums = client.metadata(PublishedField), client.enums(PublishedEnum)
    assert [request.url for request in registry.requests] == [
        f"{API}/studies/metadata",
        f"{API}/studies/enums",
    ]
    assert PublishedModel(tuple(metadata), tuple(enums)) == PublishedModel.from_json(*recorded)
    (identification, *_) = metadata[0].children
    assert (identification.name, identification.source_type) == ("identificationModule", "STRUCT")
    assert enums[0].values[0].legacy_value == "U.S. NIH Grant/Contract"


@pytest.mark.parametrize(
    "ask",
    [lambda client: client.metadata(PublishedField), lambda client: client.enums(PublishedEnum)],
    ids=["metadata", "enums"],
)
def test_metadata_and_enums_fail_like_all_requests(ask: Callable[[RegistryClient], object]) -> None:
    """An outage is transient, JSON of another shape permanent."""
    with (
        client_of(Registry([httpx.Response(503)])) as client,
        pytest.raises(TransientRegistryError),
    ):
        ask(client)
    other = Registry([httpx.Response(200, json={"studies": []})])
    with client_of(other) as client, pytest.raises(PermanentRegistryError, match="another shape"):
        ask(client)


@pytest.mark.parametrize("end", [b"", b',"nextPageToken":null', b',"nextPageToken":""'])
def test_the_last_page_has_no_token(end: bytes) -> None:
    """However the registry spells that there is no next page, it is None."""
    page = page_of(httpx.Response(200, content=b'{"studies":[]' + end + b"}"))
    assert (page.studies, page.next_token) == ([], None)


def test_version_and_count() -> None:
    """The data version is told from /version, the count from countTotal with the page that is asked for."""
    registry = Registry(
        [
            httpx.Response(
                200, json={"apiVersion": "2.0.5", "dataTimestamp": "2026-11-20T09:00:05"}
            ),
            httpx.Response(200, json={"studies": [{}], "totalCount": 555}),
        ]
    )
    with client_of(registry) as client:
        assert client.version() == RegistryVersion("2.0.5", "2026-11-20T09:00:05")
        assert client.count(PageRequest("AREA[Phase]PHASE3 & more", 1, fields=("NCTId",))) == 555
    assert registry.requests[0].url == API + "/version"
    assert registry.requests[1].url.path == "/api/v2/studies"
    assert dict(registry.requests[1].url.params) == {
        "format": "json",
        "pageSize": "1",
        "query.term": "AREA[Phase]PHASE3 & more",
        "countTotal": "true",
        "fields": "NCTId",
    }


@pytest.mark.parametrize(
    ("request_", "parameters"),
    [
        (PageRequest("", 1000), {"pageSize": "1000"}),
        (PageRequest("", 7, count_total=True), {"pageSize": "7", "countTotal": "true"}),
        (
            PageRequest('AREA[X]"ü & b=c" OR d+e', 1000, token="a/b+c=&"),
            {
                "pageSize": "1000",
                "query.term": 'AREA[X]"ü & b=c" OR d+e',
                "pageToken": "a/b+c=&",
            },
        ),
        (
            PageRequest("asthma OR cough", 9, posted_since=date(2026, 1, 2)),
            {
                "pageSize": "9",
                "query.term": "asthma OR cough",
                "filter.advanced": "AREA[LastUpdatePostDate]RANGE[2026-01-02,MAX]",
            },
        ),
        (
            PageRequest("", 9, ids=("NCT00000001", "NCT00000002"), fields=("NCTId", "Phase")),
            {
                "pageSize": "9",
                "filter.ids": "NCT00000001|NCT00000002",
                "fields": "NCTId|Phase",
            },
        ),
    ],
)
def test_what_is_sent(request_: PageRequest, parameters: dict[str, str]) -> None:
    """A page is asked for with exactly these parameters, an honest user agent, and compression."""
    registry = Registry([httpx.Response(200, content=PAGE)])
    with client_of(registry) as client:
        client.page(request_)
    sent = registry.requests[0]
    assert sent.method == "GET"
    assert dict(sent.url.params) == {"format": "json", **parameters}
    assert request_.parameters() == dict(sent.url.params)
    assert sent.headers["User-Agent"] == "tests/1 (of ctg-assets)"
    assert sent.headers["Accept"] == "application/json"
    assert "gzip" in sent.headers["Accept-Encoding"]


def recorded_pages() -> list[Path]:
    """The recorded answers of the real registry."""
    return sorted(shared_path("ctg/pages").glob("*.json.gz"))


def _slices(page: bytes) -> list[bytes]:
    """Each study's part of a page, found with another JSON parser than the client's."""
    text = page.decode()
    decoder = json.JSONDecoder()
    position = text.index("[", text.index('"studies"')) + 1
    slices: list[bytes] = []
    while True:
        while text[position] in " \r\n\t,":
            position += 1
        if text[position] == "]":
            return slices
        _, end = decoder.raw_decode(text, position)
        slices.append(text[position:end].encode())
        position = end


def test_recorded_pages_are_kept_byte_for_byte() -> None:
    """Each study of a real, pretty-printed page comes out as exactly its bytes in the page."""
    pages = recorded_pages()
    assert pages
    for path in pages:
        compressed = path.read_bytes()
        body = gzip.decompress(compressed)
        page = page_of(partial(gzipped, compressed))
        assert page.studies == _slices(body), path.name
        assert page.studies, path.name
        assert page.next_token == json.loads(body).get("nextPageToken"), path.name


@pytest.mark.parametrize(
    "study",
    [
        b'{ "b" : 1.50,\n\t"a":1e3 ,"a" : "\\u00e9\\/\\ud83d\\ude00" }',
        b'{"big": 123456789012345678901234567890, "empty": {} , "n": null}',
        b'{"bad utf-8": "\xff"}',
    ],
)
def test_bytes_are_not_touched(study: bytes) -> None:
    """White space, escapes, order, repeated keys and the spelling of numbers survive."""
    body = b' {"studies": [ ' + study + b" ,\n" + STUDY + b" ] } "
    assert page_of(httpx.Response(200, content=body)).studies == [study, STUDY]


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (400, BadRequestError, "Unknown area name"),
        (401, PermanentRegistryError, "answered 401"),
        (403, PermanentRegistryError, "Check CTG_USER_AGENT"),
        (404, NotFoundError, "it ends in /api/v2"),
        (408, TransientRegistryError, "answered 408"),
        (410, PermanentRegistryError, "answered 410"),
        (429, TransientRegistryError, "answered 429"),
        (500, TransientRegistryError, "answered 500"),
        (502, TransientRegistryError, "answered 502"),
        (503, TransientRegistryError, "answered 503"),
        (599, TransientRegistryError, "answered 599"),
        (204, PermanentRegistryError, "answered 204"),
    ],
)
def test_each_status_is_a_typed_failure(status: int, kind: type[Exception], remedy: str) -> None:
    """What the registry answered, and what to do about it, is in a failure of the right kind."""
    with pytest.raises(kind) as failure:
        page_of(httpx.Response(status, text="Unknown area name: `X`" if status != 204 else ""))
    assert type(failure.value) is kind
    assert remedy in str(failure.value)
    assert f"{API}/studies?format=json&pageSize=1000 answered {status}" in str(failure.value)


def test_an_error_page_is_quoted_in_part() -> None:
    """Of a long or empty body the message shows what fits on a screen."""
    with pytest.raises(PermanentRegistryError) as failure:
        page_of(httpx.Response(418, content=b"\xff" + b"x" * 100_000))
    assert len(str(failure.value)) < 500
    with pytest.raises(PermanentRegistryError, match="empty body"):
        page_of(httpx.Response(418))


def test_a_refused_token_is_told_from_a_bad_request() -> None:
    """400 to a request with a token is about the token: the walk is to be planned anew."""
    refusal = httpx.Response(400, text="Invalid value in parameter `pageToken`")
    with pytest.raises(PageTokenRejectedError, match="no longer accepts page token 'abc'"):
        page_of(refusal, request=SECOND)
    with pytest.raises(BadRequestError):
        page_of(refusal, request=FIRST)


def test_a_permanent_failure_is_not_repeated(clock: FakeClock) -> None:
    """What cannot heal costs one request."""
    registry = Registry([httpx.Response(403)])
    with client_of(registry, retry_seconds=600) as client, pytest.raises(PermanentRegistryError):
        client.page(FIRST)
    assert len(registry.requests) == 1
    assert clock.sleeps == []


HEALING: list[Answer] = [
    httpx.Response(500),
    httpx.Response(429, text="Too many requests"),
    httpx.Response(200, content=HTML),
    httpx.Response(200, content=PAGE[:-9]),
    httpx.Response(200, content=b'{"studies":[{]}'),
    httpx.Response(200, content=b""),
    partial(gzipped, b"not gzip"),
    httpx.ConnectError("connection refused"),
    httpx.ReadTimeout("timed out"),
    httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
]


def test_what_may_heal_is_tried_again(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Overload, outages, broken connections and mangled answers are waited out, and logged."""
    registry = Registry([*HEALING, httpx.Response(200, content=PAGE)])
    with caplog.at_level(logging.WARNING), client_of(registry, retry_seconds=6000) as client:
        assert client.page(FIRST).studies == [STUDY]
    assert len(registry.requests) == len(HEALING) + 1
    assert registry.limit.acquired == len(registry.requests)
    logged = [record.getMessage() for record in caplog.records if "trying again" in record.message]
    assert len(logged) == len(HEALING)
    assert "answered 500" in logged[0]
    assert "ConnectError: connection refused" in logged[-3]
    # The pauses grow, up to a minute.
    assert clock.sleeps[0] <= 1.0 < clock.sleeps[3] < clock.sleeps[6] <= 60.0 == clock.sleeps[9]


@pytest.mark.parametrize("answer", HEALING)
def test_patience_ends(answer: Answer, clock: FakeClock) -> None:
    """What does not heal within the patience is raised as what it is, soon after."""
    started = clock.now
    with pytest.raises((TransientRegistryError, PermanentRegistryError)) as failure:
        page_of(answer, retry_seconds=100.0)
    assert clock.now - started <= 160.0
    assert API in str(failure.value)


def test_a_caller_in_a_hurry(clock: FakeClock) -> None:
    """A call's own patience wins over the client's; none at all means one attempt."""
    registry = Registry([httpx.Response(503)])
    with client_of(registry, retry_seconds=600) as client:
        with pytest.raises(TransientRegistryError):
            client.version(retry_seconds=0)
        assert len(registry.requests) == 1
        with pytest.raises(TransientRegistryError):
            client.version(retry_seconds=5)
    assert sum(clock.sleeps) < 10


def _in_seconds(seconds: float) -> str:
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 1999 23:59:59", 0.0),
        ("soon", None),
        ("-5", None),
        ("\u00b2", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_understood(header: str, seconds: float | None) -> None:
    """Both forms of Retry-After are read; what is neither counts as absent."""
    with pytest.raises(TransientRegistryError) as failure:
        page_of(httpx.Response(429, headers={b"Retry-After": header.encode("latin-1")}))
    assert failure.value.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    """A date means the seconds until then, also where its zone is spelt -0000."""
    for spell in (str, lambda text: text.replace("GMT", "-0000")):
        with pytest.raises(TransientRegistryError) as failure:
            page_of(httpx.Response(503, headers={"Retry-After": spell(_in_seconds(3600))}))
        assert failure.value.retry_after == pytest.approx(3600, abs=60)


def test_retry_after_as_a_date_goes_by_the_senders_clock() -> None:
    """Ours may be years off: what the answer says of its own time counts."""
    headers = {
        "Date": "Fri, 20 Nov 2020 09:00:05 GMT",
        "Retry-After": "Fri, 20 Nov 2020 09:00:35 GMT",
    }
    with pytest.raises(TransientRegistryError) as failure:
        page_of(httpx.Response(503, headers=headers))
    assert failure.value.retry_after == 30


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("2026-11-20T09:00:05Z", "2026-11-20T09:00:05"),
        ("2026-11-20T09:00:05+00:00", "2026-11-20T09:00:05"),
        ("2026-11-20T11:00:05+02:00", "2026-11-20T09:00:05"),
        ("2026-11-19T23:00:05-10:00", "2026-11-20T09:00:05"),
        ("20261120T090005", "2026-11-20T09:00:05"),
        ("2026-11-20 09:00:05", "2026-11-20T09:00:05"),
        ("2026-11-20", "2026-11-20T00:00:00"),
        ("0204-05-31T00:00:00", "0204-05-31T00:00:00"),
    ],
)
def test_a_data_version_has_one_spelling(said: str, counts: str) -> None:
    """The same time in another zone or spelling is the same data version."""
    answer = httpx.Response(200, json={"apiVersion": "2.0.5", "dataTimestamp": said})
    with client_of(Registry([answer])) as client:
        assert client.version().data_timestamp == counts


@pytest.mark.parametrize("said", ["", "yesterday", "2026-13-01T00:00:00", "0001-01-01T00:00+14:00"])
def test_a_garbled_data_version_is_asked_for_again(clock: FakeClock, said: str) -> None:
    """What is no time is no answer: the next one counts, and if none comes, what was said is told."""
    garbled = {"apiVersion": "2.0.5", "dataTimestamp": said}
    right = {"apiVersion": "2.0.5", "dataTimestamp": "2026-11-20T09:00:05"}
    answers = [httpx.Response(200, json=garbled), httpx.Response(200, json=right)]
    with client_of(Registry(answers), retry_seconds=600) as client:
        assert client.version().data_timestamp == "2026-11-20T09:00:05"
    with (
        client_of(Registry(answers[:1])) as client,
        pytest.raises(TransientRegistryError, match="which is no time") as failure,
    ):
        client.version(retry_seconds=0)
    assert repr(said) in str(failure.value)


def test_retry_after_is_honoured(clock: FakeClock) -> None:
    """The pause is the one that the registry asked for."""
    answers = [
        httpx.Response(429, headers={"Retry-After": "37"}),
        httpx.Response(200, content=PAGE),
    ]
    assert page_of(*answers, retry_seconds=600).studies == [STUDY]
    assert clock.sleeps == [37.0]


def test_retry_after_holds_for_all_requests(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one request waits as the registry asked, another does not go ahead of it."""
    sent_at = []

    def answer(status: int) -> Callable[[httpx.Request], httpx.Response]:
        def answered(request: httpx.Request) -> httpx.Response:
            sent_at.append(clock.now)
            content = PAGE if request.url.path.endswith("/studies") else VERSION
            return httpx.Response(status, headers={"Retry-After": "37"}, content=content)

        return answered

    registry = Registry([answer(429), answer(200)])
    with client_of(registry, retry_seconds=600) as client:
        sleep, asking = clock.sleep, [client.version]

        def ask_meanwhile(seconds: float) -> None:
            while asking:
                asking.pop()()
            sleep(seconds)

        clock.sleep = ask_meanwhile  # type: ignore[method-assign]
        clock.install(monkeypatch)
        started = clock.now
        client.page(FIRST)
    assert len(sent_at) == 3
    assert sent_at[0] == started
    assert min(sent_at[1:]) >= started + 37


def test_a_retry_after_beyond_our_patience_is_told_at_once(clock: FakeClock) -> None:
    """Nobody waits an hour to hear that it took too long; the failure says how long to wait."""
    with pytest.raises(TransientRegistryError, match="asks to wait 3600 s") as failure:
        page_of(httpx.Response(429, headers={"Retry-After": "3600"}), retry_seconds=600)
    assert failure.value.retry_after == 3600.0
    assert clock.sleeps == []


def test_html_five_times_is_a_wrong_url(clock: FakeClock) -> None:
    """An outage page heals; nothing but HTML means that the URL is not the API's."""
    registry = Registry([httpx.Response(200, content=HTML)])
    with (
        client_of(registry, retry_seconds=600) as client,
        pytest.raises(PermanentRegistryError, match=r"5 times in a row.*ends in /api/v2"),
    ):
        client.page(FIRST)
    assert len(registry.requests) == 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":404}',
        b"[]",
        b'"ok"',
        b'{"studies":{}}',
        b'{"studies":null}',
        b'{"studies":[],"nextPageToken":5}',
        b'{"studies":[],"totalCount":"many"}',
    ],
)
def test_json_of_another_shape_is_permanent(body: bytes) -> None:
    """Sound JSON that is no page comes from something that is not this API."""
    with pytest.raises(PermanentRegistryError, match=r"another shape.*CTG_API_URL"):
        page_of(httpx.Response(200, content=body))


@pytest.mark.parametrize(
    "body",
    [PAGE[:40], PAGE[:-1], b"", b"  ", PAGE + b"x", b'{"studies":[' + b"[" * 100_000, b"\xff\xfe"],
)
def test_broken_json_is_transient(body: bytes) -> None:
    """A body that is cut or garbled may arrive whole next time."""
    with pytest.raises(TransientRegistryError, match="broken JSON"):
        page_of(httpx.Response(200, content=body))


def test_a_count_of_what_was_posted_since_a_day() -> None:
    """The count is restricted as the pages of the walk will be."""
    registry = Registry([httpx.Response(200, json={"studies": [], "totalCount": 7})])
    since = date(2026, 11, 17)
    with client_of(registry) as client:
        assert client.count(PageRequest("asthma", 1, "token", posted_since=since)) == 7
    sent = dict(registry.requests[0].url.params)
    walk = PageRequest("asthma", 1, count_total=True, posted_since=since).parameters()
    assert sent == walk
    assert "pageToken" not in sent


def test_a_count_without_total_is_permanent() -> None:
    """A server that ignores countTotal is not the API; guessing a plan would lose studies."""
    registry = Registry([httpx.Response(200, json={"studies": []})])
    with client_of(registry) as client, pytest.raises(PermanentRegistryError, match="totalCount"):
        client.count(PageRequest("", 1))


class Trickle(httpx.SyncByteStream):
    """A body that arrives a byte at a time, each just before the read time-out."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        """Bytes without end."""
        while True:
            self.clock.now += self.seconds
            self.sent += 1
            yield b" "


def test_a_trickling_answer_ends(clock: FakeClock) -> None:
    """An answer that never stops arriving is given up after ten read time-outs."""
    trickle = Trickle(clock, seconds=59.0)
    with pytest.raises(TransientRegistryError, match="still sending after 600 s"):
        page_of(lambda _: httpx.Response(200, stream=trickle))
    assert trickle.sent == 11


def test_time_in_the_queue_is_no_time_of_the_answer(clock: FakeClock) -> None:
    """Waiting for the rate limit does not eat into the time an answer may take."""
    registry = Registry([httpx.Response(200, content=PAGE)])
    count = registry.limit.acquire

    def acquire() -> None:
        count()
        clock.now += 10_000

    registry.limit.acquire = acquire  # type: ignore[method-assign]
    with client_of(registry) as client:
        assert client.page(FIRST).seconds >= 10_000


def test_redirects_are_followed_and_counted() -> None:
    """Each request on the way to the answer goes through the rate limit."""
    moved = httpx.Response(301, headers={"Location": "https://registry.example/new/studies"})
    registry = Registry([moved, httpx.Response(200, content=PAGE)])
    with client_of(registry) as client:
        assert client.page(FIRST).studies == [STUDY]
    assert registry.limit.acquired == 2
    assert registry.requests[1].url.path == "/new/studies"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (httpx.Response(302, headers={"Location": API + "/studies"}), "redirect"),
        (httpx.UnsupportedProtocol("unsupported protocol 'htp'"), "htp"),
        (httpx.LocalProtocolError("illegal header value"), "illegal header"),
    ],
)
def test_requests_that_cannot_be_sent_are_permanent(answer: Answer, problem: str) -> None:
    """What no waiting mends is not waited for."""
    with pytest.raises(PermanentRegistryError, match=rf"(?i){problem}.*check CTG_API_URL"):
        page_of(answer, retry_seconds=600)


def test_failures_of_the_network_name_their_cause() -> None:
    """Even a failure without a text of its own says what kind it is and where to look."""
    with pytest.raises(TransientRegistryError, match=r"ReadError: no detail; check the network"):
        page_of(httpx.ReadError(""))


class _Held(httpx.BaseTransport):
    """A registry that answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.may_answer, self.closed = Event(), Event(), Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Wait, and answer."""
        self.asked.set()
        assert self.may_answer.wait(60)
        return httpx.Response(200, content=VERSION, request=request)

    def close(self) -> None:
        """Note that no connection is left."""
        self.closed.set()


def test_connections_are_closed_when_the_last_request_has_ended() -> None:
    """Who closes a client does not wait for requests of other threads, and these leave nothing open."""
    held = _Held()
    client = RegistryClient(
        API,
        rate_limit=CountingLimit(),
        user_agent="test",
        read_timeout_seconds=60,
        retry_seconds=0,
        transport=held,
    )
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.version)
        assert held.asked.wait(60)
        client.close()
        was_closed = held.closed.is_set()
        held.may_answer.set()
        assert answer.result().api_version == "2.0.5"
    assert (was_closed, held.closed.is_set()) == (False, True)
