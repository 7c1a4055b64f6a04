"""Requests to an object store, by obstore: what they answer, and what their failures mean.

The one atomic step that such a store has is a conditional put: one that succeeds only if the name is free, or
if it still holds the version that was seen.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, NoReturn

import msgspec

from ctg_assets.storage.backend import (
    AlreadyPublishedError,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# A single put that is refused although nothing is there has met another request; AWS answers 409 then, which
# obstore does not tell from "it exists" (arrow-rs-object-store#852).
_CONFLICTS = 5

# Credentials are not renewed between the tries of one request (object_store's RetryConfig), so below 5 minutes.
_RETRIES = 8
_RETRY_TIME = timedelta(minutes=2)
_TIMEOUT = timedelta(minutes=2)
_CONNECT_TIMEOUT = timedelta(seconds=10)

# Parts of large files; S3 takes at most 10,000 of them.
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4

_DELETED_AT_ONCE = 1000

_MOST_TOLD = 300

_DENIED = (
    "the store refuses us; check the credentials, and that they may get, put, list and delete there"
)

# How failures read that no repetition helps against, with what to do; the first that is found counts.
_PERMANENT = (
    (
        r"NoSuchBucket|specified bucket does not exist|ContainerNotFound",
        "there is no such bucket; create it, or correct CTG_DATA_URL",
    ),
    (
        r"169\.254\.169\.254|metadata\.google\.internal|no credentials",
        (
            "no credentials were found; give them as the provider's programs take them "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, "
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)"
        ),
    ),
    (
        r"redirect|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket is in another region; set AWS_REGION",
    ),
    # A listing that is refused has no class of its own.
    (r"status: 40[13]\b", _DENIED),
    (
        r"HTTP transport requires|URL scheme is not allowed|builder error",
        "the endpoint cannot be used; correct AWS_ENDPOINT_URL",
    ),
)


class Version(msgspec.Struct, frozen=True):
    """Which of the contents that an object had in turn."""

    e_tag: str | None = None
    version: str | None = None

    def as_mode(self) -> dict[str, str]:
        """What obstore takes as the condition that this version is there."""
        told = {"e_tag": self.e_tag, "version": self.version}
        return {name: value for name, value in told.items() if value is not None}


class StoredObject(msgspec.Struct, frozen=True):
    """An object as it lies in the store; `modified` is by the store's clock, to the second."""

    size: int
    version: Version
    modified: datetime


