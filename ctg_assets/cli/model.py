"""`learn-model`: the data model's fields and values become those of the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings


@with_exit_code
def learn_model(
    metadata: Annotated[
        Path | None,
        typer.Argument(help="Recorded answer to /studies/metadata, gzipped or not."),
    ] = None,
    enums: Annotated[
        Path | None, typer.Argument(help="Recorded answer to /studies/enums, gzipped or not.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which to write fields.csv and enums.csv.",
            show_default="ctg_assets/model",
        ),
    ] = None,
) -> None:
    """For keepers of the data model: write its fields.csv and enums.csv anew as the registry has them.

    Asks the registry (two requests), or reads recorded answers. Prints what was learned. Fields that
    are new get columns in ctg_assets/model/tables; the tests name those without one.
    """
    from ctg_assets.extract.published_model import (
        MODEL_FOLDER,
        ask_configured_registry,
        learn,
        read_published_model,
    )

    if (metadata is None) is not (enums is None):
        message = "give both recorded answers, or none to ask the registry"
        raise typer.BadParameter(message)
    if metadata is not None and enums is not None:
        published = read_published_model(metadata, enums)
    else:
        published = ask_configured_registry(load_settings())
    folder = into or MODEL_FOLDER
    learned = learn(published, folder)
    for difference in learned:
        out.print(printable(difference))
    out.print(f"differences learned: {len(learned)}; written to {printable(folder)}")
