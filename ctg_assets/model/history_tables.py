"""The tables of the history: versions of studies, and what changed."""

from __future__ import annotations

from ctg_assets.model.changes.field_changes import ChangeKind as FieldChangeKind
from ctg_assets.model.changes.typed_events import EventType
from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape

_NCT_ID = "Registry number of the study (NCT and eight digits)."
_CHANGE_SEQ = "Number of the change; later changes have higher numbers, for ever."


def _column(name: str, type_: ColumnType, description: str, *, nullable: bool = True) -> Column:
    return Column(name, type_, description, nullable=nullable)


STUDY_VERSIONS = TableShape(
    name="study_versions",
    description="Every content that studies were seen with: one row for each stretch of time in which a "
    "study had one content (a slowly changing dimension of type 2). Studies that are gone have rows "
    "too, none of them current. The JSON of each content is in the lake's history.",
    columns=(
        _column("nct_id", ColumnType.TEXT, _NCT_ID, nullable=False),
        _column(
            "valid_from",
            ColumnType.TIMESTAMP,
            "When the study was first observed with this content (registry's data timestamp, UTC).",
            nullable=False,
        ),
        _column(
            "valid_to",
            ColumnType.TIMESTAMP,
            "When another content, or nothing, was first observed; NULL while it is current.",
        ),
        _column(
            "is_current", ColumnType.BOOLEAN, "Whether the study has this content.", nullable=False
        ),
        _column(
            "version_number",
            ColumnType.INTEGER,
            "Number of the content among the study's, in the order in which they were first observed; "
            "a content that comes back keeps it. Older contents found later renumber the others.",
            nullable=False,
        ),
        _column(
            "content_hash",
            ColumnType.TEXT,
            "SHA-256 of the canonical JSON without its volatile parts; with the NCT id it names the "
            "content for ever.",
            nullable=False,
        ),
        _column(
            "ended_by",
            ColumnType.TEXT,
            "Kind of the change that ended it (see study_changes.kind); NULL while it is current.",
        ),
        _column(
            "first_observed_at",
            ColumnType.TIMESTAMP,
            "When the study was observed with this content for the first time, in any period (UTC).",
            nullable=False,
        ),
        _column(
            "last_observed_at",
            ColumnType.TIMESTAMP,
            "When the content was last observed in this period (UTC); NULL while it is current: then "
            "whatever walk was last has seen it.",
        ),
        _column(
            "last_update_post_date",
            ColumnType.DATE,
            "The registry's last update date within the content.",
        ),
        _column("json_bytes", ColumnType.BIGINT, "Size of the JSON as sent.", nullable=False),
        _column(
            "extraction_id",
            ColumnType.TEXT,
            "The extraction that the content was first taken by.",
            nullable=False,
        ),
    ),
    primary_key=("nct_id", "valid_from"),
    indexes=(("valid_from",),),
)

STUDY_CHANGES = TableShape(
    name="study_changes",
    description="What happened to studies: one row for each study and refresh in which it changed. Read "
    "on from the highest change_seq you have seen.",
    columns=(
        _column("change_seq", ColumnType.BIGINT, _CHANGE_SEQ, nullable=False),
        _column("nct_id", ColumnType.TEXT, _NCT_ID, nullable=False),
        _column(
            "kind",
            ColumnType.TEXT,
            "insert (seen for the first time), update (another content), delete (gone from the "
            "registry), restore (back again), merge (its id is an alias of another study now), "
            "leave_scope (still in the registry, no longer in the scope of this warehouse).",
            nullable=False,
        ),
        _column(
            "observed_at",
            ColumnType.TIMESTAMP,
            "When it was first observed (registry's data timestamp, UTC).",
            nullable=False,
        ),
        _column(
            "recorded_at", ColumnType.TIMESTAMP, "When it was written down (UTC).", nullable=False
        ),
        _column("extraction_id", ColumnType.TEXT, "The extraction that showed it.", nullable=False),
        _column("old_content_hash", ColumnType.TEXT, "Content before; NULL if there was none."),
        _column("new_content_hash", ColumnType.TEXT, "Content after; NULL if there is none."),
        _column(
            "old_version_number", ColumnType.INTEGER, "Version before, as numbered at that time."
        ),
        _column(
            "new_version_number", ColumnType.INTEGER, "Version after, as numbered at that time."
        ),
        _column(
            "is_silent",
            ColumnType.BOOLEAN,
            "An update that left the registry's last update date as it was.",
            nullable=False,
        ),
        _column("merged_into", ColumnType.TEXT, "The study that has its id as an alias."),
        _column(
            "is_backfill",
            ColumnType.BOOLEAN,
            "Found by bringing in an older content: it happened before changes with lower numbers.",
            nullable=False,
        ),
        _column(
            "fields_changed",
            ColumnType.INTEGER,
            "Number of its rows in study_field_changes.",
            nullable=False,
        ),
    ),
    primary_key=("change_seq",),
    indexes=(("nct_id",), ("observed_at",)),
)

_OF_CHANGE = ForeignKey(("change_seq",), STUDY_CHANGES.name)

