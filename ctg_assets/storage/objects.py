"""The lake in an object store: each file an object, visible when all of it has arrived.

A rename is a copy there, so a file is published under its own name by one conditional put: it succeeds only if
the name still holds what it held when the writing began. Records, which make other files count, go through
the lease of who publishes them (`leases.py`). Only files too large for memory are put without a condition; they
count only with a record.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ctg_assets.storage.backend import StorageError, Work
from ctg_assets.storage.leases import LEASE_TIME, Lease, Publication, broken_condition
from ctg_assets.storage.object_client import ObjectClient, Version
from ctg_assets.storage.random_reads import RandomReads

# What is put at once, and so held in memory; larger files wait on the local disk and go in parts.
_SINGLE_PUT_BYTES = 64 << 20

_RECORD = ".json"
_LARGEST_RECORD = 1 << 20

# One request brings the footers of most files.
_TAIL_BYTES = 64 << 10

# A request takes as long as a megabyte: who reads on gets more and more at a time.
_FIRST_WINDOW_BYTES = 128 << 10
_LARGEST_WINDOW_BYTES = 8 << 20
_WINDOWS = 2

# A lease is no use unless it is renewed in time: its requests are given up sooner than others.
_LEASE_PATIENCE = 6
_LEAST_PATIENCE = timedelta(seconds=2)

_DOCTORS_PATIENCE = timedelta(seconds=10)

_leases: dict[tuple[int, str, Work], Lease] = {}


class ObjectBackend:
    """Files as objects below one URL; `scratch` is a local folder for what is too large for memory."""

    def __init__(
        self,
        client: ObjectClient,
        scratch: Path,
        *,
        lease_client: ObjectClient | None = None,
        lease_time: timedelta = LEASE_TIME,
    ) -> None:
        """Keep files among the objects of `client`, and leases among those of `lease_client`, the same ones."""
        self._client = client
        self._scratch = scratch
        self._lease_client = lease_client or client
        self._lease_time = lease_time

    @classmethod
    def connect(cls, url: str, scratch: Path, lease_time: timedelta = LEASE_TIME) -> ObjectBackend:
        """The lake at a URL; nothing is asked of it yet. Raises StorageError where that is none."""
        return cls(
            ObjectClient.connect(url),
            scratch,
            lease_client=ObjectClient.connect(
                url, patience=max(_LEAST_PATIENCE, lease_time / _LEASE_PATIENCE)
            ),
            lease_time=lease_time,
        )

    @property
    def client(self) -> ObjectClient:
        """Requests to the store."""
        return self._client

    @property
    def is_remote(self) -> bool:
        """As Backend says."""
        return True

    def path(self, relative: str) -> str:
        """As Backend says."""
        return self._client.path(relative)

    def size(self, relative: str) -> int | None:
        """As Backend says."""
        found = self._client.head(relative)
        return None if found is None else found.size

    def modified(self, relative: str) -> int:
        """As Backend says, to the second."""
        found = self._client.head(relative)
        if found is None:
            message = f"cannot read {self.path(relative)}: it is not there"
            raise StorageError(message)
        return round(found.modified.timestamp() * 10**9)

    def names(self, folder: str) -> list[str]:
        """As Backend says."""
        return self._client.names(folder)

    def files(self, folder: str) -> list[str]:
        """As Backend says."""
        return self._client.keys(folder)

    def read_bytes(self, relative: str) -> bytes:
        """As Backend says."""
        return self._client.get(relative)[0]

    @contextlib.contextmanager
    def open_input(self, relative: str) -> Iterator[_ObjectFile]:
        """As Backend says."""
        try:
            file = _ObjectFile(self._client, relative)
        except FileNotFoundError as error:
            message = f"cannot read {self.path(relative)}: it is not there; `ctg-assets verify` says what can be done"
            raise StorageError(message) from error
        try:
            yield file
        except (OSError, pa.ArrowInvalid) as error:
            if file.problem is not None:
                raise file.problem from error
            message = (
                f"cannot read {self.path(relative)}: {error}. If it is damaged, `ctg-assets verify` says what "
                "can be done"
            )
            raise StorageError(message) from error

    @contextlib.contextmanager
    def publish(self, relative: str, *, create: bool) -> Iterator[IO[bytes] | Any]:
        """As Backend says; of files too large for memory the name may be another's when they arrive."""
        before = None if create else self._client.head(relative)
        expected = None if before is None else before.version
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            # Without a name, so that it is gone with its writer.
            spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - what follows must not be caught with it
                _SINGLE_PUT_BYTES, dir=str(self._scratch)
            )
        except OSError as error:
            raise self._no_room(relative, error) from error
        with spool:
            try:
                yield spool
            except OSError as error:
                raise self._no_room(relative, error) from error
            size = spool.tell()
            spool.seek(0)
            if size > _SINGLE_PUT_BYTES:
                self._prove()
                self._client.put_large(relative, spool)
            else:
                self._put(relative, spool.read(), expected)

    def move(self, relative: str, to: str) -> None:
        """As Backend says, by copying; what was not removed when it ends early is there twice."""
        pairs = self._pairs(relative, to)
        for old, new in pairs:
            self._client.copy(old, new)
        self._prove()
        self._client.delete([old for old, _ in pairs])

    def copy(self, relative: str, to: str) -> None:
        """As Backend says."""
        self._client.copy(relative, to)

    def delete_file(self, relative: str) -> None:
        """As Backend says."""
        self._prove()
        self._client.delete([relative])

    def delete_folder(self, folder: str) -> None:
        """As Backend says."""
        self._prove()
        self._client.delete(self._client.keys(folder))

    def delete_unfinished(self, folder: str) -> None:
        """As Backend says: nothing is visible of what is not finished."""

    @contextlib.contextmanager
    def lock(self, work: Work) -> Iterator[None]:
        """As Backend says, for all machines: a lease. One whose holder died elsewhere is free a minute later."""
        key = (os.getpid(), self._client.url, work)
        lease = _leases.get(key)
        if lease is None:
            what = f"the {work} of {self._client.url}"
            made = Lease(self._lease_client, work, what, self._lease_time)
            lease = _leases.setdefault(key, made)
        with lease.held():
            yield

    def _held(self) -> list[Lease]:
        us = os.getpid(), self._client.url
        return [lease for key, lease in list(_leases.items()) if key[:2] == us and lease.is_held]

    def _prove(self) -> None:
        """Make sure that this process has lost none of its leases on the lake."""
        for lease in self._held():
            lease.prove()

    def _put(self, relative: str, content: bytes, expected: Version | None) -> None:
        if relative.endswith(_RECORD) and len(content) <= _LARGEST_RECORD:
            ours = [lease for lease in self._held() if lease.is_ours]
            if ours:
                for lease in ours[1:]:
                    lease.prove()
                ours[0].publish(Publication(key=relative, content=content, expected=expected))
                return
        self._prove()
        self._client.put(relative, content, expected)

    def _pairs(self, relative: str, to: str) -> list[tuple[str, str]]:
        """The objects that are a file, or lie in a folder, each with its path elsewhere."""
        below = [(key, f"{to}{key[len(relative) :]}") for key in self._client.keys(relative)]
        return below or [(relative, to)]

    def _no_room(self, relative: str, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write {self.path(relative)}: {error}; check that {self._scratch} can be written to and the "
            "disk has room, and CTG_DATA_DIR"
        )


