"""Telling people, or their tools, that something failed: by mail, or by webhooks and queues of the sinks' file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ctg_assets.feed.config import AmqpSettings, WebhookSettings, read_notified
from ctg_assets.feed.errors import DeliveryError, NotificationError
from ctg_assets.feed.mail import Mailbox, mailbox
from ctg_assets.feed.runner import make_sink
from ctg_assets.settings import Settings

MAIL = "mail"

_LONGEST_SECONDS = 10.0
_ID_DIGITS = 32


@dataclass(frozen=True)
class Notice:
    """One message: a line, a text for people, and the same as facts for programs."""

    subject: str
    text: str
    facts: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        """Follows from what it says, so that one that comes twice can be dropped."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[
            :_ID_DIGITS
        ]

    @property
    def headers(self) -> Mapping[str, Any]:
        """Headers of a message in a queue."""
        return {"kind": "notification"}

    @property
    def body(self) -> bytes:
        """The facts as JSON."""
        said = {
            "schema_version": 1,
            "kind": "notification",
            "event_id": self.event_id,
            "subject": self.subject,
            **self.facts,
        }
        return json.dumps(said, ensure_ascii=False).encode("utf-8", errors="backslashreplace")


class Channel(Protocol):
    """A way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called, once among all channels."""

    @property
    def where(self) -> str:
        """Where it leads, in words."""

    def tell(self, notice: Notice) -> None:
        """Send a notice; returns when it is taken. Raises NotificationError."""


@dataclass(frozen=True)
class MailChannel:
    """E-mail."""

    box: Mailbox
    name: str = MAIL

    @property
    def where(self) -> str:
        """The addresses, and by whom."""
        return f"{', '.join(self.box.recipients)} by {self.box.host}:{self.box.port}"

    def tell(self, notice: Notice) -> None:
        """Send it as a mail."""
        self.box.send(notice.subject, notice.text)


@dataclass(frozen=True)
class SinkChannel:
    """A webhook or a queue."""

    settings: WebhookSettings | AmqpSettings
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name in the file, apart from mail."""
        return f"{self.settings.type} {self.settings.name}"

    @property
    def where(self) -> str:
        """Its address, without what may be a token."""
        return self.settings.url.partition("?")[0]

    def tell(self, notice: Notice) -> None:
        """Send it as one event."""
        timeout = min(self.settings.timeout_seconds, _LONGEST_SECONDS)
        hurried = self.settings.model_copy(update={"timeout_seconds": timeout})
        sink = make_sink(hurried, self.environment)
        try:
            sink.deliver([notice])
        except DeliveryError as error:
            raise NotificationError(str(error)) from error
        finally:
            sink.close()


def open_channels(settings: Settings, environment: Mapping[str, str]) -> list[Channel]:
    """All ways to tell people that are configured.

    Raises MailSettingsError or SinkFileError when one of them cannot be used.
    """
    box = mailbox(settings)
    found: list[Channel] = [] if box is None else [MailChannel(box)]
    if settings.feed_file is not None:
        found += [SinkChannel(sink, environment) for sink in read_notified(settings.feed_file)]
    return found
