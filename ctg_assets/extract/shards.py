"""Page shards: one Parquet file per API page, which is also the walk's checkpoint.

A shard's data and the token of the page after it become visible in one step, so no separate record
of progress can disagree with the data: whoever resumes reads the last shard's `next_token`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.model.identity import identify
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

SHARD_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string()),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("content_hash", pa.string(), nullable=False),
        # The study's JSON, byte for byte as the registry sent it.
        pa.field("study", pa.large_binary(), nullable=False),
    ]
)

_METADATA_KEY = b"ctg_assets.page_shard"
_FILE_NAME = re.compile(r"([0-9]{5,})\.parquet")

# Level 3 writes a 17 MB page in about 0.1 s to a fifth of its size; higher levels gain little.
_COMPRESSION_LEVEL = 3


class ShardInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shard comes from; kept in the Parquet file's metadata.

    `token` is the one the page was asked with (None for the first page), `next_token` the one of the
    page after it (None when the walk ends here). `request` holds the query parameters; it is None for
    a page that was never asked for: a planned page after the walk's end, or one of an import.
    `fetched_at` is UTC, `seconds` the duration of the request, `json_bytes` the size of the studies.
    """

    extraction_id: str
    page: int
    data_timestamp: str
    fetched_at: datetime
    token: str | None = None
    next_token: str | None = None
    request: dict[str, str] | None = None
    studies: int = 0
    json_bytes: int = 0
    seconds: float = 0.0


def empty_shard(plan: ExtractionPlan, page: int) -> ShardInfo:
    """The description of a planned page that lies after the end of the walk."""
    return ShardInfo(
        extraction_id=plan.extraction_id,
        page=page,
        data_timestamp=plan.data_timestamp,
        fetched_at=datetime.now(UTC),
    )


class ShardStore:
    """The page shards of all extractions of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep shards in `storage`, beside their extraction's plan."""
        self._storage = storage

    def write(
        self, info: ShardInfo, studies: Sequence[bytes], *, create: bool = False
    ) -> ShardInfo:
        """Publish a shard with these studies (JSON bytes, order kept); returns its full description.

        With `create` raises AlreadyPublishedError where a shard of this page is there; else that is replaced.
        """
        identities = [identify(study) for study in studies]
        table = pa.table(
            [
                [identity.nct_id for identity in identities],
                [identity.last_update_post_date for identity in identities],
                [identity.content_hash for identity in identities],
                list(studies),
            ],
            schema=SHARD_SCHEMA,
        )
        info = msgspec.structs.replace(
            info, studies=len(studies), json_bytes=sum(len(study) for study in studies)
        )
        metadata = {_METADATA_KEY: msgspec.json.encode(info)}
        with sealed_writer(
            self._storage,
            _path(info.extraction_id, info.page),
            SHARD_SCHEMA.with_metadata(metadata),
            create=create,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            # Dictionary pages only cost time on columns whose values do not repeat.
            use_dictionary=False,
            write_statistics=["nct_id", "last_update_post_date"],
        ) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
        return info

    def pages(self, extraction_id: str) -> list[int]:
        """The numbers of the pages that are there, ascending."""
        names = self._storage.names(_folder(extraction_id))
        # Files that others put there (copies, notes of a file manager) are no pages.
        return sorted(int(match[1]) for name in names if (match := _FILE_NAME.fullmatch(name)))

    def info(self, extraction_id: str, page: int) -> ShardInfo:
        """The description of a shard; reads only the file's footer.

        Raises DamagedFileError when it is not there or damaged, as all that reads shards does.
        """
        relative = _path(extraction_id, page)
        with open_sealed(self._storage, relative) as file:
            metadata = file.metadata.metadata
        try:
            return msgspec.json.decode(metadata[_METADATA_KEY], type=ShardInfo)
        except (TypeError, KeyError, msgspec.DecodeError) as error:
            raise DamagedFileError(self._storage, relative, "it is no page shard") from error

    def infos(self, extraction_id: str) -> Iterator[ShardInfo]:
        """The descriptions of all shards that are there, by page."""
        for page in self.pages(extraction_id):
            yield self.info(extraction_id, page)

    def read(self, extraction_id: str, page: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a shard (all columns of SHARD_SCHEMA, or those named), in the page's order."""
        with open_sealed(self._storage, _path(extraction_id, page)) as file:
            return file.read(columns=None if columns is None else list(columns))

    def file_size(self, extraction_id: str, page: int) -> int:
        """The size of a shard's file in bytes."""
        return self._storage.size(_path(extraction_id, page))

    def clean(self, extraction_id: str) -> None:
        """Remove what killed writers left behind; call only while no other writer is at work."""
        self._storage.delete_unfinished(_folder(extraction_id))


def first_missing_page(pages: Sequence[int]) -> int:
    """The lowest page number (from 1) that is not among `pages` (ascending)."""
    expected = 1
    for page in pages:
        if page != expected:
            break
        expected += 1
    return expected


def _folder(extraction_id: str) -> str:
    return f"extractions/{extraction_id}/pages"


def _path(extraction_id: str, page: int) -> str:
    return f"{_folder(extraction_id)}/{page:05d}.parquet"
