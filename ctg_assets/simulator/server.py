"""The stand-in registry's answers: API v2 under `/api/v2`, and the simulator's own controls.

What OpenAPI document 2.0.5 offers and this does not (CSV, distances, aggregation filters, synonyms,
legacy markup) is refused with 501, never ignored in silence. Controls, all JSON:

    GET  /simulator/state            data version, number of studies and requests, faults and their strikes
    GET  /simulator/requests         the request log
    POST /simulator/advance          publish the next data version
    POST /simulator/expire-tokens    make page tokens issued so far invalid
    PUT  /simulator/faults           replace the fault plan: ["page=3:500", ...]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ctg_assets.simulator import catalog
from ctg_assets.simulator.data_version import DataVersion, Registry
from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.faults import Fault, FaultPlan, FaultSyntaxError, parse_faults
from ctg_assets.simulator.middleware import API_PREFIX, Wire
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.paging import page_offset, page_size, page_token
from ctg_assets.simulator.projection import (
    ID_AND_DATE,
    Projection,
    id_and_date,
    parse_fields,
    projected,
)
from ctg_assets.simulator.query import SELECTING_PARAMETERS, canonical_nct_id
from ctg_assets.simulator.rate_window import RateWindow
from ctg_assets.simulator.request_log import RequestLog
from ctg_assets.simulator.source import StudySource

API_VERSION = "2.0.5"

_PAGING_PARAMETERS = frozenset({"countTotal", "pageSize", "pageToken"})
_STUDIES_PARAMETERS = (
    SELECTING_PARAMETERS | _PAGING_PARAMETERS | {"fields", "format", "markupFormat", "geoDecay"}
)
_STUDY_PARAMETERS = frozenset({"fields", "format", "markupFormat"})
_METADATA_PARAMETERS = frozenset({"includeIndexedOnly", "includeHistoricOnly"})
_NOT_SIMULATED = frozenset(
    {"aggFilters", "query.patient"}
    | {f"{prefix}.{name}" for prefix in ("filter", "postFilter") for name in ("geo", "synonyms")}
)
_FORMATS = {
    "studies": ("csv", "json"),
    "study": ("csv", "json", "json.zip", "fhir.json", "ris"),
}


@dataclass(frozen=True)
class Published:
    """The bodies of `/studies/metadata` and `/studies/enums`; None for those that our model gives."""

    metadata: bytes | None = None
    enums: bytes | None = None


class Simulator:
    """One stand-in registry: its state, its request log, and the ASGI application that serves it.

    `app` needs the server of `serving.py` under it for the faults that break connections.
    """

    def __init__(self, source: StudySource, options: SimulatorOptions) -> None:
        self.registry = Registry(source, options.data_timestamp, options.next_source)
        self.log = RequestLog(options.request_log)
        self.published = Published()
        self._fault_seed = options.fault_seed
        limit = options.requests_per_minute
        self.wire = Wire(
            self._application(),
            registry=self.registry,
            log=self.log,
            window=None if limit is None else RateWindow(limit),
            latency_seconds=options.latency_seconds,
            page_number=self._page_number,
        )
        self.set_faults(options.faults)

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Replace the fault plan; its counts of requests and strikes start anew."""
        self.wire.plan = FaultPlan(tuple(faults), self._fault_seed)

    def _application(self) -> Starlette:
        api = {
            "/studies": self._studies,
            # Before the path with a parameter, which would match these names too.
            "/studies/metadata": self._metadata,
            "/studies/enums": self._enums,
            "/studies/{nct_id}": self._study,
            "/stats/size": self._sizes,
            "/version": self._version,
        }
        application = Starlette(
            routes=[
                *(Route(API_PREFIX + path, endpoint) for path, endpoint in api.items()),
                Route("/simulator/state", self._state),
                Route("/simulator/requests", self._requests),
                Route("/simulator/advance", self._advance, methods=["POST"]),
                Route("/simulator/expire-tokens", self._expire_tokens, methods=["POST"]),
                Route("/simulator/faults", self._put_faults, methods=["PUT"]),
            ],
            exception_handlers={ApiError: _refusal},
        )
        application.router.redirect_slashes = False
        return application

    # Endpoints are plain functions, which Starlette runs in threads: generating a page takes a while.

    def _studies(self, request: Request) -> Response:
        parameters = _parameters(request, _STUDIES_PARAMETERS, "studies")
        version = self.registry.current
        size = page_size(parameters.get("pageSize"))
        count_total = _boolean(parameters, "countTotal")
        projection = parse_fields(parameters["fields"]) if "fields" in parameters else None
        selected = version.index.select(parameters)
        binding = _token_binding(version, parameters)
        token = parameters.get("pageToken")
        offset = page_offset(token, binding) if token else 0
        studies = [
            _study_of(version.index.source, index, projection)
            for index in selected[offset : offset + size]
        ]
        return _json_bytes(
            _page(
                studies,
                total=len(selected) if count_total and not token else None,
                # A full page has a successor even when nothing is left for it, as in the real API.
                next_token=page_token(offset + size, binding) if len(studies) == size else None,
            )
        )

    def _page_number(self, parameters: QueryParams) -> int | None:
        """Which page of a walk a request asks for, counting from 1; None when that cannot be told."""
        try:
            size = page_size(parameters.get("pageSize"))
            token = parameters.get("pageToken")
            binding = _token_binding(self.registry.current, parameters)
            return (page_offset(token, binding) if token else 0) // size + 1
        except ApiError:
            return None

    def _study(self, request: Request) -> Response:
        parameters = _parameters(request, _STUDY_PARAMETERS, "study")
        nct_id = canonical_nct_id(request.path_params["nct_id"])
        if nct_id is None:
            raise ApiError(400, "Parameter `nctId` has incorrect format")
        source = self.registry.current.index.source
        survivor = source.alias_target(nct_id)
        if survivor is not None:
            query = f"?{request.url.query}" if request.url.query else ""
            location = f"{API_PREFIX}/studies/{survivor}{query}"
            return Response(
                status_code=HTTPStatus.MOVED_PERMANENTLY, headers={"location": location}
            )
        index = source.index_of(nct_id)
        if index is None:
            raise ApiError(404, f"NCT number {nct_id} not found")
        projection = parse_fields(parameters["fields"]) if "fields" in parameters else None
        return _json_bytes(_study_of(source, index, projection))

    def _metadata(self, request: Request) -> Response:
        parameters = _parameters(request, _METADATA_PARAMETERS)
        for name in _METADATA_PARAMETERS:
            if _boolean(parameters, name):
                raise ApiError(501, f"The simulator does not know parameter `{name}`")
        return _json_bytes(self.published.metadata or _metadata_body())

    def _enums(self, request: Request) -> Response:
        _parameters(request, frozenset())
        return _json_bytes(self.published.enums or _enums_body())

    def _sizes(self, request: Request) -> Response:
        _parameters(request, frozenset())
        source = self.registry.current.index.source
        response = _json(catalog.study_sizes(source))
        if len(source) > catalog.SIZE_SAMPLE:
            response.headers["x-simulator-sample"] = str(catalog.SIZE_SAMPLE)
        return response

    def _version(self, request: Request) -> Response:
        _parameters(request, frozenset())
        timestamp = self.registry.current.data_timestamp
        return _json({"apiVersion": API_VERSION, "dataTimestamp": timestamp})

    def _state(self, request: Request) -> Response:
        del request
        version = self.registry.current
        return _json(
            {
                **_version_of(version),
                "studies": len(version.index.source),
                "requests": len(self.log.records()),
                "faults": self.wire.plan.summary(),
            }
        )

    def _requests(self, request: Request) -> Response:
        del request
        return _json([asdict(record) for record in self.log.records()])

    def _advance(self, request: Request) -> Response:
        del request
        return _json(_version_of(self.registry.advance()))

    def _expire_tokens(self, request: Request) -> Response:
        del request
        self.registry.expire_tokens()
        return _json(_version_of(self.registry.current))

    async def _put_faults(self, request: Request) -> Response:
        try:
            faults = parse_faults(msgspec.json.decode(await request.body(), type=list[str]))
        except (msgspec.DecodeError, FaultSyntaxError) as error:
            raise ApiError(400, f"expected a JSON array of faults: {error}") from error
        self.set_faults(faults)
        return _json(self.wire.plan.summary())


