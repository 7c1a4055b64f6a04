"""Fault plans: which requests go wrong, and how."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

FAULT_SYNTAX = """\
A fault is WHEN[@ENDPOINT]:KIND[=VALUE][xTIMES].

WHEN      page=N      the Nth page of a walk          (once, unless xTIMES says otherwise)
          request=N   the Nth request                 (once)
          every=N     every Nth request               (always)
          chance=P    each request with probability P (always; decided by --seed)
ENDPOINT  counts and hits only requests of studies, study, metadata, enums, size or version
KIND      500, 502, 503, 429 ... any status from 400 to 599; =SECONDS adds Retry-After
          403             refusal page of a firewall
          html, html-503  HTML page in place of JSON, with status 200 or the status given
          reset           connection reset before any answer
          reset-body      connection reset in the middle of the body
          timeout         silence before the answer, for =SECONDS (3600), then a reset
          timeout-body    the same in the middle of the body
          truncate        connection closed in the middle of the body, short of its Content-Length
          cut             complete answer whose JSON stops in the middle
          malformed       complete answer whose JSON has a syntax error
          trickle         body in small pieces over =SECONDS (2)
          expire-tokens   page tokens issued so far become invalid
          new-data        the data version moves on before the request is answered
TIMES     how often the fault strikes at most; x* is always

Examples: page=3:500   page=3:503=2x4   every=7:reset   chance=0.02:truncate   request=1@version:403
"""


class FaultSyntaxError(ValueError):
    """A text that is no fault; the message says which part is wrong and what is expected."""


class FaultKind(StrEnum):
    """How an answer goes wrong."""

    STATUS = "status"
    HTML = "html"
    RESET = "reset"
    RESET_BODY = "reset-body"
    TIMEOUT = "timeout"
    TIMEOUT_BODY = "timeout-body"
    TRUNCATE = "truncate"
    CUT = "cut"
    MALFORMED = "malformed"
    TRICKLE = "trickle"
    EXPIRE_TOKENS = "expire-tokens"
    NEW_DATA = "new-data"


class When(StrEnum):
    """How a fault chooses its requests."""

    PAGE = "page"
    REQUEST = "request"
    EVERY = "every"
    CHANCE = "chance"


ENDPOINTS = ("studies", "study", "metadata", "enums", "size", "version")

_DEFAULT_SECONDS = {
    FaultKind.TIMEOUT: 3600.0,
    FaultKind.TIMEOUT_BODY: 3600.0,
    FaultKind.TRICKLE: 2.0,
}
_FAULT = re.compile(
    r"(?P<when>[a-z]+)=(?P<at>[\d.]+)(?:@(?P<endpoint>[a-z]+))?"
    r":(?P<kind>[a-z-]+(?:-(?P<page_status>\d{3}))?|(?P<status>\d{3}))"
    r"(?:=(?P<seconds>\d+(?:\.\d+)?))?(?:x(?P<times>\d+|\*))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Fault:
    """One rule of a fault plan.

    `at` is a page or request number from 1, a period, or a probability, as `when` says. `status` is used
    by STATUS and HTML; `seconds` is the Retry-After of STATUS, else how long the fault lasts. `times` None
    means without end. Raises FaultSyntaxError for values that make no sense.
    """

    kind: FaultKind
    when: When
    at: float
    endpoint: str | None = None
    status: int = 200
    seconds: float | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.when is When.CHANCE:
            if not 0 <= self.at <= 1:
                message = f"chance={self.at:g}: a probability lies between 0 and 1"
                raise FaultSyntaxError(message)
        elif self.at < 1 or self.at != int(self.at):
            message = f"{self.when}={self.at:g}: expected a whole number from 1"
            raise FaultSyntaxError(message)
        if self.endpoint is not None and self.endpoint not in ENDPOINTS:
            message = f"@{self.endpoint}: the endpoints are {', '.join(ENDPOINTS)}"
            raise FaultSyntaxError(message)
        if self.kind is FaultKind.STATUS and not 400 <= self.status <= 599:
            message = f"{self.status}: a status fault has a status from 400 to 599"
            raise FaultSyntaxError(message)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that a text in FAULT_SYNTAX describes; raises FaultSyntaxError."""
        match = _FAULT.fullmatch(text.strip())
        if match is None:
            message = f"fault {text!r} is not WHEN[@ENDPOINT]:KIND[=VALUE][xTIMES]"
            raise FaultSyntaxError(message)
        try:
            when = When(match["when"])
            at = float(match["at"])
        except ValueError as error:
            message = f"fault {text!r}: WHEN is one of {', '.join(When)}, with a number"
            raise FaultSyntaxError(message) from error
        kind, status = _kind_and_status(text, match)
        once = when in {When.PAGE, When.REQUEST}
        times = {None: 1 if once else None, "*": None}.get(match["times"], -1)
        seconds = match["seconds"]
        return cls(
            kind,
            when,
            at,
            endpoint=match["endpoint"],
            status=status,
            seconds=_DEFAULT_SECONDS.get(kind) if seconds is None else float(seconds),
            times=int(match["times"]) if times == -1 else times,
        )

    def __str__(self) -> str:
        """The fault as a message names it."""
        where = f"@{self.endpoint}" if self.endpoint else ""
        what = f"{self.status}" if self.kind is FaultKind.STATUS else str(self.kind)
        if self.kind is FaultKind.HTML and self.status != 200:
            what = f"html-{self.status}"
        return f"{self.when}={self.at:g}{where}:{what}"


