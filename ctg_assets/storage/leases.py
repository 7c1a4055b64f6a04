"""Locks between machines: leases, objects that their holder renews and that are anybody's when he does not.

Who pauses for too long loses his lease without noticing. So what makes other files count is published *through* the
lease: by one conditional put it says what is to be published, which fails when the lease is somebody else's by
now; then it is published. Who takes a lease over first publishes what it says. A holder's commits thus have
their place before or after every other's, and one who lost the lease has none any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ctg_assets.storage.backend import (
    AlreadyPublishedError,
    LockLostError,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from ctg_assets.storage.locks import BusyError
from ctg_assets.storage.object_client import ObjectClient, StoredObject, Version

_log = logging.getLogger(__name__)

LEASE_TIME = timedelta(seconds=60)
"""How long a holder may be silent before another takes its lease; renewed four times in that time."""

_patience: ContextVar[timedelta] = ContextVar("patience", default=timedelta())
_SECONDS_BETWEEN_LOOKS = 1.0

_FOLDER = "locks"
_OTHER_THREAD = "another thread of this process"
_OTHER_PROCESS = "another process"
_RENEWALS = 4
_TRIES = 5

# The store's clock shows whole seconds.
_CLOCK_STEP = timedelta(seconds=1)


@contextlib.contextmanager
def patience_with_leases(patience: timedelta) -> Iterator[None]:
    """Within the block, this thread waits so long for a lease of another process, which may be dead."""
    before = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(before)


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder is about to publish, in place of the version `expected` (None: of nothing)."""

    key: str
    content: bytes
    expected: Version | None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process, by what no other one on any machine has in common with it."""

    host: str
    pid: int
    started: str
    kernel: str

    def is_dead(self) -> bool:
        """Whether it is known to have ended: it ran where we run, and is not there any more."""
        return self.kernel == _kernel() and _started(self.pid) != self.started


class _Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a lease's object says; `nonce` is another one each time, so that no two are the same.

    `holder` is None when it is free. `taken_at` is by the holder's clock (UTC), for people.
    """

    nonce: str
    holder: Process | None = None
    taken_at: datetime | None = None
    publication: Publication | None = None