class ObjectClient:
    """The objects below one prefix; keys are relative to it."""

    def __init__(self, store: ObjectStore, url: str) -> None:
        """Ask `store`, which people know as `url`."""
        self.store = store
        self.url = url.rstrip("/")

    @classmethod
    def connect(cls, url: str, *, patience: timedelta = _RETRY_TIME) -> ObjectClient:
        """The objects below a URL; credentials and endpoint are taken from the provider's variables.

        Nothing is asked yet. A request that fails is repeated for `patience`. Raises StorageError when the
        extra `objects` is not installed, or the URL or a variable is none that can be used.
        """
        try:
            from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra, and 30 MB
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError as error:
            message = f"CTG_DATA_URL={url} needs a library: pip install 'ctg-assets[objects]'"
            raise StorageError(message) from error
        endpoints = _endpoints()
        for name, endpoint in endpoints.items():
            # obstore panics at some.
            if not re.fullmatch(r"https?://[^\s/]+.*", endpoint, re.IGNORECASE):
                message = f"{name}={endpoint!r} is no address; write it as https://host:port"
                raise PermanentStorageError(message)
        try:
            store = from_url(
                url,
                client_options={
                    "timeout": min(_TIMEOUT, patience),
                    "connect_timeout": min(_CONNECT_TIMEOUT, patience),
                    "allow_http": any(
                        endpoint.lower().startswith("http://") for endpoint in endpoints.values()
                    ),
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": patience},
            )
        except (BaseError, ValueError) as error:
            message = f"{url} cannot be used: {_plain(error)}; correct CTG_DATA_URL or the provider's variables"
            raise StorageError(message) from error
        return cls(store, url)

    def path(self, key: str) -> str:
        """The address of an object."""
        return f"{self.url}/{key}" if key else self.url

    def head(self, key: str) -> StoredObject | None:
        """What there is to say of an object; None when there is none."""
        try:
            with self._told("read", key):
                return _found(self.store.head(key))
        except FileNotFoundError:
            return None

    def get(self, key: str) -> tuple[bytes, StoredObject]:
        """An object; raises FileNotFoundError when there is none."""
        with self._told("read", key):
            result = self.store.get(key)
            return bytes(result.bytes()), _found(result.meta)

    def get_end(self, key: str, count: int) -> tuple[bytes, StoredObject]:
        """The last bytes of an object, by one request where the provider has such; raises FileNotFoundError."""
        from obstore.exceptions import (  # noqa: PLC0415
            BaseError,
            PermissionDeniedError,
            UnauthenticatedError,
        )

        try:
            with self._told("read", key):
                result = self.store.get(key, options={"range": {"suffix": count}})
                return bytes(result.bytes()), _found(result.meta)
        except StorageError as error:
            # Azure knows no such requests, and S3 none to objects without a byte.
            refused = isinstance(error.__cause__, PermissionDeniedError | UnauthenticatedError)
            if refused or not isinstance(error.__cause__, BaseError):
                raise
        found = self.head(key)
        if found is None:
            raise FileNotFoundError(self.path(key))
        start = max(0, found.size - count)
        end = self.get_range(key, start, found.size, found.version) if found.size else b""
        return bytes(end), found

    def get_range(self, key: str, start: int, end: int, version: Version) -> Any:
        """Bytes of a version of an object; raises StorageError when it is not there any more."""
        from obstore.exceptions import PreconditionError  # noqa: PLC0415

        try:
            with self._told("read", key):
                result = self.store.get(
                    key, options={"range": (start, end), "if_match": version.e_tag}
                )
                return result.bytes()
        except (StorageError, FileNotFoundError) as error:
            gone = isinstance(error, FileNotFoundError)
            if not gone and not isinstance(error.__cause__, PreconditionError):
                raise
            what = "removed" if gone else "replaced"
            message = f"{self.path(key)} was {what} while it was read; try again"
            raise TransientStorageError(message) from error

    def put(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Put an object in place of the version expected, None for none; returns its version.

        Raises AlreadyPublishedError when another version is there: nothing was changed then. An answer that got
        lost is no failure: what is there with this content is taken for ours.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415

        mode: Any = "create" if expected is None else expected.as_mode()
        for _ in range(_CONFLICTS):
            problem: Exception
            try:
                with self._told("write", key):
                    result = self.store.put(key, content, mode=mode, use_multipart=False)
                    return Version(result["e_tag"], result["version"])
            except FileNotFoundError as error:
                problem = error  # what was to be replaced is gone
            except PermanentStorageError:
                raise
            except StorageError as error:
                problem = error
            there = self.get_or_none(key)
            if there is not None and there[0] == content:
                return there[1].version
            cause = problem.__cause__
            if not isinstance(problem, FileNotFoundError) and not isinstance(
                cause, AlreadyExistsError | PreconditionError
            ):
                raise problem
            if there is not None or expected is not None:
                break
        message = f"{self.path(key)} was written by another process meanwhile; try again"
        raise AlreadyPublishedError(message)

    def put_large(self, key: str, file: IO[bytes]) -> None:
        """Put an object of any size in place of whatever is there; it is visible when all of it has arrived."""
        with self._told("write", key):
            self.store.put(
                key,
                file,
                mode="overwrite",
                use_multipart=True,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def get_or_none(self, key: str) -> tuple[bytes, StoredObject] | None:
        """An object; None when there is none."""
        try:
            return self.get(key)
        except FileNotFoundError:
            return None

    def copy(self, key: str, to: str) -> None:
        """Make a second object of the same content."""
        with self._told("copy", key):
            self.store.copy(key, to)

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are none to remove."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = keys[start : start + _DELETED_AT_ONCE]
            with contextlib.suppress(FileNotFoundError), self._told("delete", some[0]):
                self.store.delete(some)

    def names(self, folder: str) -> list[str]:
        """The last parts of keys and common prefixes directly below a prefix, sorted."""
        with self._told("list", folder):
            try:
                found = self.store.list_with_delimiter(folder or None)
            except FileNotFoundError as error:
                self._fail("list", folder, error)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

    def keys(self, folder: str) -> list[str]:
        """The keys of all objects below a prefix, sorted."""
        with self._told("list", folder):
            try:
                pages = self.store.list(folder or None, chunk_size=_DELETED_AT_ONCE)
                return sorted(each["path"] for page in pages for each in page)
            except FileNotFoundError as error:
                self._fail("list", folder, error)

    @contextlib.contextmanager
    def _told(self, what: str, key: str) -> Iterator[None]:
        """Say of a failure what it means; FileNotFoundError goes through where it is about the key alone."""
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            yield
        except FileNotFoundError as error:
            if re.search(_PERMANENT[0][0], str(error)):
                self._fail(what, key, error)
            raise
        except (BaseError, OSError, ValueError) as error:
            self._fail(what, key, error)

    def _fail(self, what: str, key: str, error: Exception) -> NoReturn:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415

        tried = f"cannot {what} {self.path(key)}"
        if isinstance(error, FileNotFoundError):
            message = f"{tried}: {_PERMANENT[0][1]}"
            raise PermanentStorageError(message) from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            message = f"{tried}: {_DENIED} ({_plain(error)})"
            raise PermanentStorageError(message) from error
        text = str(error)
        for pattern, remedy in _PERMANENT:
            if re.search(pattern, text):
                message = f"{tried}: {remedy} ({_plain(error)})"
                raise PermanentStorageError(message) from error
        message = (
            f"{tried}: the store gives no usable answer ({_plain(error)}). What is done stays; "
            "try again when it does"
        )
        raise TransientStorageError(message) from error


def _found(meta: Any) -> StoredObject:
    return StoredObject(
        meta["size"], Version(meta["e_tag"], meta["version"]), meta["last_modified"]
    )


def _endpoints() -> dict[str, str]:
    """The endpoints that variables name; of one without TLS obstore has to be told that it may be taken."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _plain(error: Exception) -> str:
    """What an error says, in one line, without what may be a secret of the provider's variables."""
    text = " ".join(str(error).partition("Debug source")[0].split())
    for name, value in os.environ.items():
        is_ours = name.startswith(("AWS_", "GOOGLE_", "AZURE_"))
        if is_ours and len(value) >= 8 and re.search("KEY|SECRET|TOKEN|CREDENTIAL|SAS", name):
            text = text.replace(value, "…")
    return text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}…"