def _kind_and_status(text: str, match: re.Match[str]) -> tuple[FaultKind, int]:
    if match["status"]:
        return FaultKind.STATUS, int(match["status"])
    if match["page_status"]:
        name, status = match["kind"].rpartition("-")[0], int(match["page_status"])
    else:
        name, status = match["kind"], 200
    try:
        kind = FaultKind(name)
    except ValueError as error:
        kinds = ", ".join(kind for kind in FaultKind if kind is not FaultKind.STATUS)
        message = f"fault {text!r}: KIND is a status from 400 to 599 or one of {kinds}"
        raise FaultSyntaxError(message) from error
    if kind is FaultKind.STATUS or (match["page_status"] and kind is not FaultKind.HTML):
        message = f"fault {text!r}: only html takes a status, as html-503"
        raise FaultSyntaxError(message)
    return kind, status


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """The faults that texts in FAULT_SYNTAX describe; raises FaultSyntaxError."""
    return tuple(Fault.parse(text) for text in texts)


class FaultPlan:
    """Decides, request by request, which fault strikes. Not thread-safe: one server asks.

    The same requests in the same order meet the same faults for the same seed.
    """

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self._faults = tuple(faults)
        self._struck = [0] * len(self._faults)
        self._requests: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - repeatable dice, not secrets

    def next_fault(self, endpoint: str, page: int | None) -> Fault | None:
        """The fault that strikes the next request, of this endpoint and, if it asks for one, this page.

        Of several that would, the one named first; the others are not used up by it.
        """
        self._requests.update((endpoint, ""))
        chosen: int | None = None
        for place, fault in enumerate(self._faults):
            # Every die is rolled at every request, so that one fault's luck never shifts another's.
            if self._strikes(place, fault, endpoint, page) and chosen is None:
                chosen = place
        if chosen is None:
            return None
        self._struck[chosen] += 1
        return self._faults[chosen]

    def _strikes(self, place: int, fault: Fault, endpoint: str, page: int | None) -> bool:
        lucky = fault.when is When.CHANCE and self._random.random() < fault.at
        if fault.endpoint not in {None, endpoint}:
            return False
        if fault.times is not None and self._struck[place] >= fault.times:
            return False
        number = self._requests[fault.endpoint or ""]
        match fault.when:
            case When.PAGE:
                return page == fault.at
            case When.REQUEST:
                return number == fault.at
            case When.EVERY:
                return number % int(fault.at) == 0
            case When.CHANCE:
                return lucky

    def summary(self) -> list[dict[str, object]]:
        """Each fault of the plan, and how often it has struck."""
        return [
            {"fault": str(fault), "struck": struck}
            for fault, struck in zip(self._faults, self._struck, strict=True)
        ]
