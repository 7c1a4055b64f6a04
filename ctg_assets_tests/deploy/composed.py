"""compose.yaml as Docker reads it: its services, with variables put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"

# ${NAME}, ${NAME:-default}, ${NAME:?what to do}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\}")


def compose_text() -> str:
    """compose.yaml as it is written."""
    return (DEPLOY / "compose.yaml").read_text(encoding="utf-8")


def services(given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services by name, with `given` variables; environments are merged from their parts."""

    def value(match: re.Match[str]) -> str:
        if match["name"] in given:
            return given[match["name"]]
        assert match["how"] != "?", f"{match['name']}: {match['rest']}"
        return match["rest"] or ""

    read = yaml.safe_load(VARIABLE.sub(value, compose_text()))
    found: dict[str, dict[str, Any]] = read["services"]
    return found
