"""The drill of docs/deployment.md: a backup taken in operation, everything lost, restored, gone on from there."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from ctg_assets.postgres.server import open_postgres
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.deploy.composed import PROJECT
from ctg_assets_tests.feed.helpers import SECRET, SECRET_ENV, receiver
from ctg_assets_tests.orchestration.workplace import PAGE_SIZE, Workplace, workplace
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.soak import only_in_soaks

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

STUDIES = 60


def registry(*changed: int, posted: str = "2024-01-01") -> InMemorySource:
    """Sixty studies, some of which were changed and posted on a day."""
    return InMemorySource(
        study(number, title="Another Title", posted=posted, enrollment=number)
        if number in changed
        else study(number, enrollment=number)
        for number in range(1, STUDIES + 1)
    )


def told_commands(folder: Path) -> list[list[str]]:
    """The commands of the drill, as the page has them, for a folder of the test's own."""
    page = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
    section = page.split("\n## Backup and restore\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [
        [
            word.replace("/backup/ctg", str(folder))
            for word in line.removeprefix("$ ctg-assets ").split()
        ]
        for line in block.splitlines()
    ]


def asked(simulator: RunningSimulator, since: int) -> Counter[str]:
    """What was asked for since a number of requests: whole studies of all, of those posted lately, or ids."""
    found: Counter[str] = Counter()
    for request in simulator.requests[since:]:
        query = parse_qs(request.query)
        if not request.path.endswith("/studies"):
            found["other"] += 1
        elif "fields" in query:
            found["ids"] += 1
        elif "filter.advanced" in query:
            found["posted lately"] += 1
        elif "filter.ids" in query:
            found["picked"] += 1
        else:
            found["everything"] += 1
    return found


def held_in(place: Workplace) -> list[tuple[object, ...]]:
    """What the tables say of all studies and of their versions, but for when it was written."""
    return place.query(
        "SELECT to_jsonb(s) - 'loaded_at' FROM staging.studies AS s ORDER BY nct_id"
    ) + place.query(
        "SELECT nct_id, version_number, content_hash, valid_from, valid_to FROM staging.study_versions ORDER BY 1, 2"
    )


def run(place: Workplace, arguments: list[str]) -> str:
    """Run a command that has to succeed; returns what it printed."""
    done = place.ctg(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_lost_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restore a refresh asks for what was posted lately, not for every study again.

    The tables are as they were. The feed loses nothing: a change that was found and sent after the backup is
    found and sent again, under the same id where nothing else happened.
    """
    backup, restore, refresh = told_commands(tmp_path / "backup")
    assert [words[0] for words in (backup, restore, refresh)] == ["backup", "restore", "refresh"]
    monkeypatch.setenv(SECRET_ENV, SECRET)
    sinks = tmp_path / "sinks.toml"
    with (
        receiver() as there,
        running_simulator(registry()) as simulator,
        workplace(
            simulator.api_url,
            feed_file=str(sinks),
            census_every_days="1000",
            full_every_days="1000",
        ) as place,
    ):
        sinks.write_text(
            f'[[sink]]\nname = "desk"\ntype = "webhook"\nurl = "{there.url}"\n'
            f'secret_env = "{SECRET_ENV}"\nstart = "beginning"\nbatch_size = 500\n'
        )

        def delivered() -> dict[str, tuple[int, str, str]]:
            """Deliver what there is; the events that came, by id: number, study and content."""
            before = len(there.requests)
            run(place, ["feed", "run", "--once"])
            return {
                event["event_id"]: (event["change_seq"], event["nct_id"], event["new_content_hash"])
                for request in there.requests[before:]
                for event in request.events
            }

        # The server stays up for all commands of a phase.
        with open_postgres(place.settings):
            place.refresh()
            assert asked(simulator, 0)["everything"] > STUDIES // PAGE_SIZE
            assert len(delivered()) == STUDIES
            assert "positions of 1 sinks, 0 dead letters" in run(place, backup)
            simulator.advance(registry(1, 2, posted=simulator.version.data_timestamp[:10]))
            place.refresh()
            since_backup = delivered()
            changed = [nct_id for _, nct_id, _ in since_backup.values()]
            assert changed == ["NCT00000001", "NCT00000002"]
            held = held_in(place)

        shutil.rmtree(place.settings.data_dir)
        with open_postgres(place.settings):
            assert "sinks of the feed: desk" in run(place, restore)
            assert delivered() == {}
            before = len(simulator.requests)
            run(place, refresh)
            asked_for = asked(simulator, before)
            assert asked_for["everything"] == 0, asked_for
            assert asked_for["posted lately"] > 0
            assert held_in(place) == held
            assert delivered() == since_backup
