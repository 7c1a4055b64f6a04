"""All sinks at once, each in a thread of its own, for as long as wanted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from ctg_assets.clickhouse import MartsSource
from ctg_assets.feed.amqp import AmqpSink
from ctg_assets.feed.clickhouse import ClickHouseSink
from ctg_assets.feed.config import (
    AmqpSettings,
    ClickHouseSettings,
    SinkSettings,
    WebhookSettings,
    secret_of,
)
from ctg_assets.feed.delivery import Delivery, Pauses, Progress, Sink
from ctg_assets.feed.errors import (
    EventsUnreadableError,
    MartsError,
    SinkBusyError,
    SinkUnavailableError,
)
from ctg_assets.feed.events import EventSource
from ctg_assets.feed.positions import open_progress
from ctg_assets.feed.webhook import Webhook
from ctg_assets.lake import Lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import WarehouseError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended for one sink; `problem` is None when everything was delivered."""

    sink: str
    problem: Exception | None = None


def make_sink(
    settings: WebhookSettings | AmqpSettings, environment: Mapping[str, str]
) -> AmqpSink | Webhook:
    """A sink ready for use; raises SinkFileError when its secret is not."""
    secret = secret_of(settings, environment)
    if not isinstance(settings, WebhookSettings):
        return AmqpSink(settings, secret)
    return Webhook(settings, secret or "")


def make_any_sink(
    settings: SinkSettings,
    environment: Mapping[str, str],
    lake: Lake,
    show: Callable[[str], None] | None = None,
    marts: MartsSource | None = None,
) -> AmqpSink | Webhook | ClickHouseSink:
    """As `make_sink`, also for one that takes rows of the lake and marts, of whose loading `show` is told."""
    if isinstance(settings, ClickHouseSettings):
        return ClickHouseSink(settings, secret_of(settings, environment), lake, show, marts)
    return make_sink(settings, environment)


def run_feed(
    sinks: Sequence[tuple[SinkSettings, Sink]],
    address: PostgresAddress | None,
    source: EventSource,
    *,
    once: bool,
    stop: threading.Event,
    pauses: Pauses | None = None,
) -> list[Outcome]:
    """Deliver to all sinks until `stop` is set, or (`once`) until each has what there is or is down.

    No sink waits for another; `source` has to bear being asked by several threads. Without the `address` of a
    database there is progress only of sinks that keep their own.
    """
    # stamina keeps hooks for the process as a whole; its own one logs neither cause nor remedy.
    set_on_retry_hooks((_log_retry,))
    runs = [
        _Run(
            settings,
            sink,
            address,
            source,
            once=once,
            stop=stop,
            pauses=pauses or Pauses(),
        )
        for settings, sink in sinks
    ]
    threads = [
        threading.Thread(target=run.run, name=f"feed {run.sink_name}", daemon=True) for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        # With a time limit, so that signals are handled while waiting.
        while thread.is_alive():
            thread.join(0.5)
    return [run.outcome for run in runs]


def _log_retry(details: RetryDetails) -> None:
    _log.info("%s; trying again in %.1f s", details.caused_by, details.wait_for)


class _Run:
    """One sink's thread."""

    def __init__(
        self,
        settings: SinkSettings,
        sink: Sink,
        address: PostgresAddress | None,
        source: EventSource,
        *,
        once: bool,
        stop: threading.Event,
        pauses: Pauses,
    ) -> None:
        self.sink_name = settings.name
        self.outcome = Outcome(settings.name)
        self._sink = sink
        self._address = address
        self._once = once
        self._stop = stop
        self._pauses = pauses
        self._pause = pauses.first
        if isinstance(sink, ClickHouseSink):
            source = sink.bounded(source)
        self._delivery = Delivery(settings, sink, source, pauses=pauses, stopped=stop.is_set)

    def run(self) -> None:
        """Deliver until told to stop, or once; what goes wrong is noted and tried again."""
        done = False
        while not done:
            try:
                with self._open_progress() as progress:
                    done = self._deliver(progress)
            except (SinkBusyError, SinkUnavailableError, WarehouseError) as error:
                done = self._failed(error)
            except Exception as error:  # noqa: BLE001
                # A defect of ours must not end the feed of others, nor this one's for good.
                _log.exception("sink %s: unexpected failure", self.sink_name)
                done = self._failed(error)
            finally:
                self._sink.close()

    def _open_progress(self) -> AbstractContextManager[Progress]:
        if isinstance(self._sink, ClickHouseSink):
            return self._sink.open_progress()
        if self._address is None:
            message = f"sink {self.sink_name!r} needs the database, which the settings have none of"
            raise WarehouseError(message)
        return open_progress(self._address, self.sink_name)

    def _deliver(self, progress: Progress) -> bool:
        """Deliver as long as the progress can be written."""
        done = False
        while not done:
            try:
                self._delivery.catch_up(progress)
                problem = self._bring_marts()
            except (SinkUnavailableError, EventsUnreadableError) as error:
                if not self._stop.is_set():
                    progress.failed(str(error))
                self._sink.close()
                done = self._failed(error)
            else:
                self.outcome = Outcome(self.sink_name, problem)
                self._pause = self._pauses.first
                # A connection that is not used for long may be cut without our noticing.
                self._sink.close()
                done = self._once or self._stop.wait(self._pauses.for_news)
        return done

    def _bring_marts(self) -> MartsError | None:
        """Bring marts to a sink that has some; returns what is in the way, if anything is."""
        if not isinstance(self._sink, ClickHouseSink) or self._stop.is_set():
            return None
        return self._sink.bring_marts(self._pauses)

    def _failed(self, error: Exception) -> bool:
        """Wait before the next try; returns whether there is to be none."""
        self.outcome = Outcome(self.sink_name, error)
        if self._once or self._stop.is_set():
            return True
        asked = error.retry_after if isinstance(error, SinkUnavailableError) else None
        pause = min(max(self._pause, asked or 0.0), self._pauses.longest_while_down)
        self._pause = min(2 * self._pause, self._pauses.longest_while_down)
        _log.warning("sink %s: %s; trying again in %.1f s", self.sink_name, error, pause)
        return self._stop.wait(pause)
