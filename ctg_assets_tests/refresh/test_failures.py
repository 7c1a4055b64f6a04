"""What is told of failures, to whom and when: once, together, again after a day, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from ctg_assets.feed.errors import NotificationError
from ctg_assets.feed.notifying import Notice
from ctg_assets.refresh.failures import Memory, Seen, remember, tell

HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Pigeon:
    """A channel that keeps what it is told, unless it is down."""

    name: str = "pigeon"
    where: str = "the roof"
    down: bool = False
    told: list[Notice] = field(default_factory=list)
    tries: int = 0

    def tell(self, notice: Notice) -> None:
        """Take a notice."""
        self.tries += 1
        if self.down:
            message = "the pigeon is ill; feed it"
            raise NotificationError(message)
        self.told.append(notice)

    @property
    def subjects(self) -> list[str]:
        """What it was told, in short."""
        return [notice.subject.removeprefix("ctg_assets: ") for notice in self.told]


@dataclass
class Watch:
    """A memory that goes through text from look to look, as a cursor does, and a clock."""

    channels: list[Pigeon]
    cursor: bytes = msgspec.json.encode(Memory(after=0))
    now: float = 1_000_000.0
    ui_url: str | None = None

    def look(self, *seen: Seen, after: float = 60.0) -> list[str]:
        """What runs showed since; time passes first."""
        self.now += after
        memory = msgspec.json.decode(self.cursor, type=Memory)
        memory, lines = tell(
            remember(memory, seen, memory.after + len(seen)),
            self.channels,
            now=self.now,
            ui_url=self.ui_url,
        )
        self.cursor = msgspec.json.encode(memory)
        return lines

    def failed(self, what: str = "load", reason: str = "the disk is full", **given: Any) -> Seen:
        """Something that failed just now."""
        return Seen(what, what, self.now, f"run-{self.now:.0f}", reason, **given)

    def passed(self, what: str = "load") -> Seen:
        """Something that did not fail any more."""
        return Seen(what, what, self.now, "run")


@pytest.fixture
def pigeon() -> Pigeon:
    """One channel."""
    return Pigeon()


@pytest.fixture
def watch(pigeon: Pigeon) -> Watch:
    """A watch with that channel."""
    return Watch([pigeon])


def test_a_failure_is_told_once(watch: Watch, pigeon: Pigeon) -> None:
    """However often the same thing fails afterwards, until it works again, which is told, too."""
    watch.look(watch.failed())
    for _ in range(20):
        watch.look(watch.failed(), after=HOUR)
    watch.look()
    assert pigeon.subjects == ["load failed"]
    watch.look(watch.passed())
    watch.look(watch.passed())
    assert pigeon.subjects == ["load failed", "load works again"]
    watch.look(watch.failed())
    assert pigeon.subjects[2:] == ["load failed"]


def test_what_works_is_not_told(watch: Watch, pigeon: Pigeon) -> None:
    """A success of what had not failed is no news."""
    assert watch.look(watch.passed(), watch.passed("plan")) == []
    assert pigeon.tries == 0


def test_a_failure_that_stays_is_told_daily(watch: Watch, pigeon: Pigeon) -> None:
    """After a day again if it has failed again, with how often and since when; not if nothing ran since."""
    watch.look(watch.failed())
    for _ in range(3 * 48):
        watch.look(watch.failed(), after=HOUR / 2)
    assert 3 <= len(pigeon.told) <= 4
    assert "times since 1970-01-12 13:4" in pigeon.told[-1].text
    count = len(pigeon.told)
    for _ in range(3):
        watch.look(after=DAY)
    assert len(pigeon.told) <= count + 1


def test_what_fails_together_is_one_message(watch: Watch, pigeon: Pigeon) -> None:
    """A hundred failures of one look are one message, which names the first and counts the rest."""
    watch.look(*(watch.failed(f"check {number}") for number in range(100)))
    (notice,) = pigeon.told
    assert notice.subject == "ctg_assets: check 0 failed, and 99 more"
    assert len(notice.facts["failures"]) == 100
    assert "and 70 more" in notice.text
    watch.look(*(watch.passed(f"check {number}") for number in range(100)))
    assert pigeon.subjects[1:] == ["check 0 works again, and 99 more"]


def test_the_text_says_what_why_and_where(watch: Watch, pigeon: Pigeon) -> None:
    """With the run, by a link where the UI's address is known, and what to do; nothing in it acts on a terminal."""
    watch.look(watch.failed(reason="bad \x1b[2J bytes"))
    assert "load failed\n  why: bad \\x1b[2J bytes\n" in pigeon.told[0].text
    assert "run run-1000000 in Dagster's UI" in pigeon.told[0].text
    assert "ctg-assets status" in pigeon.told[0].text
    watch.ui_url = "https://ui.example.org"
    watch.look(watch.failed("plan"))
    link = "https://ui.example.org/runs/run-1000060"
    assert f"run: {link}" in pigeon.told[1].text
    assert pigeon.told[1].facts["failures"][0]["run_url"] == link


def test_warnings_are_called_so(watch: Watch, pigeon: Pigeon) -> None:
    """A check that only warns has not failed."""
    watch.look(watch.failed("check x", is_warning=True))
    assert pigeon.subjects == ["check x warns"]
    assert pigeon.told[0].facts["failures"][0]["severity"] == "warning"


def test_a_channel_that_is_down_holds_up_no_other(watch: Watch, pigeon: Pigeon) -> None:
    """It is tried after pauses that grow, then told once what stands; what came and went meanwhile is not told."""
    other = Pigeon("other", down=True)
    watch.channels.append(other)
    lines = watch.look(watch.failed())
    assert lines[1] == "other could not be told, and is tried again: the pigeon is ill; feed it"
    for _ in range(60):
        watch.look()
    assert pigeon.subjects == ["load failed"]
    assert 4 <= other.tries <= 8
    watch.look(watch.failed("plan"))
    watch.look(watch.passed("plan"))
    other.down = False
    watch.look(after=HOUR)
    assert other.subjects == ["load failed"]
    assert pigeon.subjects == ["load failed", "plan failed", "plan works again"]


def test_the_same_message_keeps_its_id(watch: Watch, pigeon: Pigeon) -> None:
    """Sent again, because nobody noted that it was taken, it can be told from another."""
    before = watch.cursor
    watch.look(watch.failed())
    watch.cursor, watch.now = before, watch.now - 60
    watch.look(watch.failed())
    watch.look(watch.failed("plan"))
    first, again, another = pigeon.told
    assert first.event_id == again.event_id != another.event_id


def test_the_memory_does_not_grow(watch: Watch) -> None:
    """What is over and told is forgotten, also where the only channel that knew is gone."""
    for number in range(50):
        watch.look(watch.failed(f"x{number}"))
        watch.look(watch.passed(f"x{number}"))
    assert msgspec.json.decode(watch.cursor, type=Memory).failures == {}
    watch.look(watch.failed())
    watch.channels = []
    watch.look(watch.passed())
    assert msgspec.json.decode(watch.cursor, type=Memory).failures == {}
