"""The alerts as they are deployed, but for how long their causes last until they fire."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

RULES_FILE = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "ctg_alerts.yml"

_FOR, _WINDOW = "1s", "[10s]"
# Ages that a test cannot wait for; a day of the registry's data it can have.
_AGES = {
    "CtgNoWholeWalk": ("12 * 86400", "12 * 2"),
    "CtgNoCensus": ("6 * 86400", "6 * 4"),
    # A daemon gives a sign of life every 30 seconds, and what Dagster says is read every ten.
    "CtgDaemonSilent": ("600", "45"),
}


def deployed_rules() -> dict[str, Any]:
    """The content of the file of rules."""
    rules: dict[str, Any] = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))
    return rules


def hurried(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules with short times; names, metrics, labels, limits of anything but time and texts stay."""
    quick = deepcopy(rules)
    for group in quick["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _FOR
            rule["expr"] = re.sub(r"\[\d+[smhd]\]", _WINDOW, rule["expr"])
            if rule["alert"] in _AGES:
                age, shorter = _AGES[rule["alert"]]
                assert rule["expr"].endswith(f"> {age}"), rule
                rule["expr"] = rule["expr"].removesuffix(age) + shorter
    return quick