class _ObjectFile(RandomReads):
    """An object opened for random reads: its end is read at once, the rest in windows."""

    def __init__(self, client: ObjectClient, key: str) -> None:
        self._client = client
        self._key = key
        self._tail, found = client.get_end(key, _TAIL_BYTES)
        super().__init__(found.size)
        self._version = found.version
        self._windows: list[tuple[int, Any]] = []
        self._window_bytes = _FIRST_WINDOW_BYTES
        self.problem: StorageError | None = None

    def size(self) -> int:
        """The size in bytes."""
        return self._size

    def read(self, size: int | None = -1) -> Any:
        return self.read_buffer(self._size if size is None or size < 0 else size).to_pybytes()

    def read_buffer(self, count: int) -> pa.Buffer:
        """Some bytes from here on."""
        start, end = self._position, min(self._size, self._position + count)
        self._position = max(start, end)
        if end <= start:
            return pa.py_buffer(b"")
        try:
            return self._between(start, end)
        except StorageError as error:
            # Kept, since Arrow may hand it on as an error of its own.
            self.problem = error
            raise

    def _between(self, start: int, end: int) -> pa.Buffer:
        tail_at = self._size - len(self._tail)
        for at, window in ((tail_at, self._tail), *self._windows):
            if at <= start and end <= at + len(window):
                return pa.py_buffer(window).slice(start - at, end - start)
        reads_on = any(0 <= start - (at + len(w)) <= self._window_bytes for at, w in self._windows)
        grown = self._window_bytes * 2 if reads_on else _FIRST_WINDOW_BYTES
        self._window_bytes = min(_LARGEST_WINDOW_BYTES, grown)
        last = min(self._size, max(end, start + self._window_bytes))
        found = self._client.get_range(self._key, start, last, self._version)
        if len(found) < end - start:
            return pa.py_buffer(found)
        self._windows = [*self._windows[-_WINDOWS + 1 :], (start, found)]
        return pa.py_buffer(found).slice(0, end - start)


def unfit_store(url: str) -> str | None:
    """Why a store is unfit for a lake, with the remedy; None when it does all that is needed.

    Some small objects are made and removed. Raises StorageError when it is out of reach, or refuses us.
    """
    client = ObjectClient.connect(url, patience=_DOCTORS_PATIENCE)
    client.names("")
    return broken_condition(client)
