"""Delivery to one sink: from its position on, at least once, in order.

A batch that is refused is halved until the events at fault stand alone. An event that the sink calls
wrong is put aside once it was tried often enough. An event that the sink fails at, without calling it
wrong, is put aside only when the sink takes a later one: otherwise the sink may be what is broken, and
the position stays before that event. After many refusals in a row that holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import stamina

from ctg_assets.feed.config import SinkSettings
from ctg_assets.feed.errors import EventsRefusedError, EventsUnreadableError, SinkUnavailableError
from ctg_assets.feed.events import EventSource, Message
from ctg_assets.feed.filters import Filter
from ctg_assets.feed.positions import Refusal

# Events looked at in one go, where few of them pass the filters. Each go opens the files of the history,
# which takes half a second when they hold 600,000 studies.
_LOOKED_AT = 5000


class Sink(Protocol):
    """Something outside that takes events. For one thread at a time."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send messages; returns when the sink has confirmed all of them.

        Raises SinkUnavailableError or EventsRefusedError; some may have been taken then.
        """

    def close(self) -> None:
        """Close what is open; a later delivery opens it again."""


class Progress(Protocol):
    """What is remembered of a sink, while this process is the one that delivers to it."""

    def position(self) -> int | None:
        """The highest number up to which everything is settled; None for a new sink."""

    def begin(self, change_seq: int) -> None:
        """Give a new sink its first position."""

    def advance(
        self, before: int, after: int, accepted: Sequence[str], refused: Sequence[Refusal]
    ) -> bool:
        """Move the position on, over events taken (by id) and others that are put aside; False if it was moved."""

    def settle(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note how dead letters fared that were sent again."""

    def replays(self, limit: int) -> list[Message]:
        """Dead letters that are to be sent again, in the order of their numbers."""

    def failed(self, reason: str) -> None:
        """Note that delivery is held up."""


@dataclass(frozen=True)
class Pauses:
    """How long to wait, in seconds.

    Between tries of a delivery: `first`, doubled each time up to `longest`. Between rounds while a sink
    is down: the same up to `longest_while_down`. For new events: `for_news`.
    """

    first: float = 0.5
    longest: float = 5.0
    longest_while_down: float = 300.0
    for_news: float = 10.0


@dataclass(frozen=True)
class _Outcome:
    """What became of a message: taken, or refused after so many attempts."""

    message: Message
    refusal: EventsRefusedError | None = None
    attempts: int = 1

    def put_aside(self) -> Refusal:
        return Refusal(self.message, str(self.refusal), self.attempts)


