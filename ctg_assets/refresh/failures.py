"""What failed, whom that was told, and what they are still to be told.

A failure is told once. While the same thing goes on failing it is told again once a day, and when it is over
that is told, too. What fails together is one message. A channel that is down is tried again after a pause, and
is then told what stands at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ctg_assets.feed.errors import FeedError, NotificationError
from ctg_assets.feed.notifying import Channel, Notice, open_channels
from ctg_assets.printable import printable
from ctg_assets.refresh.backoff import Attempts
from ctg_assets.settings import Settings

_AGAIN_SECONDS = 86_400.0
_MOST_IN_A_SUBJECT = 60
_MOST_TOLD = 30
# Stack traces are in the UI.
_LONGEST_REASON = 2000


_WHAT_TO_DO = (
    "What to do: `ctg-assets status` says what stands, `ctg-assets doctor` what is in the way. The sensor tries "
    "again by itself, after pauses of up to half an hour; what a check forbids waits for a person. "
    "The last good data are untouched."
)


@dataclass(frozen=True)
class Seen:
    """What a run showed of one thing that can fail (`key`): that it did, with `reason`, or that it did not (None)."""

    key: str
    what: str
    at: float
    run_id: str
    reason: str | None = None
    is_warning: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that fails: since when, how often, and when which channel was told. Times are seconds since the epoch."""

    what: str
    reason: str
    run_id: str
    since: float
    last: float
    times: int = 1
    is_warning: bool = False
    over_at: float | None = None
    told: Mapping[str, float] = {}


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between looks: the last event seen, failures by key, and channels that are down."""

    after: int
    failures: Mapping[str, Failure] = {}
    down: Mapping[str, Attempts] = {}


def remember(memory: Memory, seen: Iterable[Seen], after: int) -> Memory:
    """The memory after what runs showed, in the order in which they ended, up to the event numbered `after`."""
    failures = dict(memory.failures)
    for one in seen:
        known = failures.get(one.key)
        if one.reason is None:
            if known is not None and known.over_at is None:
                failures[one.key] = msgspec.structs.replace(known, over_at=one.at)
            continue
        fresh = Failure(
            what=one.what,
            reason=one.reason[:_LONGEST_REASON],
            run_id=one.run_id,
            since=one.at,
            last=one.at,
            is_warning=one.is_warning,
        )
        if known is not None and known.over_at is None:
            fresh = msgspec.structs.replace(
                fresh, since=known.since, times=known.times + 1, told=known.told
            )
        failures[one.key] = fresh
    return msgspec.structs.replace(memory, after=after, failures=failures)


def tell(
    memory: Memory, channels: Sequence[Channel], *, now: float, ui_url: str | None
) -> tuple[Memory, list[str]]:
    """Tell each channel what it does not know; returns the memory afterwards, and what happened, a line each.

    Never raises for a channel that cannot be told: it is tried again later, after a pause that grows.
    """
    failures, down = dict(memory.failures), dict(memory.down)
    lines = []
    for channel in channels:
        news = [key for key, failure in failures.items() if _is_news(failure, channel.name, now)]
        over = [
            key
            for key, failure in failures.items()
            if failure.over_at is not None and channel.name in failure.told
        ]
        if not news and not over:
            continue
        attempts = down.get(channel.name, Attempts())
        pause = attempts.pause_left(channel.name, now)
        if pause > 0:
            lines.append(f"{channel.name} is told again in {pause:.0f} s")
            continue
        notice = _notice([failures[key] for key in news], [failures[key] for key in over], ui_url)
        try:
            channel.tell(notice)
        except NotificationError as error:
            down[channel.name] = attempts.next(channel.name, now)
            lines.append(f"{channel.name} could not be told, and is tried again: {error}")
            continue
        down.pop(channel.name, None)
        lines.append(f"told {channel.name}: {notice.subject}")
        for key in news:
            told = {**failures[key].told, channel.name: now}
            failures[key] = msgspec.structs.replace(failures[key], told=told)
        for key in over:
            told = {name: at for name, at in failures[key].told.items() if name != channel.name}
            failures[key] = msgspec.structs.replace(failures[key], told=told)
    names = {channel.name for channel in channels}
    left = {key: failure for key, failure in failures.items() if _is_worth_keeping(failure, names)}
    kept_down = {name: attempts for name, attempts in down.items() if name in names}
    return msgspec.structs.replace(memory, failures=left, down=kept_down), lines


def tell_everybody(
    memory: Memory, settings: Settings, environment: Mapping[str, str], now: float
) -> tuple[Memory, list[str]]:
    """As `tell`, all channels of the settings; that these cannot be used is a line, too."""
    try:
        channels = open_channels(settings, environment)
    except FeedError as error:
        return memory, [f"nobody can be told: {error}"]
    return tell(memory, channels, now=now, ui_url=settings.ui_url)


def trial_notice() -> Notice:
    """What `ctg-assets notify --test` sends."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    text = (
        "This is a test. Failed runs and checks of ctg_assets will be told here.\n\n"
        f"Sent {at} by `ctg-assets notify --test`. Nothing failed.\n"
    )
    return Notice(
        "ctg_assets: a test, nothing failed", text, {"failures": [], "over": [], "at": at}
    )


