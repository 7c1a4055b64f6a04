"""Damage: a file of the lake that is not as it was written, what hangs on it, and what can be done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ctg_assets.storage.files import Storage, StorageError


@dataclass(frozen=True)
class KindOfFile:
    """What a kind of file is, what hangs on it, and what to do when it is damaged.

    `mended` says that `ctg-assets refresh` mends it, at least as a rule.
    """

    pattern: str
    what: str
    hangs: str
    remedy: str
    mended: bool = False


_REFRESH = "`ctg-assets refresh` sets it aside and makes it again"
_BACKUP = "Bring it back from a backup of the data folder"

KINDS_OF_FILES = (
    KindOfFile(
        r"extractions/[^/]+/plan\.json",
        "the plan of an extraction",
        "its pages cannot be used without it",
        "`ctg-assets refresh` takes it from the history, or sets the extraction aside and plans a new "
        "one; a file whose import was not recorded has to be imported again",
        mended=True,
    ),
    KindOfFile(
        r"extractions/[^/]+/ids\.json",
        "the ids that an extraction asks for",
        "pages that are not there yet cannot be asked for",
        "`ctg-assets refresh` gives the extraction up and plans a new one",
        mended=True,
    ),
    KindOfFile(
        r"extractions/[^/]+/complete\.json",
        "the end of an extraction",
        "it is not recorded without it",
        "`ctg-assets refresh` works it out from the pages",
        mended=True,
    ),
    KindOfFile(
        r"extractions/[^/]+/superseded\.json",
        "why an extraction was given up",
        "nothing: its pages are not used",
        _REFRESH,
        mended=True,
    ),
    KindOfFile(
        r"extractions/[^/]+/pages/[^/]+\.parquet",
        "a page of an extraction",
        "an extraction that is not recorded needs it",
        "`ctg-assets refresh` sets it aside and asks the registry for the page again; a file whose "
        "import was not recorded has to be imported again",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/entry\.json",
        "an entry of the history",
        "which entries there are, and all that is recorded or built next",
        f"{_BACKUP}; it cannot be made again",
    ),
    KindOfFile(
        r"history/[^/]+/periods\.parquet",
        "the index of periods after an entry of the history",
        "recording, snapshots and the history tables",
        "`ctg-assets refresh` derives it again from what the entries saw; if an entry of an earlier "
        "release did not keep that, bring it back from a backup",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/contents\.parquet",
        "contents of studies, as they were sent",
        "studies whose current content lies in it cannot be typed anew, and changes of any of them not "
        "be compared",
        "`ctg-assets refresh` takes contents from pages that are kept, or asks the registry for studies "
        "that still have the same content. For others bring the file back from a backup",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/changes\.parquet",
        "the changes of an entry of the history",
        "the history tables and the feed",
        f"{_BACKUP}; it cannot be made again",
    ),
    KindOfFile(
        r"history/[^/]+/(field_changes|typed_events)\.parquet",
        "what the changes of an entry of the history consist of",
        "the history tables and the feed",
        "`ctg-assets refresh` compares the contents of the changes again",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/touched\.parquet",
        "the studies whose periods an entry of the history changed",
        "snapshots and tables that follow changes",
        "`ctg-assets refresh` derives it from the periods of these studies",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/wanted\.parquet",
        "the studies that a census found missing or outdated",
        "fetching these studies",
        "`ctg-assets refresh` derives it from what the census saw; if that is not kept, "
        "`ctg-assets refresh --again --mode full` fetches every study",
        mended=True,
    ),
    KindOfFile(
        r"history/[^/]+/(seen|touched_periods|fates)\.parquet|history/[^/]+/plan\.json",
        "what the extraction of an entry of the history saw",
        "deriving a damaged index, and undoing older entries; not refreshes",
        f"{_BACKUP}; refreshes go on without it",
    ),
    KindOfFile(
        r"history/undone/[^/]+\.(json|parquet)",
        "the record of an undo",
        "telling which entries of the history count, and the feed",
        f"{_BACKUP}; it cannot be made again",
    ),
    KindOfFile(
        r"snapshots/[^/]+/.+",
        "part of a snapshot",
        "loading tables from it",
        "`ctg-assets refresh` makes the snapshot again from the history",
        mended=True,
    ),
    KindOfFile(
        r"registries/[^/]+\.json",
        "what a registry said of its own model",
        "nothing but a warning",
        "the registry is asked again when the next walk is planned",
        mended=True,
    ),
    KindOfFile(
        r"searches/[^/]+\.(json|parquet)",
        "what a saved search found",
        "the rows of that search in AACT's tables",
        "`ctg-assets refresh` sets it aside; the registry is asked again when the next walk is planned, and "
        "what it finds counts as found then",
        mended=True,
    ),
    KindOfFile(
        r"who/[^/]+/walks/.+",
        "raw rows of WHO, as they were sent",
        "making its release anew; tables that hold that release need it no more",
        "`ctg-assets who refresh` fetches what is under way again; those of a release bring back from a backup",
    ),
    KindOfFile(
        r"who/[^/]+/(releases/.+|state\.json)",
        "a release of WHO's",
        "loading it; tables that hold it need it no more",
        f"{_BACKUP}; removed with its folder, the newest is made again by `ctg-assets who refresh`",
    ),
    KindOfFile(
        r"mesh/[^/]+\.parquet",
        "what was read of the file of MeSH",
        "nothing: the file is read again",
        _REFRESH,
        mended=True,
    ),
)
"""What lies in the lake, by path; the first that matches counts."""

_UNKNOWN = KindOfFile(".*", "a file that the lake does not know", "nothing known", _BACKUP)


def kind_of_file(relative: str) -> KindOfFile:
    """What kind of file lies at a path within the lake."""
    return next((kind for kind in KINDS_OF_FILES if re.fullmatch(kind.pattern, relative)), _UNKNOWN)


class DamagedFileError(StorageError):
    """A file of the lake is not as it was written.

    `relative` is its path within the lake, `problem` what is wrong with it.
    """

    def __init__(self, storage: Storage, relative: str, problem: str) -> None:
        kind = kind_of_file(relative)
        super().__init__(
            f"{storage.path(relative)} is damaged: {problem}. It is {kind.what}. {_sentence(kind.remedy)}. "
            "`ctg-assets verify` looks at all files"
        )
        self.relative = relative
        self.problem = problem


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
