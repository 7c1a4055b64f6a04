"""Leases: one holder at a time on whatever machine, and nothing published by who lost one."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from obstore.store import MemoryStore

from ctg_assets.storage import leases
from ctg_assets.storage.backend import (
    AlreadyPublishedError,
    LockLostError,
    PermanentStorageError,
    TransientStorageError,
)
from ctg_assets.storage.leases import (
    Lease,
    Process,
    Publication,
    broken_condition,
    patience_with_leases,
    this_process,
)
from ctg_assets.storage.locks import BusyError
from ctg_assets.storage.object_client import ObjectClient, StoredObject, Version
from ctg_assets_tests.support.object_store import memory_client

HOUR = timedelta(hours=1)
RECORD = Publication(key="history/1/entry.json", content=b"first", expected=None)


class Killed(BaseException):
    """What ends a process in the middle of anything."""


class MortalClient(ObjectClient):
    """Requests of a process that dies before, or right after, one of its requests; after that it asks nothing."""

    def __init__(self, store: Any, left: float = float("inf"), *, after: bool = False) -> None:
        super().__init__(store, "memory://one")
        self.left = left
        self.after = after

    def _live(self) -> None:
        if self.left <= 0:
            raise Killed

    def put(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Put, or die."""
        self._live()
        self.left -= 1
        if not self.after:
            self._live()
        version = super().put(key, content, expected)
        self._live()
        return version

    def get(self, key: str) -> tuple[bytes, StoredObject]:
        """Get, or be dead."""
        self._live()
        return super().get(key)


class OnMachine(Lease):
    """A lease as a process of some machine sees it, at a time that is so far ahead."""

    def __init__(self, client: ObjectClient, machine: str, later: timedelta = timedelta()) -> None:
        super().__init__(client, "snapshot", "the snapshot of the lake", HOUR)
        self.machine = machine
        self.later = later

    def _us(self) -> Process:
        return Process(host=self.machine, pid=7, started="1", kernel=f"kernel of {self.machine}")

    def _now(self) -> datetime:
        return super()._now() + self.later


@pytest.fixture
def client() -> ObjectClient:
    """A store of the test's own."""
    return memory_client()


def test_one_machine_at_a_time(client: ObjectClient) -> None:
    """While one holds it another is told who does, and since when; then it is free at once."""
    with OnMachine(client, "a").held():
        with (
            pytest.raises(
                BusyError, match=r"process 7 of a \(since .*if it is dead, .* free in 36"
            ),
            OnMachine(client, "b").held(),
        ):
            pass
        nearly = HOUR - timedelta(minutes=1)
        with pytest.raises(BusyError), OnMachine(client, "b", later=nearly).held():
            pass
    with OnMachine(client, "b").held():
        pass
    assert client.keys("") == ["locks/snapshot.json"]


def test_who_is_silent_for_too_long_loses_it(client: ObjectClient) -> None:
    """By the store's clock; then nothing of his is published, and the new holder's is."""
    slow, quick = OnMachine(client, "a"), OnMachine(client, "b", later=HOUR + timedelta(seconds=2))
    with slow.held(), quick.held():
        quick.publish(RECORD)
        for _ in range(2):
            with pytest.raises(LockLostError, match=r"silent for more than 3600 s.*Try again"):
                slow.publish(msgspec.structs.replace(RECORD, key="history/2/entry.json"))
        with pytest.raises(LockLostError):
            slow.prove()
    assert client.keys("history") == ["history/1/entry.json"]
    with OnMachine(client, "c").held():
        pass


