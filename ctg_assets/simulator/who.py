"""A stand-in for both of WHO's APIs: GHO below `/gho`, xMart below `/xmart`, over rows that it is given.

It answers as the two were seen to: GHO with all rows at once (or with next links, if asked to), xMart with
pages by `$top` and `$skip`, `$count=true` in both, `/$count` with -1, 404 with an empty body, 400 with the text of
OData. Filters are comparisons by eq, ne, ge and le, joined by `and`; others are refused with 501.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from ctg_assets.simulator.middleware import TRANSPORT

GHO_PREFIX, XMART_PREFIX = "/gho", "/xmart"
_SORRY = "/sorry"

Row = dict[str, Any]

_MOST_ROWS = 120_000
_COMPARISON = re.compile(r"(\w+) (eq|ne|ge|le) (?:'([^']*)'|(-?[0-9]+))")
_BEYOND = {"$apply", "$expand", "$select", "$search"}


class WhoFault(StrEnum):
    """What can go wrong with an entity set's answers."""

    CUT_BODY = "cut_body"
    CUT_JSON = "cut_json"
    HTML = "html"
    SORRY = "sorry"
    CSV = "csv"
    BAD_REQUEST = "bad_request"
    OVERLOADED = "overloaded"
    EMPTY = "empty"
    SHORT = "short"
    REPEATED_LINK = "repeated_link"
    FOREIGN_LINK = "foreign_link"
    COLUMN_MORE = "column_more"
    COLUMN_LESS = "column_less"
    DUPLICATE_KEY = "duplicate_key"
    SAME_ROW_TWICE = "same_row_twice"