STUDY_FIELD_CHANGES = TableShape(
    name="study_field_changes",
    description="The fields in which the contents before and after a change differ. Items of lists are "
    "matched by key, not by position; an item that was added or removed is one row.",
    columns=(
        _column("change_seq", ColumnType.BIGINT, _CHANGE_SEQ, nullable=False),
        _column(
            "position", ColumnType.INTEGER, "Position within the change, from 1.", nullable=False
        ),
        _column("nct_id", ColumnType.TEXT, _NCT_ID, nullable=False),
        _column("module", ColumnType.TEXT, "Module of the study's JSON, such as statusModule."),
        _column(
            "path",
            ColumnType.TEXT,
            "Path of the field in the study's JSON, with [] after lists.",
            nullable=False,
        ),
        _column("item", ColumnType.TEXT, "The list items that the field lies in, by their keys."),
        _column("change", ColumnType.TEXT, f"{', '.join(FieldChangeKind)}.", nullable=False),
        _column("old_value", ColumnType.TEXT, "JSON of the value before; NULL if there was none."),
        _column("new_value", ColumnType.TEXT, "JSON of the value after; NULL if there is none."),
    ),
    primary_key=("change_seq", "position"),
    foreign_keys=(_OF_CHANGE,),
    indexes=(("nct_id",), ("path",)),
)

STUDY_EVENTS = TableShape(
    name="study_events",
    description="What changes mean: status, enrollment, dates, outcomes, sites, sponsors, results.",
    columns=(
        _column("change_seq", ColumnType.BIGINT, _CHANGE_SEQ, nullable=False),
        _column(
            "position", ColumnType.INTEGER, "Position within the change, from 1.", nullable=False
        ),
        _column("nct_id", ColumnType.TEXT, _NCT_ID, nullable=False),
        _column("event_type", ColumnType.TEXT, f"{', '.join(EventType)}.", nullable=False),
        _column("subject", ColumnType.TEXT, "What it happened to, such as a site or an outcome."),
        _column("old_value", ColumnType.TEXT, "Value before."),
        _column("new_value", ColumnType.TEXT, "Value after."),
        _column("days", ColumnType.INTEGER, "By how many days a date moved; negative: earlier."),
        _column(
            "after_primary_completion",
            ColumnType.BOOLEAN,
            "Of outcomes: whether it was first observed after the study's primary completion date.",
        ),
        _column(
            "similarity",
            ColumnType.DOUBLE,
            "Of outcomes that were there before and are after: how similar the measures are, from 0 to 1 "
            "(part of their telling words that is the same, in the same order). 1 where it is the same measure.",
        ),
    ),
    primary_key=("change_seq", "position"),
    foreign_keys=(_OF_CHANGE,),
    indexes=(("nct_id",), ("event_type",)),
)

_DATE_PRECISION = "How exactly it is known: day, month or year."

STUDY_VERSION_REPORTING = TableShape(
    name="study_version_reporting",
    description="What contents that are not current say of what the duty to report results depends on: "
    "one row per content that some study had and does not have now. What current ones say is in the other tables.",
    columns=(
        _column(
            "id",
            ColumnType.BIGINT,
            "NCT number times 10⁹, plus the content's number (see study_versions.version_number).",
            nullable=False,
        ),
        _column("nct_id", ColumnType.TEXT, _NCT_ID, nullable=False),
        _column(
            "content_hash",
            ColumnType.TEXT,
            "The content (see study_versions.content_hash).",
            nullable=False,
        ),
        _column("study_type", ColumnType.TEXT, "As studies.study_type."),
        _column("overall_status", ColumnType.TEXT, "As studies.overall_status."),
        _column("phase", ColumnType.TEXT, "As studies.phase."),
        _column("primary_purpose", ColumnType.TEXT, "As designs.primary_purpose."),
        _column("is_fda_regulated_drug", ColumnType.BOOLEAN, "As studies.is_fda_regulated_drug."),
        _column(
            "is_fda_regulated_device", ColumnType.BOOLEAN, "As studies.is_fda_regulated_device."
        ),
        _column("start_date", ColumnType.DATE, "As studies.start_date."),
        _column("primary_completion_date", ColumnType.DATE, "As studies.primary_completion_date."),
        _column("primary_completion_date_precision", ColumnType.TEXT, _DATE_PRECISION),
        _column("primary_completion_date_type", ColumnType.TEXT, "ACTUAL or ESTIMATED."),
        _column("completion_date", ColumnType.DATE, "As studies.completion_date."),
        _column("completion_date_precision", ColumnType.TEXT, _DATE_PRECISION),
        _column("verification_date", ColumnType.DATE, "As studies.verification_date."),
        _column(
            "disposition_first_submitted_date",
            ColumnType.DATE,
            "As studies.disposition_first_submitted_date.",
        ),
        _column(
            "results_first_submitted_date",
            ColumnType.DATE,
            "As studies.results_first_submitted_date.",
        ),
        _column("results_waived", ColumnType.BOOLEAN, "As studies.results_waived."),
        _column(
            "countries",
            ColumnType.JSON,
            "Array of what the content gives in table countries: name, removed.",
            nullable=False,
        ),
        _column(
            "interventions",
            ColumnType.JSON,
            "Array of what it gives in table interventions: intervention_type.",
            nullable=False,
        ),
        _column(
            "submissions",
            ColumnType.JSON,
            "Array of what it gives in table submissions: position, release_date, unrelease_date, "
            "unrelease_date_as_sent, unrelease_date_unknown.",
            nullable=False,
        ),
    ),
    primary_key=("id",),
    indexes=(("nct_id",),),
)

HISTORY_TABLES = (
    STUDY_VERSIONS,
    STUDY_CHANGES,
    STUDY_FIELD_CHANGES,
    STUDY_EVENTS,
    STUDY_VERSION_REPORTING,
)