class Lease:
    """The right to a kind of work on one lake, held by this process or not."""

    def __init__(
        self, client: ObjectClient, work: str, what: str, lease_time: timedelta = LEASE_TIME
    ) -> None:
        """Keep the lease among the objects of `client`; `what` is said of who is found holding it."""
        self._client = client
        self._key = f"{_FOLDER}/{work}.json"
        self._what = what
        self._time = lease_time
        # One step at a time: the thread that renews, and the one that publishes.
        self._step = threading.RLock()
        self._owner: int | None = None
        self._depth = 0
        self._version: Version | None = None
        self._itself: _Lease | None = None
        # What we wrote without an answer: it may be there.
        self._unsure: set[str] = set()
        self._proved = 0.0
        self._lost = False
        self._ended = threading.Event()

    @property
    def is_ours(self) -> bool:
        """Whether this thread took it, and has not given it back."""
        return self._owner == threading.get_ident()

    @property
    def is_held(self) -> bool:
        """Whether a thread of this process took it, and has not given it back."""
        return self._owner is not None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease; a thread that holds it may hold it once more. Raises BusyError when another has it."""
        if self._depth and not self.is_ours:
            raise self._busy(_OTHER_THREAD)
        if not self._depth:
            self._take_patiently()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._give_back()

    def prove(self) -> None:
        """Make sure that the lease is still ours, by asking if that is not known from just before.

        Raises LockLostError when it is not, TransientStorageError when that cannot be known.
        """
        with self._step:
            known_for = _clock() - self._proved
            is_clean = self._itself is not None and self._itself.publication is None
            if self._lost or not is_clean or known_for > self._time.total_seconds() / 2:
                self._say(None)

    def publish(self, publication: Publication) -> None:
        """Publish something if the lease is ours, and never otherwise.

        Raises LockLostError when it is not, AlreadyPublishedError when another version is in the way.
        """
        with self._step:
            self._say(publication)
            try:
                self._carry_out(publication)
            finally:
                # If that fails, the next one who says anything does it.
                with contextlib.suppress(TransientStorageError):
                    self._say(None)

    def _carry_out(self, publication: Publication) -> None:
        self._client.put(publication.key, publication.content, publication.expected)

    def _take_patiently(self) -> None:
        give_up_at = _clock() + _patience.get().total_seconds()
        while True:
            try:
                with self._step:
                    self._take()
            except BusyError:
                if self._owner is not None or _clock() >= give_up_at:
                    raise
            else:
                return
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _take(self) -> None:
        """Take the lease, and finish what its last holder was publishing."""
        if self._owner is not None:
            raise self._busy(_OTHER_THREAD)
        for _ in range(_TRIES):
            found = self._client.get_or_none(self._key)
            try:
                left = self._take_over(found)
            except AlreadyPublishedError:
                continue  # somebody else was faster, or renewed his own
            self._lost = False
            if left is not None:
                # What is in the way is what it says, or came after it.
                with contextlib.suppress(AlreadyPublishedError):
                    self._carry_out(left)
                self._say(None)
            # Not before, for who fails until here holds nothing, and may try again.
            self._owner = threading.get_ident()
            self._ended = threading.Event()
            threading.Thread(
                target=self._renew, args=(self._ended,), name=f"lease {self._key}", daemon=True
            ).start()
            return
        raise self._busy(_OTHER_PROCESS)

    def _take_over(self, found: tuple[bytes, StoredObject] | None) -> Publication | None:
        """Take the lease as it was found; returns what its last holder was publishing."""
        if found is None:
            _require_conditions(self._client)
            self._put(None, None)
            return None
        content, meta = found
        before = self._read(content)
        holder = before.holder
        # What this process could not give back is nobody's.
        if holder is not None and holder != self._us() and not holder.is_dead():
            left = self._time + _CLOCK_STEP - (self._now() - meta.modified)
            if left > timedelta():
                since = f"{before.taken_at:%Y-%m-%d %H:%M:%S} UTC"
                who = f"process {holder.pid} of {holder.host} (since {since})"
                free = f"; if it is dead, this is free in {int(left.total_seconds()) + 1} s"
                raise self._busy(who, free)
        if holder is not None:
            _log.info("%s was left by process %s of %s", self._what, holder.pid, holder.host)
        self._put(before.publication, meta.version)
        return before.publication

    def _read(self, content: bytes) -> _Lease:
        try:
            return msgspec.json.decode(content, type=_Lease)
        except msgspec.DecodeError as error:
            message = (
                f"{self._client.path(self._key)} is no lock as we write them ({error}); remove it while nobody is at "
                "work on the lake"
            )
            raise PermanentStorageError(message) from error

    def _busy(self, who: str, more: str = "") -> BusyError:
        return BusyError(
            f"{who} is at work on {self._what}; wait until it is done (`ctg-assets status` shows how far "
            f"it is){more}"
        )

    def _us(self) -> Process:
        return this_process()

    def _now(self) -> datetime:
        """The store's time: it alone says when a lease was renewed, so machines' clocks do not matter."""
        probe = f"{_FOLDER}/clock-{uuid.uuid4().hex}"
        self._client.put(probe, b"", None)
        try:
            found = self._client.head(probe)
        finally:
            self._client.delete([probe])
        return datetime.now(UTC) if found is None else found.modified

    def _put(self, publication: Publication | None, expected: Version | None) -> None:
        """Write the lease as ours; raises AlreadyPublishedError when another version is there."""
        asked = _clock()
        taken_at = datetime.now(UTC) if self._itself is None else self._itself.taken_at
        itself = _Lease(
            nonce=uuid.uuid4().hex, holder=self._us(), taken_at=taken_at, publication=publication
        )
        self._unsure.add(itself.nonce)
        self._version = self._client.put(self._key, msgspec.json.encode(itself), expected)
        self._itself, self._proved = itself, asked
        self._unsure.clear()

    def _say(self, publication: Publication | None) -> None:
        """Renew the lease; raises LockLostError when it is somebody else's."""
        if not self._lost:
            try:
                self._put(publication, self._version)
            except AlreadyPublishedError:
                self._lost = not self._is_there_unsure()
                if not self._lost:
                    self._put(publication, self._version)
        if self._lost:
            message = (
                f"this process lost {self._what}: it was silent for more than {self._time.total_seconds():.0f} s "
                "(paused, or the store out of its reach), and another took over. Nothing of it was published since. "
                "Try again"
            )
            raise LockLostError(message)

    def _is_there_unsure(self) -> bool:
        """Whether the lease is what we wrote before, when no answer came."""
        found = self._client.get_or_none(self._key)
        if found is None or self._read(found[0]).nonce not in self._unsure:
            return False
        self._version = found[1].version
        return True

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._time.total_seconds() / _RENEWALS):
            with self._step:
                if ended.is_set():
                    return
                try:
                    self._say(None)
                except LockLostError:
                    return  # who publishes next is told
                except StorageError as error:
                    _log.warning("%s could not be renewed: %s", self._what, error)

    def _give_back(self) -> None:
        self._ended.set()
        with self._step:
            free = msgspec.json.encode(_Lease(nonce=uuid.uuid4().hex))
            try:
                if not self._lost:
                    self._client.put(self._key, free, self._version)
            except AlreadyPublishedError:
                _log.warning("%s was lost before it was given back", self._what)
            except StorageError as error:
                _log.warning("%s could not be given back, others wait: %s", self._what, error)
            finally:
                self._owner = self._itself = self._version = None


def _require_conditions(client: ObjectClient) -> None:
    """Raise PermanentStorageError unless the store honours the conditions of a put."""
    problem = broken_condition(client)
    if problem is not None:
        raise PermanentStorageError(problem)


def broken_condition(client: ObjectClient) -> str | None:
    """What a store does that makes it unfit for a lake, with the remedy; None when it honours conditions."""
    key = f"{_FOLDER}/conditions-{uuid.uuid4().hex}"
    remedy = (
        "without it two machines would overwrite each other's work. Use a store that has conditional writes (Amazon S3, "
        "Google Cloud Storage, Azure Blob Storage, MinIO, Cloudflare R2, Ceph), or a disk"
    )
    try:
        first = client.put(key, b"1", None)
        with contextlib.suppress(AlreadyPublishedError):
            client.put(key, b"2", None)
            return f"{client.url} lets a file be created that is there (If-None-Match); {remedy}"
        client.put(key, b"3", first)
        with contextlib.suppress(AlreadyPublishedError):
            client.put(key, b"4", first)
            return f"{client.url} lets a version be replaced that is gone (If-Match); {remedy}"
    finally:
        client.delete([key])
    return None


def _clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _kernel() -> str:
    """What tells one machine's processes, or one container's, from those of all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex  # not known: no process is known to be dead


def _started(pid: int) -> str | None:
    """When a process of ours or others began, as the kernel counts; None when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # After the name, which may hold anything: the state, and as the 22nd field of all the start.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def this_process() -> Process:
    """The process that we are."""
    pid = os.getpid()
    return Process(
        host=socket.gethostname(), pid=pid, started=_started(pid) or "", kernel=_kernel()
    )