@dataclass
class WhoSimulator:
    """An ASGI application; `entities` has the rows of each entity set, `CODE` of GHO and `MART/TABLE` of xMart.

    `gho_page_size` makes GHO give next links. What `faults` has for an entity set is played until it is
    removed; `requests` are the paths asked for, in their order.
    """

    entities: dict[str, Sequence[Row]]
    gho_page_size: int | None = None
    says_count: bool = True
    faults: dict[str, WhoFault] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Be without rows, faults and memory of requests."""
        self.entities, self.faults, self.requests = {}, {}, []
        self.gho_page_size, self.says_count = None, True

    def stop(self) -> None:
        """No answer is ever held back."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        if request.url.path == _SORRY:
            answer: Response = Response("<html>Sorry</html>", media_type="text/html")
        else:
            answer = self._answer(request)
        if self._fault(request) is WhoFault.CUT_BODY:
            body = bytes(answer.body)
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            cut = body[: len(body) // 2]
            await send({"type": "http.response.body", "body": cut, "more_body": True})
            scope["extensions"][TRANSPORT].abort()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await answer(scope, receive, send)

    def _fault(self, request: Request) -> WhoFault | None:
        return self.faults.get(_entity(request.url.path))

    def _answer(self, request: Request) -> Response:
        path = request.url.path
        with self._lock:
            self.requests.append(f"{path}?{request.url.query}" if request.url.query else path)
        entity = _entity(path)
        if path.endswith("/$count"):
            return Response("-1", media_type="text/plain")
        if entity not in self.entities:
            return Response(status_code=404)
        instead = self._instead(request)
        return instead if instead is not None else self._rows(request, entity)

    def _instead(self, request: Request) -> Response | None:
        """What is answered in the place of rows, if something is."""
        match self._fault(request):
            case WhoFault.HTML:
                return Response("<!DOCTYPE html><h1>Maintenance</h1>", media_type="text/html")
            case WhoFault.SORRY:
                return RedirectResponse(_SORRY)
            case WhoFault.CSV:
                return Response("Id,Value\n1,2\n", media_type="text/csv")
            case WhoFault.OVERLOADED:
                return Response("busy", status_code=503)
            case WhoFault.BAD_REQUEST:
                return _refused(
                    "Could not find a property named 'ISO3' on type 'DEX_CMS.GHE_FULL'."
                )
            case _:
                return None

    def _rows(self, request: Request, entity: str) -> Response:
        parameters = request.query_params
        if unknown := _BEYOND & set(parameters):
            return Response(f"not simulated: {', '.join(sorted(unknown))}", status_code=501)
        fault = self._fault(request)
        try:
            rows = _filtered(list(self.entities[entity]), parameters.get("$filter", ""))
            rows = _ordered(self._spoilt(rows, fault), parameters.get("$orderby", ""))
        except KeyError as error:
            return _refused(f"Could not find a property named {error} on type '{entity}'.")
        except ValueError:
            return Response(f"not simulated: {parameters['$filter']}", status_code=501)
        is_gho = request.url.path.startswith(GHO_PREFIX)
        skip = int(parameters.get("$skip", "0"))
        top = int(parameters.get("$top", str((is_gho and self.gho_page_size) or _MOST_ROWS)))
        if not is_gho and top > _MOST_ROWS:
            return _refused(f"The limit of '{_MOST_ROWS}' for Top query has been exceeded.")
        page = rows[skip : skip + top]
        answer: Row = {"@odata.context": f"{request.base_url}$metadata#{entity}"}
        if parameters.get("$count") == "true" and self.says_count:
            answer["@odata.count"] = len(rows) + (1 if fault is WhoFault.SHORT else 0)
        answer["value"] = page
        following = skip + len(page) if is_gho and skip + len(page) < len(rows) else None
        if link := _next_link(request, fault, following):
            answer["@odata.nextLink"] = link
        body = msgspec.json.encode(answer)
        if fault is WhoFault.CUT_JSON:
            body = body[: len(body) // 2]
        return Response(body, media_type="application/json; odata.metadata=minimal")

    def _spoilt(self, rows: list[Row], fault: WhoFault | None) -> list[Row]:
        match fault:
            case WhoFault.EMPTY:
                return []
            case WhoFault.COLUMN_MORE:
                return [{**row, "Uncertainty": "model"} for row in rows]
            case WhoFault.COLUMN_LESS:
                gone = {"NumericValue", "VAL_DALY_COUNT_NUMERIC"}
                return [{k: v for k, v in row.items() if k not in gone} for row in rows]
            case WhoFault.DUPLICATE_KEY:
                return [*rows, _other(rows[0])]
            case WhoFault.SAME_ROW_TWICE:
                return [*rows, rows[0]]
            case _:
                return rows


def _other(row: Mapping[str, Any]) -> Row:
    """A row with the same key that says something else."""
    changed = {"NumericValue": -1.0, "Value": "-1", "VAL_DALY_COUNT_NUMERIC": -1.0}
    return {name: changed.get(name, value) for name, value in row.items()}


def _entity(path: str) -> str:
    for prefix in (GHO_PREFIX, XMART_PREFIX):
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(f"{prefix}/").removesuffix("/$count")
    return path


def _refused(said: str) -> Response:
    error = {"error": {"code": "Microsoft.OData.ODataException", "message": said}}
    return Response(msgspec.json.encode(error), 400, media_type="application/json")


def _next_link(request: Request, fault: WhoFault | None, following: int | None) -> str | None:
    if fault is WhoFault.FOREIGN_LINK:
        return "http://elsewhere.example/api/X"
    if fault is WhoFault.REPEATED_LINK:
        following = 0
    if following is None:
        return None
    return str(request.url.include_query_params(**{"$skip": str(following)}))


def _ordered(rows: list[Row], name: str) -> list[Row]:
    """The rows in the order of a column, if one is named; raises KeyError for an unknown one."""
    return sorted(rows, key=lambda row: row[name]) if name else rows


def _filtered(rows: list[Row], text: str) -> list[Row]:
    """The rows that fit; raises KeyError for an unknown column, ValueError for what is not simulated."""
    for part in text.split(" and ") if text else []:
        match = _COMPARISON.fullmatch(part.strip())
        if match is None:
            raise ValueError(part)
        name, comparison, quoted, number = match.groups()
        wanted = quoted if number is None else int(number)
        if rows and name not in rows[0]:
            raise KeyError(name)
        rows = [row for row in rows if _fits(row[name], comparison, wanted)]
    return rows


def _fits(value: Any, comparison: str, wanted: Any) -> bool:
    if comparison in {"eq", "ne"}:
        return bool(value == wanted) == (comparison == "eq")
    if value is None:
        return False
    return bool(value >= wanted) if comparison == "ge" else bool(value <= wanted)
