"""What can go wrong with the feed, by what is done about it."""

from __future__ import annotations

from ctg_assets.errors import CtgAssetsError, ExitCode


class FeedError(CtgAssetsError):
    """Base of the feed's failures; the message says what was tried, what was found and what to do."""


class SinkFileError(FeedError):
    """The file of sinks cannot be used until a person changes it or the environment."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


class SinkBusyError(FeedError):
    """Another process is delivering to this sink."""


class EventsUnreadableError(FeedError):
    """The events cannot be read."""


class DeliveryError(FeedError):
    """A sink did not confirm what was sent to it."""


class SinkUnavailableError(DeliveryError):
    """The sink is down, or refuses us whatever we send: wait and send the same again.

    `retry_after` is the number of seconds the sink asked us to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EventsRefusedError(DeliveryError):
    """The sink answers, but does not take these events.

    `for_good`: it called the events themselves wrong. Otherwise it failed at them, which may be its
    own fault as well as that of one of them.
    """

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


class MartsError(FeedError):
    """The marts of Postgres cannot be brought to a ClickHouse now; its tables follow without them."""


class NotificationError(FeedError):
    """Somebody could not be told of a failure; the message says why, and what to do."""
