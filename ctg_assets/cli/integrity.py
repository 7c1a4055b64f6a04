"""`verify`: every file of the lake, or of a folder of releases, is checked for damage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctg_assets.cli.console import labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import Settings, load_settings


@with_exit_code
def verify(
    place: Annotated[
        str | None,
        typer.Argument(
            help="A folder of releases or its URL, or another data folder; the data folder of the settings if not "
            "given.",
            metavar="DIR|URL",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--release", help="Read this release's tables, not the newest's.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public key (PEM) by which releases must be signed."),
    ] = None,
) -> None:
    """Look at every file of the lake, or of releases, offline, and say what is damaged and what can be done.

    Of a lake: page shards, history and snapshots carry digests, which are checked here in full (while a refresh
    runs, of what it reads); then counts and references are held against each other. Nothing is
    changed: [bold]refresh[/] mends what it meets, and what cannot be made again comes from a backup.
    The database is not looked at. It can always be made again from the lake: stop what uses it, move
    postgres in the data folder away, and run refresh.

    Of a folder that [bold]release[/] has written: the sums of all files, signatures, and of the newest release rows,
    order, keys and references.

    Exit codes: 0 all is as it was written, 1 something is damaged or cannot be read, 2 unusable
    settings.
    """
    settings = load_settings()
    if place is not None:
        from ctg_assets.cli.release import verify_releases
        from ctg_assets.release.extra import require_release

        require_release()
        from ctg_assets.release.manifest import RELEASES
        from ctg_assets.release.places import open_place
        from ctg_assets.storage.data_folder import LAKE, SCRATCH

        storage = open_place(place, settings.data_dir / SCRATCH)
        if storage.names(RELEASES) or not storage.names(LAKE):
            verify_releases(storage, name, key)
            return
        settings = load_settings(data_dir=place, data_url=None)
    _verify_lake(settings)


def _verify_lake(settings: Settings) -> None:
    from ctg_assets.integrity import verification
    from ctg_assets.lake import open_lake

    lake = open_lake(settings)
    with out.status("listing the files of the lake") as live:

        def show(done: int, total: int) -> None:
            live.update(f"reading files of the lake: {done:,} of {total:,}")

        found = verification.verify(lake.storage, show)
    for finding in found.findings:
        path = lake.storage.path(finding.relative)
        out.print(labelled("damaged", "red", f": {path}: {finding.problem}"))
        kind = finding.kind
        out.print(f"  it is       {kind.what}")
        out.print(f"  needed for  {kind.hangs}")
        out.print(f"  remedy      {kind.remedy}")
    if found.unchecked:
        example = lake.storage.path(found.unchecked[0])
        out.print(
            f"{len(found.unchecked):,} files carry no digest, so that a changed value in them cannot "
            f"be told (of an earlier release, or not ours), for example {printable(example)}"
        )
    out.print(
        f"{found.files:,} files of the lake, {found.file_bytes / 1e6:,.1f} MB: "
        f"{len(found.findings):,} damaged"
    )
    if found.findings:
        raise typer.Exit(ExitCode.FAILED)
