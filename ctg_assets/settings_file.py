"""The settings file: settings under the names of their variables, in TOML, for what is not in the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctg_assets.errors import CtgAssetsError, ExitCode

FILE_VARIABLE = "CTG_CONFIG_FILE"
DEFAULT_FILE = "ctg.toml"


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
