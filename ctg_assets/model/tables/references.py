"""Tables of what a study refers to: publications, web pages, data kept elsewhere."""

from __future__ import annotations

from ctg_assets.model.tables.columns import parent, text
from ctg_assets.model.tables.declaration import Source, Table

_IPD = "protocolSection.ipdSharingStatementModule"
_REFERENCES = "protocolSection.referencesModule"


def reference_tables() -> tuple[Table, ...]:
    """The tables of references and of sharing."""
    return (
        _study_references(),
        _retractions(),
        _links(),
        _documents(),
        _ipd_information_types(),
    )


def _study_references() -> Table:
    return Table(
        name="study_references",
        description="Publications about a study or behind it.",
        sources=(Source(f"{_REFERENCES}.references[]"),),
        declared=(
            text("pmid", "pmid", "Identifier of the publication in PubMed."),
            text(
                "reference_type",
                "type",
                "Whether it is a RESULT, BACKGROUND, or was DERIVED by PubMed from the NCT id.",
            ),
            text("citation", "citation", "Bibliographic reference."),
        ),
        indexes=(("pmid",),),
    )


def _retractions() -> Table:
    return Table(
        name="retractions",
        description="Retractions of publications that a study refers to.",
        sources=(Source(f"{_REFERENCES}.references[].retractions[]"),),
        declared=(
            parent("reference_id", "study_references", "Publication that was retracted."),
            text("pmid", "pmid", "Identifier of the retraction in PubMed."),
            text("source", "source", "Bibliographic reference of the retraction."),
        ),
    )


def _links() -> Table:
    return Table(
        name="links",
        description="Web pages related to a study.",
        sources=(Source(f"{_REFERENCES}.seeAlsoLinks[]"),),
        declared=(
            text("url", "url", "Web address of the page."),
            text("description", "label", "Title or description of the page."),
        ),
    )


def _documents() -> Table:
    return Table(
        name="documents",
        description="Data sets and documents of a study that are kept elsewhere.",
        sources=(Source(f"{_REFERENCES}.availIpds[]"),),
        declared=(
            text("document_id", "id", "Identifier that the repository gave it."),
            text("document_type", "type", "Kind of data or document."),
            text("url", "url", "Web address at which it can be had."),
            text("comment", "comment", "More about it, or how to get it."),
        ),
    )


def _ipd_information_types() -> Table:
    return Table(
        name="ipd_information_types",
        description="What is shared besides the data of individual participants.",
        sources=(Source(f"{_IPD}.infoTypes[]"),),
        declared=(text("name", ".", "Kind of document or code, such as STUDY_PROTOCOL."),),
    )
