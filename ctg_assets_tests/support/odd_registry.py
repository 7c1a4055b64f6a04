"""A registry that serves any bytes as studies, which the simulator, being sound, does not."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_ASKABLE = re.compile("NCT0*[1-9][0-9]{0,7}")


class OddRegistry:
    """Studies by their NCT id, each as any bytes, at one data version."""

    def __init__(self) -> None:
        self.studies: Mapping[str, bytes] = {}
        self.data_timestamp = "2026-11-20T09:00:05"
        self.api_url = ""
        self.requests = 0

    def answer(self, path: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        self.requests += 1
        if path.endswith("/version"):
            version = {"apiVersion": "2.0.5", "dataTimestamp": self.data_timestamp}
            return 200, json.dumps(version).encode()
        if "/studies/" in path:
            return 404, b"not served here"
        found = list(self.studies.values())
        if "filter.ids" in parameters:
            ids = parameters["filter.ids"].split("|")
            if not all(map(_ASKABLE.fullmatch, ids)):
                return 400, b"`filter.ids` parameter has incorrect format"
            found = [self.studies[nct_id] for nct_id in ids if nct_id in self.studies]
        start, size = int(parameters.get("pageToken", "0")), int(parameters["pageSize"])
        total = f',"totalCount":{len(found)}' if "countTotal" in parameters else ""
        following = f',"nextPageToken":"{start + size}"' if start + size < len(found) else ""
        body = b'{"studies":[' + b",".join(found[start : start + size]) + b"]"
        return 200, body + f"{following}{total}}}".encode()


@contextmanager
def running(registry: OddRegistry) -> Iterator[OddRegistry]:
    """Serve a registry on a port of this machine; its `api_url` says which."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(address.query).items()}
            status, body = registry.answer(address.path, given)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.api_url = f"http://127.0.0.1:{server.server_address[1]}/api/v2"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
