"""The README says what is true, and the decisions are numbered."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from ctg_assets.cli.app import app
from ctg_assets.settings import ENV_PREFIX, Settings

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_configuration_table() -> None:
    """The table lists each setting with its default and description, and nothing else."""
    expected = []
    for name, field in Settings.model_fields.items():
        default = "(unset)" if field.default in {None, ""} else f"`{field.default}`"
        expected.append(f"| `{ENV_PREFIX}{name.upper()}` | {default} | {field.description} |")
    listed = [line for line in README.splitlines() if line.startswith(f"| `{ENV_PREFIX}")]
    assert listed == expected


def test_every_command_is_mentioned() -> None:
    """Each command of `ctg-assets` is named."""
    commands = typer.main.get_command(app).list_commands(None)  # type: ignore[attr-defined]
    assert [command for command in commands if f"`{command}`" not in README] == []


def test_make_targets_exist() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))
    assert [target for target in sorted(named) if f"\n{target}:" not in makefile] == []


def test_links_lead_somewhere() -> None:
    """Each relative link or picture points to a file of the project."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (PROJECT / target).exists()] == []


def test_each_decision_has_a_number_of_its_own() -> None:
    """Every entry stands in a section, with a number that no other has, and a date."""
    text = (PROJECT / "docs" / "decisions.md").read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    entries = [entry for section in sections for entry in section.split("\n\n")[1:]]
    found = [re.match(r"(\d+) \(\d{4}-\d\d-\d\d\)\. \*\*", entry) for entry in entries]
    assert [entry for entry, match in zip(entries, found, strict=True) if match is None] == []
    numbers = [int(match[1]) for match in found if match is not None]
    assert len(numbers) > 90
    assert len(set(numbers)) == len(numbers)
