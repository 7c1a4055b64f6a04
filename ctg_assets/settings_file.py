"""The settings file (TOML, settings by their variables' names), and names that are no settings, there and elsewhere."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctg_assets.errors import CtgAssetsError, ExitCode

FILE_VARIABLE = "CTG_CONFIG_FILE"
DEFAULT_FILE = "ctg.toml"

# Variables with our prefix that are no settings: what we hand to dbt's profile.
_INTERNAL_PREFIXES = ("CTG_DBT_",)

# How alike (0 to 1) an unknown variable must be to a known one to count as a slip of the pen.
# PAGE_SIZ and REQUEST_PER_MINUTE are above 0.9, unrelated names below 0.6.
_TYPO_LIKENESS = 0.75

_log = logging.getLogger(__name__)


class SettingsFileError(CtgAssetsError):
    """The settings file cannot be read; the message names it, the cause and the remedy."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


@dataclass(frozen=True)
class SettingsFile:
    """A settings file: where it lies, and its values by the name they have there."""

    path: Path
    values: Mapping[str, object]


def find_settings_file(environment: Mapping[str, str]) -> SettingsFile | None:
    """The file that CTG_CONFIG_FILE names, else `ctg.toml` of the current folder; None where there is none.

    Raises SettingsFileError when the one that is named is not there, or one that is there is no TOML.
    """
    named = environment.get(FILE_VARIABLE, "")
    path = Path(named or DEFAULT_FILE).expanduser().absolute()
    if not named and not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return SettingsFile(path, tomllib.load(file))
    except OSError as error:
        remedy = f"; correct {FILE_VARIABLE}, or unset it" if named else ""
        message = f"cannot read the settings file {path}: {error.strerror}{remedy}"
        raise SettingsFileError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = (
            f"the settings file {path} is no TOML: {error}. A line of it looks like "
            'CTG_QUERY = "diabetes" or CTG_PAGE_SIZE = 500'
        )
        raise SettingsFileError(message) from error


def unknown_names(file: SettingsFile, known: Collection[str]) -> list[str]:
    """What to say about the names in a file that are not among the variables known."""
    problems = []
    for name in file.values:
        if name not in known:
            alike = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_TYPO_LIKENESS)
            meant = f"did you mean {alike[0]}?" if alike else "`ctg-assets config` lists all"
            problems.append(f"{name}: no such setting (in {file.path}); {meant}")
    return problems


def misspelt_variables(
    environment: Iterable[str], prefix: str, known: Collection[str]
) -> list[str]:
    """What to say about variables with our prefix that nearly are settings; those like none are logged."""
    known = [*known, FILE_VARIABLE]
    problems = []
    for given in sorted(environment):
        name = given.upper()
        if not name.startswith(prefix) or name.startswith(_INTERNAL_PREFIXES) or name in known:
            continue
        bare = name.removeprefix(prefix)
        alike = difflib.get_close_matches(
            bare, [other.removeprefix(prefix) for other in known], n=1, cutoff=_TYPO_LIKENESS
        )
        if alike:
            problems.append(f"{given}: no such setting; did you mean {prefix}{alike[0]}?")
        else:
            _log.warning(
                "the environment variable %s is ignored; the settings are %s",
                given,
                ", ".join(known),
            )
    return problems
