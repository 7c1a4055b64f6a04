"""`release`: the tables as files that anybody can read; and what `verify` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import err, facts, labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.release.verification import ReleaseVerification
    from ctg_assets.storage.files import Storage


@with_exit_code
def release(
    place: Annotated[
        str,
        typer.Argument(help="A folder, or a URL such as s3://bucket/releases.", metavar="DIR|URL"),
    ],
    lake_only: Annotated[
        bool,
        typer.Option("--lake-only", help="Without marts and AACT's tables: no database is needed."),
    ] = False,
    iceberg: Annotated[
        bool,
        typer.Option("--iceberg", help="With Apache Iceberg's metadata, as CTG_RELEASE_ICEBERG."),
    ] = False,
) -> None:
    """Write the tables as Parquet files, with a manifest, for DuckDB, Polars, pandas, Spark, ClickHouse.

    Only what changed since the release before is made and written; the older ones stay as CTG_KEEP_RELEASES says.
    A release is there when it is whole. [bold]verify[/] DIR checks it, and CTG_RELEASE_KEY signs it.

    Exit codes: 0 done, 1 failed, 2 unusable settings, 4 another process releases to the same place.
    """
    from ctg_assets.release.extra import require_release

    require_release()
    from ctg_assets.release.places import release_to

    with err.status("looking at the release before") as live:
        report = release_to(
            load_settings(),
            place,
            lambda doing: live.update(printable(doing)),
            lake_only=lake_only,
            iceberg=iceberg,
        )
    made = report.manifest
    if not report.is_new:
        out.print("nothing has changed since the newest release")
    out.print(
        facts(
            [
                ("release", made.name),
                ("where", place),
                ("data version", f"{made.data_timestamp} UTC"),
                ("studies", made.census.verdict),
                ("rows", f"{sum(t.rows for t in made.tables):,} in {len(made.tables)} tables"),
                ("files", f"{len(made.files):,}, {sum(f.bytes for f in made.files) / 1e6:,.1f} MB"),
                ("written now", f"{report.written:,}, {report.written_bytes / 1e6:,.1f} MB"),
            ]
        )
    )


def verify_releases(storage: Storage, name: str | None, key: Path | None) -> None:
    """Check a folder of releases and say what is wrong; raises typer.Exit if anything is."""
    from ctg_assets.release.signing import read_public_key
    from ctg_assets.release.verification import verify_release

    public_key = None if key is None else read_public_key(key.expanduser())
    with out.status("reading the manifests") as live:
        found = verify_release(
            storage,
            name=name,
            public_key=public_key,
            show=lambda doing: live.update(printable(doing)),
        )
    for finding in found.findings:
        out.print(labelled("damaged", "red", f": {finding.where}: {finding.problem}"))
    _print(found, is_key_given=public_key is not None)
    if found.findings:
        out.print(
            "Remove what is damaged and run `ctg-assets release` again; it makes what is missing"
        )
        raise typer.Exit(ExitCode.FAILED)


def _print(found: ReleaseVerification, *, is_key_given: bool) -> None:
    checked = found.checked
    if checked is not None:
        signed = "by nobody"
        if found.signed_by is not None:
            whose = "the key given" if is_key_given else "the key beside it; --key says by whose"
            signed = f"by {whose} ({found.signed_by})"
        out.print(
            facts(
                [
                    ("release", checked.name),
                    ("data version", f"{checked.data_timestamp} UTC"),
                    ("studies", checked.census.verdict),
                    (
                        "rows",
                        f"{sum(t.rows for t in checked.tables):,} in {len(checked.tables)} tables",
                    ),
                    ("signed", signed),
                ]
            )
        )
    out.print(
        f"{found.files:,} files of {found.releases:,} releases, {found.file_bytes / 1e6:,.1f} MB: "
        f"{len(found.findings):,} problems"
    )
