"""The service's addresses, and what each answers."""

from __future__ import annotations

import math

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ctg_assets.serve.reading import NotReadError
from ctg_assets.serve.watch import Watch

SERVICE = "ctg-assets"

_FOUND = """ctg-assets serve
/metrics  for Prometheus
/health   whether this service and its database answer: 200 or 503
/ready    whether the tables are there: 200 or 503
/status   what `ctg-assets status --json` says
"""
_NO_STORE = {"Cache-Control": "no-store"}
_UNAVAILABLE = 503
_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"


def build_app(watch: Watch) -> Starlette:
    """The service. Each request is answered by a thread of its own, so that none waits for another."""

    def index(_: Request) -> Response:
        return PlainTextResponse(_FOUND)

    def metrics(request: Request) -> Response:
        text = watch.metrics(_timeout(request))
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4, headers=_NO_STORE)

    def health(_: Request) -> Response:
        is_up = watch.database_problem() is None
        return _answer(
            is_up,
            {
                "status": "healthy" if is_up else "unhealthy",
                "service": SERVICE,
                "database": "connected" if is_up else "unavailable",
            },
        )

    def ready(_: Request) -> Response:
        reason = watch.unready()
        told = {"status": "ready"} if reason is None else {"status": "not ready", "reason": reason}
        return _answer(reason is None, told)

    def status(_: Request) -> Response:
        try:
            return JSONResponse(watch.status(), headers=_NO_STORE)
        except NotReadError as error:
            return _answer(False, {"problem": str(error)})

    routes = {
        "/": index,
        "/metrics": metrics,
        "/health": health,
        "/ready": ready,
        "/status": status,
    }
    return Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()]
    )


def _timeout(request: Request) -> float | None:
    """How long Prometheus waits for this scrape, in seconds; None if it does not say."""
    try:
        seconds = float(request.headers[_TIMEOUT_HEADER])
    except (KeyError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None


def _answer(good: bool, told: dict[str, str]) -> Response:
    return JSONResponse(told, status_code=200 if good else _UNAVAILABLE, headers=_NO_STORE)
