"""An S3 for tests: moto's, one request at a time, as S3's conditional writes are, with faults to order.

`python -m ctg_assets_tests.support.s3_server` prints its port and serves until its standard input is closed. What
is posted to `/-/faults`, a JSON list of `Fault`, happens to the next requests that fit; `/-/requests` has the
method and path of every request since it was asked last.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_StartResponse = Callable[..., Any]


class _Faulty:
    """moto's application behind a door that lets in one request at a time."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._door = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self._requests: list[list[str]] = []

    def __call__(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._door:
            if path == "/-/faults":
                self._faults = json.loads(
                    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                )
                return _answer(start_response, "200 OK", b"")
            if path == "/-/requests":
                told, self._requests = self._requests, []
                return _answer(start_response, "200 OK", json.dumps(told).encode())
            self._requests.append([method, f"{path}?{environ['QUERY_STRING']}".rstrip("?")])
            fault = self._fault(method, path)
            if fault is not None and fault["blind"]:
                for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
                    environ.pop(name, None)
                fault = None
            if fault is not None and not fault["applied"]:
                return _answer(start_response, fault["status"], b"")
            answer = list(self._app(environ, start_response))
            if fault is not None:
                return _answer(start_response, fault["status"], b"")
            return answer

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self._faults:
            if fault["method"] == method and re.search(fault["path"], path) and fault["times"] > 0:
                fault["times"] -= 1
                return fault
        return None


def _answer(start_response: _StartResponse, status: str, content: bytes) -> list[bytes]:
    start_response(status, [("Content-Length", str(len(content)))])
    return [content]


def main() -> None:
    """Serve."""
    server = make_server("127.0.0.1", 0, _Faulty(), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
