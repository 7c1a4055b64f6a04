"""Object stores for tests: one in memory, and an S3 in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from obstore.store import MemoryStore

from ctg_assets.storage.files import Storage
from ctg_assets.storage.leases import LEASE_TIME
from ctg_assets.storage.object_client import ObjectClient
from ctg_assets.storage.objects import ObjectBackend

SECRET = "geheim-0815-geheim"


@dataclass(frozen=True)
class Fault:
    """What happens to requests of a method whose path fits: they are answered with a status.

    With `applied` they are carried out before, as if the answer had got lost. With `blind` they are carried out
    without their conditions, as by a store that knows none.
    """

    method: str
    path: str
    status: str = "503 Slow Down"
    times: int = 1
    applied: bool = False
    blind: bool = False


@dataclass(frozen=True)
class S3Server:
    """A running S3, and a bucket in it."""

    endpoint: str
    bucket: str

    def new_url(self) -> str:
        """The address of a lake that nobody has used."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex[:8]}/lake"

    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "canary-access-key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def set_faults(self, *faults: Fault) -> None:
        """Let these happen, and no others."""
        content = json.dumps([asdict(fault) for fault in faults]).encode()
        urllib.request.urlopen(f"{self.endpoint}/-/faults", content).close()

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of the requests since this was asked last."""
        with urllib.request.urlopen(f"{self.endpoint}/-/requests") as answer:
            return [(method, path) for method, path in json.load(answer)]


@contextlib.contextmanager
def running_s3(bucket: str = "bucket") -> Iterator[S3Server]:
    """A server with an empty bucket."""
    with subprocess.Popen(
        [sys.executable, "-m", "ctg_assets_tests.support.s3_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            asked = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
            urllib.request.urlopen(asked).close()
            yield S3Server(endpoint, bucket)
        finally:
            process.stdin.close()


def memory_client() -> ObjectClient:
    """Objects of this process alone."""
    return ObjectClient(MemoryStore(), f"memory://{uuid.uuid4().hex}")


def object_storage(
    scratch: Path, client: ObjectClient | None = None, lease_time: timedelta = LEASE_TIME
) -> Storage:
    """Storage among the objects of a client, else in memory."""
    return Storage(ObjectBackend(client or memory_client(), scratch, lease_time=lease_time))


def all_objects(storage: Storage) -> Sequence[str]:
    """The keys of all objects, those of locks included."""
    assert isinstance(storage.backend, ObjectBackend)
    return storage.backend.client.keys("")
