"""`config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import json
from datetime import date
from textwrap import wrap
from typing import Annotated

import typer
from rich.table import Table

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.printable import printable
from ctg_assets.settings import Settings, is_secret, load_settings, setting_sources, variable
from ctg_assets.settings_file import DEFAULT_FILE

_HIDDEN = "(set, not shown)"
_WIDTH = 100


@with_exit_code
def config(
    *,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="As JSON: name, value, source and meaning of each setting."),
    ] = False,
    as_toml: Annotated[
        bool,
        typer.Option(
            "--toml",
            help="As a settings file: what is set, and the rest as comments with its meaning. Secrets are left out.",
        ),
    ] = False,
) -> None:
    """Show every setting, its value, and where the value comes from.

    A setting is an environment variable, or a line of the same name in the file that CTG_CONFIG_FILE names,
    else in ctg.toml of the current folder; the environment wins. To begin with a file:
    ctg-assets config --toml > ctg.toml. Values that may hold a password are not shown. Exit codes: 0, or 2
    when settings are unusable.
    """
    if as_json and as_toml:
        message = "one of --json and --toml, not both"
        raise typer.BadParameter(message)
    settings = load_settings()
    sources = setting_sources()
    if as_json:
        typer.echo(json.dumps(_entries(settings, sources), indent=2))
    elif as_toml:
        typer.echo(_toml(settings, sources))
    else:
        out.print(_table(settings, sources))


def _table(settings: Settings, sources: dict[str, str]) -> Table:
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, source in sources.items():
        is_default = source == "default"
        shown = _display(settings, name)
        table.add_row(
            variable(name),
            printable("(unset)" if shown in {None, ""} else str(shown)),
            printable(source),
            style="dim" if is_default else None,
        )
    return table


def _entries(settings: Settings, sources: dict[str, str]) -> list[dict[str, object]]:
    return [
        {
            "name": variable(name),
            "value": _display(settings, name),
            "source": source,
            "meaning": Settings.model_fields[name].description,
        }
        for name, source in sources.items()
    ]


def _display(settings: Settings, name: str) -> str | int | float | bool | None:
    value = getattr(settings, name)
    if value is None:
        return None
    if is_secret(name):
        return _HIDDEN
    return value if isinstance(value, bool | int | float) else str(value)


def _toml(settings: Settings, sources: dict[str, str]) -> str:
    lines = [
        f"# Settings of ctg_assets, written on {date.today()} by `ctg-assets config --toml`.",  # noqa: DTZ011 - the reader's own day
        f"# Lies as {DEFAULT_FILE} where the commands are run, or where CTG_CONFIG_FILE says. Relative paths are",
        "# taken from this file's folder. Variables of the environment win.",
    ]
    for name, source in sources.items():
        field = Settings.model_fields[name]
        is_set = source != "default" and not is_secret(name)
        # Of what is not set the default as it is declared: a path, say, that is relative.
        value = _display(settings, name) if is_set else field.default
        written = literal(value if isinstance(value, bool | int | float) else str(value or ""))
        line = f"{variable(name)} = {written}"
        lines += [
            "",
            *wrap(
                field.description or "",
                _WIDTH,
                initial_indent="# ",
                subsequent_indent="# ",
            ),
            line if is_set else f"# {line}",
        ]
    return "\n".join(lines)


def literal(value: str | float) -> str:
    """A value as TOML, whose numbers, booleans and basic strings are written as in JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
