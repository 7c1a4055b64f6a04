"""Tables of documents at the registry, and of what happened to a study's record."""

from __future__ import annotations

from ctg_assets.model.tables.columns import (
    boolean,
    columns,
    date_time,
    document_url,
    full_date,
    integer,
    last_day,
    text,
)
from ctg_assets.model.tables.declaration import Source, Table

_SUBMISSIONS = "derivedSection.miscInfoModule.submissionTracking"
_DOCUMENTS = "documentSection.largeDocumentModule"
_ANNOTATIONS = "annotationSection.annotationModule"


def document_tables() -> tuple[Table, ...]:
    """The tables of documents, annotations and submissions."""
    return (
        _provided_documents(),
        _pending_results(),
        _violation_events(),
        _submissions(),
    )


def _provided_documents() -> Table:
    return Table(
        name="provided_documents",
        description="Protocols, analysis plans and consent forms that the registry keeps.",
        sources=(Source(f"{_DOCUMENTS}.largeDocs[]"),),
        declared=columns(
            text("document_type", "label", "What the document is, in words."),
            text("type_abbrev", "typeAbbrev", "What the document is, abbreviated.", aact=None),
            boolean("has_protocol", "hasProtocol", "Whether it holds a study protocol."),
            boolean("has_icf", "hasIcf", "Whether it holds an informed consent form."),
            boolean("has_sap", "hasSap", "Whether it holds a statistical analysis plan."),
            full_date("document_date", "date", "Day that the document states."),
            date_time("upload", "uploadDate", "When the document was uploaded"),
            text("filename", "filename", "Name of the file at the registry.", aact=None),
            document_url("url", "filename", "Web address of the file, as AACT composes it."),
            integer("size", "size", "Size of the file in bytes.", aact=None),
        ),
    )


def _pending_results() -> Table:
    return Table(
        name="pending_results",
        description="What happened to results that were submitted but are not posted yet.",
        sources=(Source(f"{_ANNOTATIONS}.unpostedAnnotation.unpostedEvents[]"),),
        declared=(
            text("event", "type", "What happened: RESET, RELEASE or UNRELEASE of the results."),
            text("event_date_description", "date", "When it happened, as sent."),
            last_day("event_date", "date", "Day on which it happened."),
            boolean("date_unknown", "dateUnknown", "Whether its day is unknown.", aact=None),
        ),
    )


def _violation_events() -> Table:
    dates = {
        "creation": ("creationDate", "Day on which the notice was made"),
        "issued": ("issuedDate", "Day on which the FDA issued the notice"),
        "release": ("releaseDate", "Day on which the notice was released to the registry"),
        "posted": ("postedDate", "Day on which the notice appeared in the registry"),
    }
    return Table(
        name="violation_events",
        description="Notices of the FDA on breaches of the duty to register and report.",
        sources=(Source(f"{_ANNOTATIONS}.violationAnnotation.violationEvents[]"),),
        declared=columns(
            text("event_type", "type", "What the notice says, such as VIOLATION_IDENTIFIED."),
            text("description", "description", "Wording of the notice."),
            *(
                full_date(f"{name}_date", path, f"{meaning}.")
                for name, (path, meaning) in dates.items()
            ),
        ),
        in_aact=False,
    )


def _submissions() -> Table:
    return Table(
        name="submissions",
        description="Rounds in which results not posted yet were submitted and reviewed.",
        sources=(Source(f"{_SUBMISSIONS}.submissionInfos[]"),),
        declared=columns(
            full_date("release_date", "releaseDate", "Day on which the results were submitted."),
            full_date(
                "unrelease_date", "unreleaseDate", "Day on which the submission was withdrawn."
            ),
            boolean(
                "unrelease_date_unknown",
                "unreleaseDateUnknown",
                "Whether it was withdrawn on a day that nobody knows.",
            ),
            full_date(
                "reset_date", "resetDate", "Day on which the registry sent the results back."
            ),
            integer(
                "mcp_release_n",
                "mcpReleaseN",
                "Number of the posting while review was still under way.",
            ),
        ),
        in_aact=False,
    )
