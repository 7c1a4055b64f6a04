"""The registry's own account of its fields and values, asked for once per data version."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ctg_assets import model
from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.model.drift import drifts
from ctg_assets.model.published import PublishedEnum, PublishedField, PublishedModel
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.errors import RegistryError
from ctg_assets.registry_access import open_registry
from ctg_assets.results import CheckResult, Listing
from ctg_assets.settings import Settings
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record

MODEL_FOLDER = Path(model.__file__).parent
"""Where fields.csv and enums.csv lie: in a clone that is the source itself."""

_GZIP = b"\x1f\x8b"


class RecordedAnswerError(CtgAssetsError):
    """A file does not hold what it should; the message names it."""


class PublishedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry said of its model at a data version, and when it was asked (UTC)."""

    source: str
    data_timestamp: str
    asked_at: datetime
    model: PublishedModel


def check_published_model(
    client: RegistryClient, storage: Storage, plan: ExtractionPlan
) -> CheckResult:
    """Whether the registry's account of its data agrees with our model; never blocking.

    Costs two requests at a data version that was not asked about before, else none. Each is tried once
    only: a refresh does not depend on the answer, so it shall not wait for it.
    """
    record = recorded_model(storage, plan.source)
    if record is None or record.data_timestamp != plan.data_timestamp:
        try:
            answer = ask_for_model(client, retry_seconds=0)
        except RegistryError as error:
            return CheckResult(
                False, f"the registry's model could not be asked for: {error}", blocking=False
            )
        record = PublishedRecord(
            source=plan.source,
            data_timestamp=plan.data_timestamp,
            asked_at=datetime.now(UTC),
            model=answer,
        )
        write_record(storage, _path(plan.source), record)
    return published_model_check(record)


def published_model_check(record: PublishedRecord) -> CheckResult:
    """Whether what a registry said of its data agrees with our model; never blocking."""
    found = drifts(record.model)
    facts: dict[str, int | float | str | Listing] = {"data timestamp (UTC)": record.data_timestamp}
    if not found:
        return CheckResult(
            True, "the registry's fields and values are those of our model", facts=facts
        )
    facts["differences"] = Listing(
        ("what", "name", "in our model", "in the registry"),
        tuple((str(one.kind), one.name, one.in_model, one.in_registry) for one in found),
    )
    described = (
        f"the registry's fields and values differ from our model ({len(found)} times), first "
        f"{found[0]}. What studies hold in unknown fields is reported with the snapshot; "
        "`ctg-assets learn-model` teaches the model"
    )
    return CheckResult(False, described, blocking=False, facts=facts)


def differences(record: PublishedRecord) -> list[str]:
    """In what a registry's account of its data differs from our model, in words."""
    return [str(drift) for drift in drifts(record.model)]


def learn(published: PublishedModel, into: Path = MODEL_FOLDER) -> list[str]:
    """Write the model's fields.csv and enums.csv anew as a registry has them; returns what was learned, in words."""
    learned = [str(drift) for drift in drifts(published)]
    (into / "fields.csv").write_text(published.fields_csv(), encoding="utf-8")
    (into / "enums.csv").write_text(published.enums_csv(), encoding="utf-8")
    return learned


def ask_for_model(client: RegistryClient, retry_seconds: float | None = None) -> PublishedModel:
    """The registry's account of its data, by two requests; raises RegistryError."""
    return PublishedModel(
        tuple(client.metadata(PublishedField, retry_seconds)),
        tuple(client.enums(PublishedEnum, retry_seconds)),
    )


def ask_configured_registry(settings: Settings) -> PublishedModel:
    """The account of its data of the registry that the settings name; raises RegistryError."""
    with open_registry(settings) as client:
        return ask_for_model(client)


def read_published_model(metadata: Path, enums: Path) -> PublishedModel:
    """A registry's account of its data from recorded answers, gzipped or not.

    Raises RecordedAnswerError for other files, and OSError.
    """
    try:
        published = PublishedModel.from_json(*map(_unzipped, (metadata, enums)))
    except (msgspec.DecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = (
            f"{metadata} and {enums} are not the registry's answers to /studies/metadata and "
            f"/studies/enums: {error}"
        )
        raise RecordedAnswerError(message) from error
    if not published.fields or not published.enums:
        message = f"{metadata} has no fields, or {enums} no values"
        raise RecordedAnswerError(message)
    return published


def _unzipped(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if content.startswith(_GZIP) else content


def recorded_model(storage: Storage, source: str) -> PublishedRecord | None:
    """What a registry last said of its data; None if it was never asked, or in another form.

    A damaged answer is as good as none: the registry is asked again.
    """
    try:
        return read_record(storage, _path(source), PublishedRecord)
    except (FileNotFoundError, DamagedFileError):
        return None


def _path(source: str) -> str:
    return f"registries/{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
