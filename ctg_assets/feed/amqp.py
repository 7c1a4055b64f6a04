"""RabbitMQ: each event a persistent message, confirmed by the broker.

pika's blocking connection waits for each confirmation before it sends the next message, and a broker
that writes to disk confirms perhaps a hundred times a second. So its other connection is used, and a
batch is confirmed as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any
from urllib.parse import quote, urlsplit

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

from ctg_assets.feed.config import AmqpSettings
from ctg_assets.feed.errors import (
    DeliveryError,
    EventsRefusedError,
    SinkFileError,
    SinkUnavailableError,
)
from ctg_assets.feed.events import Sendable

# RabbitMQ's own user and password, for connections on its own machine.
_GUEST = "guest"

_NOT_FOUND = 404

# A broker that is out of memory or disk tells publishers and stops reading. It is left alone then.
_LONGEST_BLOCKED_SECONDS = 1.0

# The broker closes the channel with these over a message that it will not have, as one too large.
_REFUSED_MESSAGE = frozenset({311, 406})


class AmqpSink:
    """A queue or exchange of RabbitMQ. For one thread at a time."""

    def __init__(self, settings: AmqpSettings, password: str | None) -> None:
        """Prepare; nothing is sent yet. Raises SinkFileError when the URL is not usable."""
        self._settings = settings
        self._parameters = amqp_parameters(settings, password)
        self._channel: _ConfirmingChannel | None = None

    def deliver(self, messages: Sequence[Sendable]) -> None:
        """Publish a batch and see every message confirmed by the broker.

        Raises SinkUnavailableError or EventsRefusedError; some messages may have been taken then.
        """
        try:
            if self._channel is None or not self._channel.is_open:
                self.close()
                self._channel = _ConfirmingChannel(self._settings, self._parameters)
            self._channel.publish(messages)
        except DeliveryError:
            # What is still on its way must not be taken for an answer to the next try.
            self.close()
            raise
        except AMQPError as error:
            self.close()
            message = f"cannot publish to sink {self._settings.name!r}: {error_text(error)}"
            raise SinkUnavailableError(message) from error

    def close(self) -> None:
        """Close the connection; the next delivery opens a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class _ConfirmingChannel:
    """A connection with one channel, on which the broker confirms what it has taken.

    The connection's loop runs only while something is waited for.
    """

    def __init__(self, settings: AmqpSettings, parameters: pika.ConnectionParameters) -> None:
        self._settings = settings
        self._where = f"{parameters.host}:{parameters.port}"
        self._problem: DeliveryError | None = None
        self._stands: Callable[[], bool] = lambda: True
        self._blocked_by: str | None = None
        self._closing = False
        self._closed = False
        self._published = 0
        self._unconfirmed: dict[int, Sendable] = {}
        self._channel: Any = None
        self._queue_there: bool | None = None
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=partial(self._connection_ended, "cannot be reached"),
            on_close_callback=partial(self._connection_ended, "closed the connection"),
        )
        self._loop = self._connection.ioloop
        try:
            self._wait("connecting", lambda: self._connection.is_open)
            self._open_channel()
            if settings.queue is not None:
                self._declare(settings.queue)
            self._confirm()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it can be published to, as far as is known."""
        return self._problem is None and bool(self._channel.is_open)

    def publish(self, messages: Sequence[Sendable]) -> None:
        """Publish messages and wait until all are confirmed."""
        exchange = self._settings.exchange or ""
        routing_key = self._settings.routing_key or self._settings.queue or ""
        for message in messages:
            properties = pika.BasicProperties(
                message_id=message.event_id,
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent.value,
                app_id="ctg-assets",
                headers=dict(message.headers),
            )
            self._published += 1
            self._unconfirmed[self._published] = message
            self._channel.basic_publish(
                exchange, routing_key, message.body, properties, mandatory=True
            )
        while self._unconfirmed:
            # A large batch may take its time as long as it gets on.
            left = len(self._unconfirmed)
            self._wait("publishing", partial(self._has_confirmed, left))

    def close(self) -> None:
        """Close the connection, if it is not closed yet."""
        self._closing = True
        if not self._closed and self._connection.is_open:
            self._connection.close()
            self._run_until(lambda: self._closed)
        self._loop.close()

    # --- steps ------------------------------------------------------------------------------------

    def _open_channel(self) -> None:
        self._channel = self._connection.channel(on_open_callback=self._wake)
        self._channel.add_on_close_callback(self._channel_closed)
        self._wait("opening a channel", lambda: bool(self._channel.is_open))

    def _declare(self, queue: str) -> None:
        """Create the queue unless it is there; one that is there is left as it was made."""
        self._channel.queue_declare(queue, passive=True, callback=self._declared)
        self._wait("looking for the queue", lambda: self._queue_there is not None)
        if not self._queue_there:
            self._open_channel()
            self._channel.queue_declare(queue, durable=True, callback=self._declared)
            self._wait("creating the queue", lambda: bool(self._queue_there))

    def _confirm(self) -> None:
        selected: list[object] = []

        def chosen(frame: object) -> None:
            selected.append(frame)
            self._wake()

        self._channel.add_on_return_callback(self._returned)
        self._channel.confirm_delivery(self._answered, callback=chosen)
        self._wait("asking for confirmations", lambda: bool(selected))

    def _has_confirmed(self, left: int) -> bool:
        return len(self._unconfirmed) < left

    # --- what the broker says -----------------------------------------------------------------------

    def _opened(self, _connection: object) -> None:
        self._connection.add_on_connection_blocked_callback(self._blocked)
        self._connection.add_on_connection_unblocked_callback(self._unblocked)
        self._wake()

    def _declared(self, _frame: object) -> None:
        self._queue_there = True
        self._wake()

    def _answered(self, frame: Any) -> None:
        method = frame.method
        tag = method.delivery_tag
        answered = [tag]
        if method.multiple:
            answered = list(takewhile(lambda at: at <= tag, self._unconfirmed))
        if isinstance(method, pika.spec.Basic.Nack):
            message = (
                f"{self._where} did not take a message of {self._target()}; is the queue full?"
            )
            self._problem = self._problem or EventsRefusedError(message, for_good=False)
        for at in answered:
            self._unconfirmed.pop(at, None)
        self._wake()

    def _returned(self, _channel: object, method: Any, _properties: object, _body: object) -> None:
        # The broker confirms a message that it returns, and returns it first.
        self._problem = self._problem or SinkUnavailableError(
            f"{self._where} has no queue for {self._target()} ({method.reply_code} "
            f"{method.reply_text}); bind one to it"
        )
        self._wake()

    def _channel_closed(self, channel: object, reason: Exception) -> None:
        if channel is not self._channel or not isinstance(reason, ChannelClosedByBroker):
            # Of the end of the connection we hear by itself.
            return
        code = reason.reply_code
        if code == _NOT_FOUND and self._queue_there is None and self._settings.queue is not None:
            self._queue_there = False
        elif code in _REFUSED_MESSAGE and self._unconfirmed:
            self._problem = self._problem or EventsRefusedError(
                f"{self._where} refused a message of {self._target()}: {error_text(reason)}",
                for_good=True,
            )
        else:
            self._problem = self._problem or SinkUnavailableError(
                f"{self._where} closed the channel over {self._target()}: {error_text(reason)}; check that "
                "it exists and that the user may use it"
            )
        self._wake()

    def _connection_ended(self, how: str, _connection: object, reason: Exception) -> None:
        self._closed = True
        message = f"{self._where} {how}: {error_text(reason)}; check the sink's url and secret, and the broker"
        if self._blocked_by is not None:
            message = f"{self._where} takes no messages for now: {self._blocked_by}"
        self._problem = self._problem or SinkUnavailableError(message)
        self._wake()

    def _blocked(self, _connection: object, frame: Any) -> None:
        # The broker does not even read any more, so pika ends the connection after a moment.
        self._blocked_by = frame.method.reason

    def _unblocked(self, *_: object) -> None:
        self._blocked_by = None

    # --- the loop -----------------------------------------------------------------------------------

    def _wake(self, *_: object) -> None:
        """Look whether what is waited for has come."""
        if self._is_over():
            self._loop.stop()

    def _is_over(self) -> bool:
        # Whatever is found while closing, closing has to come to its end.
        return self._stands() or (self._problem is not None and not self._closing)

    def _wait(self, doing: str, stands: Callable[[], bool]) -> None:
        """Let the loop run until something stands; raises what went wrong, or that time is up."""
        self._run_until(stands)
        if self._problem is not None:
            raise self._problem
        if not stands():
            message = (
                f"{self._where} did not answer within {self._settings.timeout_seconds:g} s, {doing}; "
                "check the broker"
            )
            raise SinkUnavailableError(message)

    def _run_until(self, stands: Callable[[], bool]) -> None:
        self._stands = stands
        if not self._is_over():
            timer = self._loop.call_later(self._settings.timeout_seconds, self._loop.stop)
            self._loop.start()
            self._loop.remove_timeout(timer)

    def _target(self) -> str:
        settings = self._settings
        if settings.queue is not None:
            return f"queue {settings.queue!r}"
        return f"exchange {settings.exchange!r} with routing key {settings.routing_key!r}"


def amqp_parameters(settings: AmqpSettings, password: str | None) -> pika.ConnectionParameters:
    """How a broker is connected to; raises SinkFileError for a URL with options that cannot be used."""
    parts = urlsplit(settings.url)
    user, _, place = parts.netloc.rpartition("@")
    credentials = f"{user or _GUEST}:{quote(password or _GUEST, safe='')}"
    try:
        parameters = pika.URLParameters(parts._replace(netloc=f"{credentials}@{place}").geturl())
    except (ValueError, TypeError) as error:
        message = f"sink {settings.name!r}: the url has options that cannot be used: {error}"
        raise SinkFileError(message) from error
    # Trying again is done elsewhere. pika is to give up before we do, so that it closes its sockets.
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = 0.9 * settings.timeout_seconds
    parameters.blocked_connection_timeout = _LONGEST_BLOCKED_SECONDS
    parameters.client_properties = {"connection_name": f"ctg-assets feed {settings.name}"}
    return parameters


def error_text(reason: BaseException) -> str:
    """What pika's errors come down to: those of connecting hold the cause some layers below."""
    nested = [*getattr(reason, "exceptions", ()), getattr(reason, "exception", None), *reason.args]
    for part in nested:
        if isinstance(part, BaseException):
            return error_text(part)
    return f"{type(reason).__name__}: {reason}"