def test_who_is_patient_waits_for_the_dead(
    client: ObjectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He gets the lease when it is anybody's, within the time that he has; a living one's he does not get."""
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        late.later = HOUR + timedelta(seconds=2 * looks)

    monkeypatch.setattr("ctg_assets.storage.leases.time.sleep", pause)
    late = OnMachine(client, "b", later=HOUR)
    with OnMachine(client, "a").held(), patience_with_leases(HOUR), late.held():
        assert looks == 1
    hours = itertools.count(0.0, 3600.0)
    with OnMachine(client, "a").held():
        monkeypatch.setattr(leases, "_clock", lambda: next(hours))
        with (
            patience_with_leases(HOUR * 3),
            pytest.raises(BusyError),
            OnMachine(client, "c").held(),
        ):
            pass


def test_giving_back_what_was_lost_leaves_the_other_in_peace(client: ObjectClient) -> None:
    """Who lost it does not free it for a third."""
    quick = OnMachine(client, "b", later=HOUR * 2)
    with ExitStack() as stack:
        with OnMachine(client, "a").held():
            stack.enter_context(quick.held())
        with pytest.raises(BusyError, match="process 7 of b"), OnMachine(client, "c").held():
            pass


def test_a_dead_process_of_this_machine_is_known_to_be_dead(client: ObjectClient) -> None:
    """Its lease is free at once, and not that of a process of the same number elsewhere, or that lives."""
    us = this_process()
    assert not us.is_dead()
    assert msgspec.structs.replace(us, started="1").is_dead()
    assert msgspec.structs.replace(us, pid=2**22 + 1).is_dead()
    assert not msgspec.structs.replace(us, started="1", kernel="another").is_dead()


def test_proving_asks_only_when_it_is_not_known(
    client: ObjectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease proved just now is not asked for again; half of its time later it is."""
    lease = OnMachine(client, "a")
    with lease.held():
        before = client.head("locks/snapshot.json")
        lease.prove()
        assert client.head("locks/snapshot.json") == before
        clock = leases._clock()
        monkeypatch.setattr(leases, "_clock", lambda: clock + HOUR.total_seconds() * 0.6)
        lease.prove()
        assert client.head("locks/snapshot.json") != before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("requests", range(1, 8))
def test_a_death_at_any_request_publishes_all_or_nothing(requests: int, after: bool) -> None:
    """What was said through the lease is published by the next holder, and before he looks."""
    store = MemoryStore()
    dying = OnMachine(MortalClient(store, requests, after=after), "a")
    done = False
    try:
        with dying.held():
            dying.publish(RECORD)
            done = True
    except Killed:
        pass
    finally:
        dying._ended.set()
    next_one = OnMachine(MortalClient(store), "b", later=HOUR * 2)
    with next_one.held():
        there = next_one._client.get_or_none(RECORD.key)
        assert there is None or there[0] == b"first"
        assert there is not None or not done
        # Nor does it come later.
        version = None if there is None else there[1].version
        next_one.publish(msgspec.structs.replace(RECORD, content=b"second", expected=version))
        assert next_one._client.get(RECORD.key)[0] == b"second"
    # Puts: four try the store's conditions, one takes the lease, the sixth says what is to be published.
    said = requests > 6 if not after else requests >= 6
    assert (there is not None) == said


def test_what_is_in_the_way_is_not_overwritten(client: ObjectClient) -> None:
    """A version that is not the one expected stays, and the holder is told."""
    client.put(RECORD.key, b"other", None)
    lease = OnMachine(client, "a")
    with lease.held(), pytest.raises(AlreadyPublishedError):
        lease.publish(RECORD)
    assert client.get(RECORD.key)[0] == b"other"


class Forgetful(ObjectClient):
    """Requests whose answers get lost, and cannot be asked for again, as often as is said."""

    lost = 0

    def put(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Put, and perhaps tell nobody."""
        version = super().put(key, content, expected)
        if self.lost:
            self.lost -= 1
            message = "no answer"
            raise TransientStorageError(message)
        return version


def test_an_answer_that_got_lost_costs_no_lease() -> None:
    """What the holder wrote himself is not taken for another's."""
    client = Forgetful(MemoryStore(), "memory://one")
    lease = OnMachine(client, "a")
    with lease.held():
        client.lost = 1
        with pytest.raises(TransientStorageError, match="no answer"):
            lease.publish(RECORD)
        lease.publish(RECORD)
    assert client.get(RECORD.key)[0] == b"first"
    with OnMachine(client, "b").held():
        pass


class Unreliable(ObjectClient):
    """Requests of which one put fails, before it is done or after."""

    puts = 0
    failing: int
    after = False

    def put(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Put, unless this is the one."""
        self.puts += 1
        fails = self.puts == self.failing
        if not fails or self.after:
            version = super().put(key, content, expected)
        if fails:
            message = "no answer"
            raise TransientStorageError(message)
        return version


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", range(1, 5))
def test_who_cannot_finish_what_was_left_may_try_again(failing: int, after: bool) -> None:
    """A store that fails while a lease is taken over does not make its own process wait for itself."""
    store = MemoryStore()
    dying = OnMachine(MortalClient(store, 6, after=True), "a")
    with pytest.raises(Killed), dying.held():
        dying.publish(RECORD)
    dying._ended.set()
    client = Unreliable(store, "memory://one")
    client.failing, client.after = failing, after
    lease = OnMachine(client, "b", later=HOUR * 2)
    # Puts: one asks the time, one takes the lease, one publishes what was left, one says that this is done.
    with pytest.raises(TransientStorageError, match="no answer"), lease.held():
        pass
    with lease.held():
        assert client.get(RECORD.key)[0] == b"first"
    with OnMachine(client, "c").held():
        pass


class Indifferent(ObjectClient):
    """A store that does not honour some conditions."""

    ignored: type | None = None

    def put(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Put, whatever is there."""
        if isinstance(expected, Version) == (self.ignored is Version):
            result = self.store.put(key, content)
            return Version(result["e_tag"], result["version"])
        return super().put(key, content, expected)


@pytest.mark.parametrize(
    ("ignored", "told"), [(None, "created that is there"), (Version, "version be replaced")]
)
def test_a_store_without_conditions_is_refused(ignored: type | None, told: str) -> None:
    """No lake is begun where two machines would overwrite each other's work, and nothing is left there."""
    client = Indifferent(MemoryStore(), "memory://one")
    client.ignored = ignored
    with (
        pytest.raises(PermanentStorageError, match=f"{told}.*Amazon S3"),
        OnMachine(client, "a").held(),
    ):
        pass
    assert client.keys("") == []


def test_a_store_with_conditions_is_fit(client: ObjectClient) -> None:
    """Nothing is said of it, and nothing left in it."""
    assert broken_condition(client) is None
    assert client.keys("") == []


def test_what_is_no_lease_is_told(client: ObjectClient) -> None:
    """An object that somebody else has put there is not overwritten."""
    client.put("locks/snapshot.json", b"mine", None)
    with (
        pytest.raises(PermanentStorageError, match="remove it while nobody"),
        OnMachine(client, "a").held(),
    ):
        pass
    assert client.get("locks/snapshot.json")[0] == b"mine"


def test_renewing(client: ObjectClient) -> None:
    """A thread renews the lease while it is held, and stops with it."""
    lease = Lease(client, "snapshot", "the snapshot", timedelta(milliseconds=200))
    with lease.held():
        seen = {client.get("locks/snapshot.json")[0] for _ in _until_two(client)}
        assert len(seen) >= 1
    after = client.get("locks/snapshot.json")[0]
    assert client.get("locks/snapshot.json")[0] == after


def _until_two(client: ObjectClient) -> Any:
    first = client.get("locks/snapshot.json")[0]
    while client.get("locks/snapshot.json")[0] == first:
        yield
    yield


def test_threads_of_one_process_take_turns(
    client: ObjectClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Of many threads that want it at once one has it at a time, and nobody thinks another dead."""
    lease = Lease(client, "snapshot", "the snapshot")
    at_work: list[int] = []

    def work(number: int) -> bool:
        try:
            with lease.held():
                at_work.append(number)
                assert len(at_work) == 1
                lease.prove()
                at_work.remove(number)
                return True
        except BusyError:
            return False

    with caplog.at_level(logging.INFO), ThreadPoolExecutor(8) as threads:
        assert any(threads.map(work, range(40)))
    assert "left by" not in caplog.text