class Delivery:
    """The delivery to one sink. For one thread."""

    def __init__(
        self,
        settings: SinkSettings,
        sink: Sink,
        source: EventSource,
        *,
        pauses: Pauses,
        stopped: Callable[[], bool],
    ) -> None:
        """Deliver the events of `source` to `sink`, until told that it is `stopped`."""
        self._settings = settings
        self._filter = Filter(settings.filters)
        self._sink = sink
        self._source = source
        self._pauses = pauses
        self._stopped = stopped
        # Events put aside since the sink last took one.
        self._in_a_row = 0

    def catch_up(self, progress: Progress) -> None:
        """Deliver everything there is.

        Raises SinkUnavailableError when the sink has to be waited for, EventsUnreadableError when the events
        cannot be read; what was confirmed before is settled.
        """
        if progress.position() is None:
            progress.begin(0 if self._settings.start == "beginning" else self._source.newest())
        more = True
        while more and not self._stopped():
            self.deliver_replays(progress)
            more = self._deliver_news(progress)

    def bring(self, messages: Sequence[Message]) -> list[Refusal]:
        """Deliver messages that came by another way; returns those that are to be put aside.

        Raises SinkUnavailableError when the sink has to be waited for; some may have been taken then.
        """
        outcomes: list[_Outcome] = []
        self._send(messages, outcomes, attempts=self._settings.attempts)
        settled = self._settled(outcomes)
        if settled < len(outcomes):
            raise SinkUnavailableError(str(outcomes[settled].refusal))
        for outcome in outcomes:
            self._in_a_row = 0 if outcome.refusal is None else self._in_a_row + 1
        return [outcome.put_aside() for outcome in outcomes if outcome.refusal is not None]

    def _deliver_news(self, progress: Progress) -> bool:
        """Deliver the next events; returns False when there are none."""
        position = progress.position() or 0
        size = self._settings.batch_size
        events = self._source.events(position, max(size, _LOOKED_AT))
        if not events:
            self._check_position(position)
            return False
        wanted = [Message.of(event) for event in events if self._filter.passes(event)]
        for first in range(0, len(wanted), size):
            if self._stopped():
                return True
            after = self._deliver_batch(progress, position, wanted[first : first + size])
            if after is None:
                return True
            position = after
        # Over those that are filtered out.
        progress.advance(position, events[-1].change_seq, (), ())
        return True

    def _deliver_batch(
        self, progress: Progress, position: int, messages: Sequence[Message]
    ) -> int | None:
        """Deliver a batch; returns the new position, None if somebody else moved it."""
        outcomes: list[_Outcome] = []
        problem: SinkUnavailableError | None = None
        try:
            self._send(messages, outcomes, attempts=self._settings.attempts)
        except SinkUnavailableError as error:
            problem = error
        settled = outcomes[: self._settled(outcomes)]
        if len(settled) < len(outcomes) and problem is None:
            problem = SinkUnavailableError(
                f"{outcomes[len(settled)].refusal}; held until the sink takes this event or a later one"
            )
        if settled:
            after = settled[-1].message.change_seq
            accepted = [outcome.message.event_id for outcome in settled if outcome.refusal is None]
            refused = [outcome.put_aside() for outcome in settled if outcome.refusal is not None]
            if not progress.advance(position, after, accepted, refused):
                return None
            for outcome in settled:
                self._in_a_row = 0 if outcome.refusal is None else self._in_a_row + 1
            position = after
        if problem is not None:
            raise problem
        return position

    def deliver_replays(self, progress: Progress) -> None:
        """Send the dead letters that a person asked for; those refused again are dead letters again."""
        while not self._stopped() and (
            messages := progress.replays(limit=self._settings.batch_size)
        ):
            outcomes: list[_Outcome] = []
            try:
                # They were tried often enough before.
                self._send(messages, outcomes, attempts=1, give_up=False)
            finally:
                progress.settle(
                    [outcome.message.event_id for outcome in outcomes if outcome.refusal is None],
                    [outcome.put_aside() for outcome in outcomes if outcome.refusal is not None],
                )

    def _send(
        self,
        messages: Sequence[Message],
        outcomes: list[_Outcome],
        *,
        attempts: int,
        give_up: bool = True,
    ) -> None:
        """Send a batch, and if it is refused its halves, adding what became of each to `outcomes`.

        Raises SinkUnavailableError, also (`give_up`) after many refusals with nothing taken between.
        """
        parts = [messages]
        while parts:
            part = parts.pop()
            # A half of a refused batch is tried once: if it is refused, it is halved in its turn.
            worth_more = len(part) in {1, len(messages)}
            tries, refusal = self._try(part, attempts if worth_more else 1)
            if refusal is None:
                outcomes.extend(_Outcome(message) for message in part)
            elif len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                outcomes.append(_Outcome(part[0], refusal, tries))
                if give_up and _refused_last(outcomes) >= self._settings.refusals_in_a_row:
                    raise self._at_fault(refusal)

    def _try(
        self, messages: Sequence[Message], attempts: int
    ) -> tuple[int, EventsRefusedError | None]:
        """Send messages, again if need be; returns how often, and the refusal if there was one."""

        def again(error: Exception) -> bool | float:
            if self._stopped():
                return False
            if isinstance(error, EventsRefusedError):
                return len(messages) == 1 or not error.for_good
            if not isinstance(error, SinkUnavailableError):
                return False
            if error.retry_after is None:
                return True
            return error.retry_after if error.retry_after <= self._pauses.longest else False

        tries = 0
        try:
            for attempt in stamina.retry_context(
                on=again,
                attempts=attempts,
                timeout=None,
                wait_initial=self._pauses.first,
                wait_max=self._pauses.longest,
                wait_jitter=self._pauses.first,
            ):
                with attempt:
                    tries = attempt.num
                    self._sink.deliver(messages)
        except EventsRefusedError as error:
            if self._stopped():
                # It was not tried as often as it should be, so nothing follows from it.
                message = f"stopped while this was to be tried again: {error}"
                raise SinkUnavailableError(message) from error
            return tries, error
        return tries, None

    def _settled(self, outcomes: Sequence[_Outcome]) -> int:
        """How many of the messages, from the first on, are dealt with."""
        taken = [place for place, outcome in enumerate(outcomes) if outcome.refusal is None]
        beyond_doubt = taken[-1] + 1 if taken else 0
        in_a_row = 0 if taken else self._in_a_row
        for place in range(beyond_doubt, len(outcomes)):
            refusal = outcomes[place].refusal
            if refusal is None or not refusal.for_good:
                return place
            if in_a_row >= self._settings.refusals_in_a_row:
                return place
            in_a_row += 1
        return len(outcomes)

    def _at_fault(self, refusal: EventsRefusedError) -> SinkUnavailableError:
        return SinkUnavailableError(
            f"{self._settings.refusals_in_a_row} events in a row were refused, so the sink itself is "
            f"taken to be at fault (refusals_in_a_row sets how many); the last time: {refusal}"
        )

    def _check_position(self, position: int) -> None:
        newest = self._source.newest()
        if newest < position:
            message = (
                f"sink {self._settings.name!r} has everything up to change {position}, but the newest "
                f"is {newest}: the history was made anew. `ctg-assets feed replay "
                f"{self._settings.name} --from-seq 1` sends it from its beginning"
            )
            raise EventsUnreadableError(message)


def _refused_last(outcomes: Sequence[_Outcome]) -> int:
    """How many messages in a row were refused, up to the last."""
    count = 0
    for outcome in reversed(outcomes):
        if outcome.refusal is None:
            break
        count += 1
    return count
