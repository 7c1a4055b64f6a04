"""The tables of the results section, in an order in which each comes after those it refers to."""

from __future__ import annotations

from ctg_assets.model.tables.adverse_events import adverse_event_tables
from ctg_assets.model.tables.baseline import baseline_tables
from ctg_assets.model.tables.columns import boolean, text
from ctg_assets.model.tables.declaration import Source, Table
from ctg_assets.model.tables.outcomes import outcome_tables, outcomes
from ctg_assets.model.tables.participant_flow import participant_flow_tables
from ctg_assets.model.tables.result_groups import result_groups

_MORE_INFO = "resultsSection.moreInfoModule"


def results_tables() -> tuple[Table, ...]:
    """The results section's tables."""
    return (
        outcomes(),
        result_groups(),
        *participant_flow_tables(),
        *baseline_tables(),
        *outcome_tables(),
        *adverse_event_tables(),
        _result_agreements(),
        _result_contacts(),
    )


def _result_agreements() -> Table:
    return Table(
        name="result_agreements",
        description="What investigators may publish, one row per study that states the agreement.",
        sources=(Source(f"{_MORE_INFO}.certainAgreement"),),
        declared=(
            boolean(
                "pi_employee",
                "piSponsorEmployee",
                "Whether all principal investigators are employed by the sponsor.",
            ),
            boolean(
                "restrictive_agreement",
                "restrictiveAgreement",
                "Whether an agreement restricts what they may publish once the study is over.",
            ),
            text("restriction_type", "restrictionType", "Kind of the restriction, such as LTE60."),
            text("other_details", "otherDetails", "The restriction in the sponsor's words."),
        ),
    )


def _result_contacts() -> Table:
    return Table(
        name="result_contacts",
        description="Whom to ask about results, one row per study that names a contact.",
        sources=(Source(f"{_MORE_INFO}.pointOfContact"),),
        declared=(
            text("name", "title", "Name or title of the contact."),
            text("organization", "organization", "Organization of the contact."),
            text("email", "email", "Email address of the contact."),
            text("phone", "phone", "Telephone number of the contact."),
            text("extension", "phoneExt", "Extension of the telephone number."),
        ),
        indexes=(("organization",),),
    )
