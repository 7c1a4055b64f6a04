"""Both of WHO's APIs behind one interface: pages of rows, byte for byte as they were sent.

GHO (OData) gives an indicator in one answer, without saying so: its rows are compared with `@odata.count`, and
next links are followed if they ever come. xMart gives pages by `$top` and `$skip`, in the order of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ctg_assets.registry.errors import (
    BadRequestError,
    NotFoundError,
    PermanentRegistryError,
    TransientRegistryError,
)
from ctg_assets.registry.refusals import excerpt
from ctg_assets.registry.requests import ApiRequests
from ctg_assets.who.errors import IncompleteAnswerError, NextLinkError
from ctg_assets.who.indicators import DialectName, Indicator

START = ""
"""The position of the first page."""


@dataclass(frozen=True)
class RowPage:
    """Rows as they were sent; how many the API counts in all pages, if it says so; where the next page is."""

    rows: list[bytes]
    count: int | None
    next_position: str | None


class Dialect(Protocol):
    """How an API is asked for the rows of an indicator."""

    def page(
        self,
        requests: ApiRequests,
        indicator: Indicator,
        position: str,
        before: Collection[str],
    ) -> RowPage:
        """The page at a position, after pages at those `before`; raises RegistryError."""


class _Envelope(msgspec.Struct):
    value: list[msgspec.Raw]
    count: int | None = msgspec.field(name="@odata.count", default=None)
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)


class _GhoDialect:
    def page(
        self,
        requests: ApiRequests,
        indicator: Indicator,
        position: str,
        before: Collection[str],
    ) -> RowPage:
        parameters = {"$count": "true"} | (
            {"$filter": indicator.filter} if indicator.filter else {}
        )
        answer = (
            _ask(requests, indicator, position, {})
            if position
            else _ask(requests, indicator, f"/{indicator.asked_for}", parameters)
        )
        following = answer.next_link or None
        if following is not None:
            _require_onwards(requests, following, {*before, position})
        return RowPage(list(map(bytes, answer.value)), _counted(answer), following)


class _XmartDialect:
    def page(
        self,
        requests: ApiRequests,
        indicator: Indicator,
        position: str,
        before: Collection[str],  # noqa: ARG002 - every position is further on
    ) -> RowPage:
        skip = int(position or "0")
        parameters = {
            "$top": str(indicator.page_size),
            "$skip": str(skip),
            "$orderby": indicator.order_by,
            "$count": "true",
        }
        if indicator.filter:
            parameters["$filter"] = indicator.filter
        answer = _ask(requests, indicator, f"/{indicator.asked_for}", parameters)
        rows, count = list(map(bytes, answer.value)), _counted(answer)
        reached = skip + len(rows)
        # Without a count only a page that is not full tells the end; a server may also give less than was asked for.
        is_last = reached >= count if count is not None else len(rows) < indicator.page_size
        if not rows and not is_last:
            message = (
                f"{requests.api.url}/{indicator.asked_for} counts {count:,} rows and has none after {skip:,}; its data "
                "may have moved. Try again"
            )
            raise IncompleteAnswerError(message)
        return RowPage(rows, count, None if is_last else str(reached))


def dialect_of(indicator: Indicator) -> Dialect:
    """How an indicator is asked for."""
    return _GhoDialect() if indicator.dialect is DialectName.GHO else _XmartDialect()


def _counted(answer: _Envelope) -> int | None:
    """What was counted; xMart says -1 where it did not."""
    return None if answer.count is None or answer.count < 0 else answer.count


def _require_onwards(requests: ApiRequests, link: str, before: Collection[str]) -> None:
    if link in before:
        message = (
            f"{requests.api.url} gave the next link {link} a second time; following it would never end. Nothing of this "
            "answer is used"
        )
        raise NextLinkError(message)
    own, other = urlsplit(requests.api.url), urlsplit(link)
    if (own.scheme, own.netloc) != (other.scheme, other.netloc):
        message = (
            f"{requests.api.url} gave the next link {link}, which leads to another server and was not followed; if it is "
            f"WHO's, set {requests.api.setting} to it"
        )
        raise NextLinkError(message)


def _ask(
    requests: ApiRequests, indicator: Indicator, path: str, parameters: dict[str, str]
) -> _Envelope:
    # Spelled as WHO's own pages do: `$` as it is, and no `+` for a blank.
    query = urlencode(parameters, safe="$", quote_via=quote)
    asked = f"{path}?{query}" if query else path
    try:
        return requests.get(asked, {}, _reader(path, requests.api.url, requests.api.setting))
    except BadRequestError as error:
        message = (
            f"indicator {indicator.code} was refused: {error}. Correct its entity, filter or order_by "
            "(`ctg-assets who list` shows the file)"
        )
        raise BadRequestError(message) from error
    except NotFoundError as error:
        message = f"indicator {indicator.code} is not there: {error} Or WHO has renamed it, or given it up"
        raise NotFoundError(message) from error


def _reader(path: str, url: str, setting: str) -> Callable[[bytes], _Envelope]:
    def read(body: bytes) -> _Envelope:
        try:
            return msgspec.json.decode(body, type=_Envelope)
        except msgspec.ValidationError as error:
            message = (
                f"{url}, asked for {path}, answered with JSON of another shape ({error}): {excerpt(body)}; is {setting} "
                "right?"
            )
            raise PermanentRegistryError(message) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = (
                f"{url}, asked for {path}, answered with broken JSON ({error}): {excerpt(body)}"
            )
            raise TransientRegistryError(message) from error

    return read