def _parameters(request: Request, known: frozenset[str], endpoint: str = "") -> dict[str, str]:
    """The request's parameters, all of them known, supported and of a supported format."""
    parameters = dict(request.query_params)
    for name, value in parameters.items():
        if name in _NOT_SIMULATED:
            raise ApiError(501, f"The simulator does not know parameter `{name}`")
        if name not in known:
            raise ApiError(400, f"`{name}` is unknown parameter")
        choices = {"format": _FORMATS.get(endpoint, ()), "markupFormat": ("markdown", "legacy")}
        if name in choices and value not in choices[name]:
            raise ApiError(400, f"Invalid value in parameter `{name}`: `{value}`")
        if name in choices and value not in {"json", "markdown"}:
            raise ApiError(501, f"The simulator does not know `{name}={value}`")
    return parameters


def _study_of(source: StudySource, index: int, projection: Projection | None) -> bytes:
    """A study as far as it was asked for."""
    if projection is None:
        return source.raw(index)
    if projection == ID_AND_DATE:
        # A census of everything asks for this, which every source knows without generating the study.
        posted = source.last_update_post_date(index)
        if posted:
            return id_and_date(source.nct_id(index), posted)
    return projected(source.raw(index), projection)


def _boolean(parameters: Mapping[str, str], name: str) -> bool:
    value = parameters.get(name, "false")
    if value not in {"true", "false"}:
        raise ApiError(400, f"Parameter `{name}` has incorrect format")
    return value == "true"


def _token_binding(version: DataVersion, parameters: Mapping[str, str]) -> bytes:
    """What a page token holds for: one query and one data version."""
    query = sorted(item for item in parameters.items() if item[0] not in _PAGING_PARAMETERS)
    return version.token_binding + repr(query).encode()


def _page(studies: list[bytes], total: int | None, next_token: str | None) -> bytes:
    """A page's JSON, every study on a line of its own and byte for byte as it came."""
    head = b'{"studies":[' if total is None else b'{"totalCount":%d,"studies":[' % total
    tail = b"]}" if next_token is None else b'],"nextPageToken":"%s"}' % next_token.encode()
    if not studies:
        return head + tail
    return b"".join((head, b"\n", b",\n".join(studies), b"\n", tail))


@cache
def _metadata_body() -> bytes:
    return msgspec.json.encode(catalog.metadata())


@cache
def _enums_body() -> bytes:
    return msgspec.json.encode(catalog.enums())


def _version_of(version: DataVersion) -> dict[str, Any]:
    return {"version": version.number, "dataTimestamp": version.data_timestamp}


def _json(value: object) -> Response:
    return _json_bytes(msgspec.json.encode(value))


def _json_bytes(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _refusal(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, ApiError):
        raise error
    return PlainTextResponse(error.message, error.status)
