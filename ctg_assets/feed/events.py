"""An event of the feed: what it says, how it is written, and where events come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

_ID_DIGITS = 32

UNDONE = "undone"
"""The kind of an event that takes back a change."""


class TypedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a change means."""

    event_type: Annotated[str, Meta(description="What happened, as `status_changed`.")]
    subject: Annotated[
        str | None, Meta(description="What it happened to, as a site or an outcome measure.")
    ] = None
    old_value: Annotated[str | None, Meta(description="Value before, null if there was none.")] = (
        None
    )
    new_value: Annotated[
        str | None, Meta(description="Value afterwards, null if there is none.")
    ] = None
    days: Annotated[
        int | None, Meta(description="By how many days a date moved; negative is earlier.")
    ] = None
    after_primary_completion: Annotated[
        bool | None,
        Meta(
            description="Whether it came after the primary completion; null where that is unknown."
        ),
    ] = None
    similarity: Annotated[
        float | None,
        Meta(
            description="Of an outcome before and afterwards, how similar the measures are, from 0 to 1."
        ),
    ] = None


class UndoneChange(msgspec.Struct, frozen=True, kw_only=True):
    """The change that an event of kind `undone` takes back."""

    change_seq: Annotated[
        int, Meta(description="Number of the change that does not count any more.")
    ]
    kind: Annotated[str, Meta(description="Its kind.")]
    event_types: Annotated[tuple[str, ...], Meta(description="Types of its typed events.")] = ()


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One study that one refresh found changed."""

    schema_version: Annotated[Literal[1], Meta(description="Version of this schema.")] = 1
    event_id: Annotated[
        str,
        Meta(description="Id of the event, the same whenever it is sent: drop what you have seen."),
    ] = ""
    change_seq: Annotated[int, Meta(description="Number of the change; later ones have higher.")]
    nct_id: Annotated[str, Meta(description="The study.")]
    kind: Annotated[
        str,
        Meta(
            description="`insert`, `update`, `delete`, `restore`, `merge`, `leave_scope` or `undone`."
        ),
    ]
    observed_at: Annotated[
        datetime,
        Meta(description="The registry's data timestamp at which the change was seen (UTC)."),
    ]
    title: Annotated[str | None, Meta(description="Brief title of the study.")] = None
    old_version_number: Annotated[
        int | None, Meta(description="Number of the study's version before, null if none.")
    ] = None
    new_version_number: Annotated[
        int | None, Meta(description="Number of its version afterwards, null if it is gone.")
    ] = None
    old_content_hash: Annotated[str | None, Meta(description="Content before.")] = None
    new_content_hash: Annotated[str | None, Meta(description="Content afterwards.")] = None
    is_silent: Annotated[
        bool, Meta(description="Whether the content changed with its update date unmoved.")
    ] = False
    is_backfill: Annotated[
        bool, Meta(description="Whether it comes from an older content, brought in later.")
    ] = False
    merged_into: Annotated[
        str | None, Meta(description="Of a merged study, the one that it lives on in.")
    ] = None
    undoes: Annotated[
        UndoneChange | None, Meta(description="Of kind `undone`, the change that is taken back.")
    ] = None
    typed_events: Annotated[
        tuple[TypedEvent, ...], Meta(description="What the change means, where that has a name.")
    ] = ()
    fields_changed: Annotated[
        tuple[str, ...],
        Meta(description="Paths of the changed fields, each once, `[]` after a list."),
    ] = ()
    conditions: Annotated[
        tuple[str, ...], Meta(description="Conditions of the study, as it lists them.")
    ] = ()
    condition_terms: Annotated[
        tuple[str, ...],
        Meta(description="MeSH terms that the registry gives for them, and broader ones."),
    ] = ()
    sponsors: Annotated[tuple[str, ...], Meta(description="Lead sponsor, then collaborators.")] = ()
    countries: Annotated[tuple[str, ...], Meta(description="Countries of the sites.")] = ()

    def __post_init__(self) -> None:
        """Derive the id: it depends on nothing that differs from one sending to the next."""
        facts = (
            self.change_seq,
            self.nct_id,
            self.kind,
            self.old_content_hash,
            self.new_content_hash,
        )
        digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
        msgspec.structs.force_setattr(self, "event_id", digest[:_ID_DIGITS])


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it is sent."""

    event_id: str
    change_seq: int
    nct_id: str
    body: bytes

    @classmethod
    def of(cls, event: ChangeEvent) -> Message:
        """Write an event down."""
        return cls(event.event_id, event.change_seq, event.nct_id, msgspec.json.encode(event))

    @property
    def headers(self) -> Mapping[str, Any]:
        """Number and study."""
        return {"change_seq": self.change_seq, "nct_id": self.nct_id}


class Sendable(Protocol):
    """What a sink takes: a body of JSON under an id by which it can be told from others."""

    @property
    def event_id(self) -> str:
        """The same whenever it is sent."""

    @property
    def body(self) -> bytes:
        """JSON."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """What a queue shows of it beside the body."""


class EventSource(Protocol):
    """Where events come from. Both raise EventsUnreadableError when they cannot be read."""

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """The first `limit` events whose `change_seq` is higher, in its order."""

    def newest(self) -> int:
        """The highest `change_seq` there is, 0 if there is none."""


def event_schema() -> dict[str, Any]:
    """The JSON schema of an event."""
    return msgspec.json.schema(ChangeEvent)
