"""What was asked of the simulator, when, and how it was answered."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import msgspec


@dataclass(frozen=True)
class RequestRecord:
    """One request to the API.

    `arrived_ns` is wall-clock time in nanoseconds since the epoch, comparable across processes; `status`
    is the one sent, None when a fault left the client without one. Both it and `fault` are known once the
    request is `settled`, which is before the client sees anything of the answer.
    """

    number: int
    arrived_ns: int
    method: str
    path: str
    query: str
    data_timestamp: str
    status: int | None = None
    fault: str | None = None
    settled: bool = False


class RequestLog:
    """The requests of one simulator in order of arrival, in memory and optionally as JSON Lines.

    The file is appended to, a line when a request is settled, so that several runs may share it.
    Safe to use from several threads.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._records: list[RequestRecord] = []
        self._lock = Lock()
        self._file = None if path is None else path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def arrived(self, method: str, path: str, query: str, data_timestamp: str) -> int:
        """Note a request on arrival; returns its number, from 1."""
        with self._lock:
            number = len(self._records) + 1
            self._records.append(
                RequestRecord(number, time.time_ns(), method, path, query, data_timestamp)
            )
            return number

    def settled(self, number: int, status: int | None, fault: str | None) -> None:
        """Note what becomes of a request."""
        with self._lock:
            record = replace(self._records[number - 1], status=status, fault=fault, settled=True)
            self._records[number - 1] = record
            if self._file is not None:
                self._file.write(msgspec.json.encode(asdict(record)) + b"\n")
                self._file.flush()

    def records(self) -> tuple[RequestRecord, ...]:
        """All requests so far, in order of arrival."""
        with self._lock:
            return tuple(self._records)
