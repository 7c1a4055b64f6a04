"""How commands end: every failure that we foresee becomes a message and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from ctg_assets.cli.console import err
from ctg_assets.errors import CtgAssetsError, ExitCode

P = ParamSpec("P")


def with_exit_code(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command end with a message and an exit code when it fails in a way that we foresee.

    Other failures keep their traceback. The command keeps its signature, from which Typer makes options.
    """

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CtgAssetsError as error:
            is_busy = error.exit_code == ExitCode.BUSY
            err.print(str(error), style="yellow" if is_busy else "red")
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            err.print(str(error), style="red")
            raise typer.Exit(ExitCode.FAILED) from error
        except KeyboardInterrupt:
            err.print(
                "interrupted; what is finished stays, refresh goes on from here", style="yellow"
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from None

    return guarded
