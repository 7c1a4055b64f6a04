"""From a queue of RabbitMQ into ClickHouse: what the feed published, brought in batches by one consumer, and marts between.

Messages are acknowledged after their batch is in ClickHouse. One that comes twice, or late, changes nothing; one that is
no event, or that ClickHouse refuses, is put aside in ClickHouse with its reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

from ctg_assets.clickhouse import ChangedStudy, MartsSource, reflected
from ctg_assets.feed.amqp import amqp_parameters, error_text
from ctg_assets.feed.clickhouse import ClickHouseSink, changed_study
from ctg_assets.feed.clickhouse_progress import ClickHouseProgress, unavailable
from ctg_assets.feed.config import AmqpSettings, ClickHouseSettings, secret_of
from ctg_assets.feed.delivery import Delivery, Pauses
from ctg_assets.feed.errors import EventsRefusedError, SinkUnavailableError
from ctg_assets.feed.events import ChangeEvent, EventSource, Message
from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.feed.positions import Refusal
from ctg_assets.lake import Lake, open_lake
from ctg_assets.settings import Settings

_log = logging.getLogger(__name__)

# A batch is brought when it is full, or when nothing more has come for so long.
_IDLE_SECONDS = 0.5

# Ids of events that were brought a short while ago, so that their repeats cost nothing.
_REMEMBERED = 100_000

_ID_DIGITS = 32

_EVENTS_AT_A_TIME = 1000


@dataclass(frozen=True)
class _Delivered:
    """A message of the queue: by which tag it is acknowledged, and what it says; a `problem` if it is no event."""

    tag: int
    message: Message
    problem: str | None = None


@dataclass
class Consumed:
    """What a consumer did: messages taken, studies brought, repeats, messages put aside; the trouble that ended it."""

    messages: int = 0
    brought: int = 0
    repeats: int = 0
    put_aside: int = 0
    waiting: int = 0
    replayed: int = 0
    discarded: int = 0
    problem: str | None = None


@dataclass
class Consumer:
    """One queue, one ClickHouse. For one thread.

    Without `once` it goes on until `stop` is set, whatever is down meanwhile. Before all else it brings the dead
    letters that are to be sent again, all of them with `replay`, and with `discard` forgets them.
    """

    queue: AmqpSettings
    settings: ClickHouseSettings
    sink: ClickHouseSink
    lake: Lake
    parameters: pika.ConnectionParameters
    stop: threading.Event
    once: bool = False
    replay: bool = False
    discard: bool = False
    pauses: Pauses = field(default_factory=Pauses)

    def __post_init__(self) -> None:
        self.report = Consumed()
        self._known: dict[str, None] = {}
        # Whether something was brought since it was last asked how far all is whole.
        self._is_ahead = True
        self._delivery = Delivery(
            self.settings, self.sink, _NoEvents(), pauses=self.pauses, stopped=self.stop.is_set
        )

    def run(self) -> Consumed:
        """Consume; returns what was done. Raises SinkBusyError when another process writes these tables."""
        pause = self.pauses.first
        while not self.stop.is_set():
            taken = self.report.messages
            try:
                # The first load takes minutes, in which a connection to the broker would be given up.
                with self.sink.open_progress() as progress:
                    progress.position()
                    self._see_to_letters(progress)
                    problem, is_done = None, False
                    while not is_done:
                        is_done = self._session(progress)
                        if not self.stop.is_set():
                            problem = self.sink.bring_marts(self.pauses)
            except (AMQPError, OSError) as error:
                where = f"{self.parameters.host}:{self.parameters.port}"
                self.report.problem = (
                    f"queue {self.queue.queue!r} at {where}: {error_text(error)}; check the broker"
                )
            except SinkUnavailableError as error:
                self.report.problem = str(error)
            else:
                self.report.problem = None if problem is None else str(problem)
                return self.report
            if self.once:
                return self.report
            if self.report.messages > taken:
                pause = self.pauses.first
            _log.warning("%s; trying again in %.1f s", self.report.problem, pause)
            self.stop.wait(pause)
            pause = min(2 * pause, self.pauses.longest_while_down)
        return self.report

    def _see_to_letters(self, progress: ClickHouseProgress) -> None:
        """Do what a person wants done with dead letters, once."""
        if self.discard:
            self.report.discarded = progress.discard_dead_letters()
        elif self.replay:
            self.report.replayed = progress.ask_for_dead_letters()
        self.discard = self.replay = False
        self._delivery.deliver_replays(progress)

    def _session(self, progress: ClickHouseProgress) -> bool:
        """Consume over one connection, until there is no more to do, or (returns False) marts are waiting.

        They take as long as a first load.
        """
        size = self.settings.batch_size
        with BlockingConnection(self.parameters) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=size)
            waiting: list[_Delivered] = []
            for method, properties, body in channel.consume(
                self.queue.queue, inactivity_timeout=min(_IDLE_SECONDS, self.pauses.for_news)
            ):
                if method is not None:
                    waiting.append(_read(method.delivery_tag, properties.message_id, body))
                    if len(waiting) < size:
                        continue
                if waiting:
                    waiting = self._settle(channel, progress, waiting)
                self.report.waiting = len(waiting)
                if method is None and self._is_ahead:
                    self._note_whole(progress)
                if self.stop.is_set() or (self.once and method is None):
                    # What was not acknowledged is the queue's again.
                    channel.cancel()
                    return True
                if method is None and self.sink.are_marts_waiting(self.pauses):
                    channel.cancel()
                    return False
                if len(waiting) == size:
                    connection.sleep(self.pauses.for_news)
        return True

    def _settle(
        self, channel: BlockingChannel, progress: ClickHouseProgress, batch: Sequence[_Delivered]
    ) -> list[_Delivered]:
        """Bring a batch and acknowledge it; returns the messages that wait for the next snapshot."""
        with unavailable():
            base = progress.base()
        there = reflected(self.lake)
        newest = base.change_seq if there is None else there.change_seq
        settled = [each for each in batch if each.problem or each.message.change_seq <= newest]
        new: dict[str, Message] = {}
        for each in settled:
            message = each.message
            is_there = message.change_seq <= base.change_seq or message.event_id in self._known
            if each.problem is None and not is_there:
                new[message.event_id] = message
        refused = [
            Refusal(each.message, each.problem, 1) for each in settled if each.problem is not None
        ]
        wrong = len(refused)
        if new:
            refused += self._delivery.bring([*new.values()])
        put_aside = {refusal.message.event_id for refusal in refused}
        progress.took(
            [message for message in new.values() if message.event_id not in put_aside], refused
        )
        self._is_ahead = True
        self._remember([event_id for event_id in new if event_id not in put_aside])
        for each in settled:
            channel.basic_ack(each.tag)
        self.report.messages += len(settled)
        self.report.brought += len(new) - len(refused) + wrong
        self.report.put_aside += len(refused)
        self.report.repeats += len(settled) - len(new) - wrong
        done = {each.tag for each in settled}
        return [each for each in batch if each.tag not in done]

    def _note_whole(self, progress: ClickHouseProgress) -> None:
        """Have the newest snapshot be the one that all tables are whole with, if nothing up to it is missing.

        Later batches then read only what the lake got since. The queue says nothing of it: messages come in any
        order, or are lost.
        """
        self._is_ahead = False
        with unavailable():
            base = progress.base()
        there = reflected(self.lake)
        if there is None or there.change_seq <= base.change_seq:
            return
        settled = progress.settled_since(base.change_seq)
        undoings = []
        for change in _changes(HistoryEvents(self.lake.history), base.change_seq, there.change_seq):
            if change.undoes is not None:
                undoings.append(change)
            elif change.change_seq not in settled:
                return
        progress.whole_up_to(there.change_seq, undoings)

    def _remember(self, event_ids: Sequence[str]) -> None:
        self._known |= dict.fromkeys(event_ids)
        for event_id in [*self._known][: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[event_id]


def _changes(source: EventSource, after: int, last: int) -> Iterator[ChangedStudy]:
    """The changes of studies after one number and up to another."""
    while events := source.events(after, _EVENTS_AT_A_TIME):
        for event in events:
            if event.change_seq > last:
                return
            # One that is refused is put aside when it comes, and has no rows to be missed.
            with contextlib.suppress(EventsRefusedError):
                yield changed_study(Message.of(event).body)
        after = events[-1].change_seq


def _read(tag: int, message_id: str | None, body: bytes) -> _Delivered:
    try:
        change = changed_study(body)
    except EventsRefusedError as error:
        # Under this id a repeat of it is the same dead letter.
        digest = hashlib.sha256(body).hexdigest()[:_ID_DIGITS]
        return _Delivered(tag, Message(message_id or digest, 0, "", body), str(error))
    event_id = message_id or f"{change.nct_id} {change.change_seq}"
    return _Delivered(tag, Message(event_id, change.change_seq, change.nct_id, body))


class _NoEvents:
    """A source without events: those of a queue come by themselves."""

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """None."""
        del after_seq, limit
        return []

    def newest(self) -> int:
        """None."""
        return 0


def consume(
    settings: Settings,
    queue: AmqpSettings,
    sink: ClickHouseSettings,
    environment: dict[str, str],
    *,
    once: bool,
    stop: threading.Event,
    replay: bool = False,
    discard: bool = False,
    pauses: Pauses | None = None,
    show: Callable[[str], None] | None = None,
    marts: MartsSource | None = None,
) -> Consumed:
    """Bring what is in a queue into a ClickHouse until `stop` is set, or (`once`) until the queue is empty; and `marts`.

    Dead letters are brought once more (`replay`) or forgotten (`discard`) before. `show` is told what takes long.

    Raises SinkFileError for addresses or secrets that cannot be used, SinkBusyError.
    """
    lake = open_lake(settings)
    return Consumer(
        queue=queue,
        settings=sink,
        sink=ClickHouseSink(sink, secret_of(sink, environment), lake, show, marts),
        lake=lake,
        parameters=amqp_parameters(queue, secret_of(queue, environment)),
        stop=stop,
        once=once,
        replay=replay,
        discard=discard,
        pauses=pauses or Pauses(),
    ).run()
