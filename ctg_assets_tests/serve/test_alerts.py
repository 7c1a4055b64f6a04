"""The alerts, tried by Prometheus' own promtool: each fires when its cause is there, and stops after."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES = FOLDER / "ctg_alerts.yml"
TRIALS = FOLDER / "ctg_alerts_test.yml"


def promtool(
    *arguments: str | Path, given: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run promtool; skips the test where Prometheus is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    return subprocess.run(
        [program, *map(str, arguments)], cwd=FOLDER, input=given, capture_output=True, check=False
    )


@pytest.mark.process
def test_the_rules_do_as_their_trials_say() -> None:
    """What fires in each trial, when, with which labels and text."""
    done = promtool("test", "rules", TRIALS)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.mark.process
@pytest.mark.parametrize("kind", ["rules", "config"])
def test_rules_and_configuration_are_sound(kind: str) -> None:
    """Promtool finds nothing to complain about."""
    done = promtool("check", kind, RULES if kind == "rules" else FOLDER / "prometheus.yml")
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_every_alert_is_tried_both_ways() -> None:
    """Each has a trial in which it does not fire, then does, and then does not any more."""
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    trials: dict[str, Any] = yaml.safe_load(TRIALS.read_text(encoding="utf-8"))
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    tried: dict[str, list[bool]] = {}
    for trial in trials["tests"]:
        for each in trial["alert_rule_test"]:
            tried.setdefault(each["alertname"], []).append(bool(each["exp_alerts"]))
    assert tried.keys() == set(alerts)
    assert [
        name for name in alerts if " ".join(map(str, tried[name])).find("False True False") < 0
    ] == []
