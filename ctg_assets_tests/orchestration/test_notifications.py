"""The sensor `failure_notifications`: what runs of a real instance come to be told as, and what it remembers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.crawl import ExtractionSupersededError
from ctg_assets.orchestration.notifications import build_notifications
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.settings import load_settings
from ctg_assets_tests.feed.mail_server import MailServer, mail_server

pytestmark = pytest.mark.slow


class FullDiskError(CtgAssetsError):
    """Something that our code foresees."""


@dataclass
class Office:
    """An instance, its sensor, whom it tells, and assets that do as told."""

    instance: dg.DagsterInstance
    server: MailServer
    given: dict[str, Any]
    cursor: str | None = None
    error: Exception | None = None
    check: dg.AssetCheckResult = field(default_factory=lambda: dg.AssetCheckResult(passed=True))

    def run(self, job: str = "build_warehouse") -> dg.ExecuteInProcessResult:
        """Run both assets."""

        @dg.asset
        def studies() -> None:
            if self.error is not None:
                raise self.error

        @dg.asset
        def page_shards() -> None:
            """Always well."""

        @dg.asset_check(asset=page_shards, blocking=True)
        def pages_are_complete() -> dg.AssetCheckResult:
            return self.check

        definitions = dg.Definitions(
            assets=[studies, page_shards],
            asset_checks=[pages_are_complete],
            jobs=[dg.define_asset_job(job)],
        )
        resolved = definitions.resolve_job_def(job)
        return resolved.execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self, **given: Any) -> str:
        """One evaluation; returns why it asks for nothing."""
        overrides = {**self.given, **given}
        (sensor,) = build_notifications(load_settings(**overrides))
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"settings": SettingsResource(overrides=overrides)},
        ) as context:
            outcome = sensor.evaluate_tick(context)
        assert not outcome.run_requests
        self.cursor = outcome.cursor
        return outcome.skip_message or ""

    @property
    def told(self) -> list[str]:
        """The subjects of all mails, without our name."""
        return [mail["subject"].removeprefix("ctg_assets: ") for mail in self.server.mails]

    @property
    def last(self) -> str:
        """The text of the last mail."""
        return str(self.server.mails[-1].get_content()).replace("\r\n", "\n")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in SQLite, which each test goes on with."""
    # What steps print would be followed by two processes each.
    quiet = {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
    with dg.instance_for_test(overrides={"compute_logs": quiet}) as instance:
        yield instance


@pytest.fixture
def office(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Office]:
    """An office whose sensor has had its first tick."""
    with mail_server() as server:
        given = {
            "data_dir": str(tmp_path),
            "smtp_host": "127.0.0.1",
            "smtp_port": server.port,
            "smtp_security": "none",
            "smtp_from": "robot@example.org",
            "smtp_to": "ops@example.org",
        }
        office = Office(instance, server, given)
        assert office.tick() == "failures from now on are told"
        yield office


def failed_check(severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """A check that found something."""
    return dg.AssetCheckResult(passed=False, severity=severity, description="3 pages are missing")


def test_nobody_is_watched_for_nobody() -> None:
    """Without anybody to tell there is no sensor."""
    assert build_notifications(load_settings(smtp_host=None, feed_file=None)) == []


def test_a_failed_step_is_told_with_its_reason(office: Office) -> None:
    """In our error's words, without its class; once; and its end."""
    office.error = FullDiskError("the disk is full: free 5 GB")
    run_id = office.run().run_id
    assert office.tick() == "told mail: ctg_assets: studies (build_warehouse) failed"
    assert "why: the disk is full: free 5 GB\n" in office.last
    assert run_id in office.last
    office.run()
    assert office.tick() == "nothing to tell"
    office.error = None
    office.run()
    office.tick()
    assert office.told == [
        "studies (build_warehouse) failed",
        "studies (build_warehouse) works again",
    ]


def test_before_the_first_tick_nothing_is_told(office: Office) -> None:
    """Whoever switches notifications on is not told the past, and a cursor that is lost begins anew."""
    office.error = FullDiskError("old")
    office.run()
    for cursor in (None, "nonsense", "{}"):
        office.cursor = cursor
        assert office.tick() == "failures from now on are told"
    assert office.tick() == "nothing to tell"
    assert office.told == []


def test_many_runs_of_a_tick_are_one_message(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs beyond what a tick looks at are left to the next one, and none is lost."""
    office.error = FullDiskError("full")
    for job in ("build_warehouse", "extract_pages", "plan_extraction"):
        office.run(job)
    office.tick()
    assert len(office.told) == 1
    office.error = None
    monkeypatch.setattr("ctg_assets.orchestration.notifications._MOST_RUNS", 2)
    office.run("somebody_elses_job")
    office.run("somebody_elses_job")
    office.run()
    assert office.tick() == "nothing to tell"
    office.tick()
    assert len(office.told) == 2


def test_a_check_that_forbids_to_go_on_is_told_as_a_check(office: Office) -> None:
    """Once, not as a failed step besides; when it passes, that is told."""
    office.check = failed_check(dg.AssetCheckSeverity.ERROR)
    office.run()
    office.tick()
    assert office.told == ["check page_shards: pages_are_complete failed"]
    assert "why: 3 pages are missing" in office.last
    office.check = dg.AssetCheckResult(passed=True)
    office.run()
    office.tick()
    assert office.told[1:] == ["check page_shards: pages_are_complete works again"]


def test_warnings_are_told_if_they_are_wanted(office: Office) -> None:
    """Checks that only warn are told with CTG_NOTIFY_WARNINGS."""
    office.check = failed_check(dg.AssetCheckSeverity.WARN)
    office.run()
    assert office.tick() == "nothing to tell"
    office.run()
    office.tick(notify_warnings=True)
    assert office.told == ["check page_shards: pages_are_complete warns"]


def test_what_passes_by_itself_is_not_told(office: Office) -> None:
    """That the registry moved on during a walk is no failure, and runs of others are not ours to tell."""
    office.error = ExtractionSupersededError("the registry moved on")
    office.run()
    office.error = FullDiskError("theirs")
    office.run("somebody_elses_job")
    assert office.tick() == "nothing to tell"


def test_a_run_whose_process_is_gone_is_told(office: Office) -> None:
    """It has no failed step, but an end that says why."""
    run = office.instance.create_run_for_job(_nothing, status=dg.DagsterRunStatus.STARTED)
    office.instance.report_run_failed(run, "The process that executed this run is gone.")
    office.tick()
    assert office.told == ["run of drop_marts failed"]
    assert "why: The process that executed this run is gone." in office.last


def test_a_server_that_is_down_stops_nothing(office: Office) -> None:
    """The tick says so, keeps what is to be told over a restart, and tells it once the server is back."""
    office.error = FullDiskError("full")
    office.run()
    port = office.given["smtp_port"]
    told = office.tick(smtp_port=1)
    assert "mail could not be told, and is tried again: mail server 127.0.0.1:1 cannot" in told
    assert office.tick(smtp_port=port).startswith("mail is told again in ")
    assert office.cursor is not None
    # As if the pause was over.
    memory = office.cursor.partition('"down":')[0] + '"down":{}}'
    office.cursor = memory
    office.tick(smtp_port=port)
    assert office.told == ["studies (build_warehouse) failed"]


def test_settings_that_cannot_be_used_lose_nothing(office: Office) -> None:
    """What failed meanwhile is told when they can be."""
    office.error = FullDiskError("full")
    office.run()
    told = office.tick(feed_file="/nowhere.toml")
    assert told.startswith("nobody can be told: cannot read the sinks in /nowhere.toml")
    office.tick()
    assert len(office.told) == 1


@dg.job(name="drop_marts")
def _nothing() -> None:
    """A job for a run to be of."""