def _is_news(failure: Failure, channel: str, now: float) -> bool:
    if failure.over_at is not None:
        return False
    told = failure.told.get(channel)
    return told is None or (failure.last > told and now - told >= _AGAIN_SECONDS)


def _is_worth_keeping(failure: Failure, channels: set[str]) -> bool:
    """What is over is forgotten once nobody is left who was told that it had begun."""
    return failure.over_at is None or bool(channels & failure.told.keys())


def _notice(news: Sequence[Failure], over: Sequence[Failure], ui_url: str | None) -> Notice:
    lines: list[str] = []
    for failure in news[:_MOST_TOLD]:
        word = "warns" if failure.is_warning else "failed"
        lines += [f"{printable(failure.what)} {word}", f"  why: {printable(failure.reason)}"]
        if failure.times > 1:
            lines.append(f"  {failure.times} times since {_time(failure.since)}")
        else:
            lines.append(f"  at {_time(failure.last)}")
        lines += [f"  {_run(failure, ui_url)}", ""]
    if len(news) > _MOST_TOLD:
        lines += [f"and {len(news) - _MOST_TOLD} more", ""]
    if news:
        lines += [_WHAT_TO_DO, ""]
    for failure in over[:_MOST_TOLD]:
        began = _time(failure.since)
        lines.append(f"over: {printable(failure.what)}, which had failed since {began}")
    return Notice(
        _subject(news, over),
        "\n".join(lines).rstrip() + "\n",
        {
            "failures": [_facts(failure, ui_url) for failure in news],
            "over": [_facts(failure, ui_url) for failure in over],
        },
    )


def _subject(news: Sequence[Failure], over: Sequence[Failure]) -> str:
    if not news:
        first, word = over[0], "works again"
    else:
        first, word = news[0], "warns" if news[0].is_warning else "failed"
    more = len(news or over) - 1
    what = printable(first.what)
    shown = what if len(what) <= _MOST_IN_A_SUBJECT else what[: _MOST_IN_A_SUBJECT - 1] + "…"
    return f"ctg_assets: {shown} {word}" + (f", and {more} more" if more else "")


def _facts(failure: Failure, ui_url: str | None) -> dict[str, object]:
    return {
        "what": failure.what,
        "reason": failure.reason,
        "severity": "warning" if failure.is_warning else "error",
        "since": _time(failure.since),
        "times": failure.times,
        "over_at": None if failure.over_at is None else _time(failure.over_at),
        "run_id": failure.run_id,
        "run_url": None if ui_url is None else f"{ui_url}/runs/{failure.run_id}",
    }


def _run(failure: Failure, ui_url: str | None) -> str:
    if ui_url is None:
        return f"run {failure.run_id} in Dagster's UI"
    return f"run: {ui_url}/runs/{failure.run_id}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
