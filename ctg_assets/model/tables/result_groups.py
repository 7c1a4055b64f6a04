"""The groups in which results are reported: their table, and how other tables refer to it.

A section numbers its groups anew (`FG000`, `BG000`, `OG000`, `EG000`), and so does every outcome
measure: `OG000` of one outcome is not `OG000` of the next. Rows therefore find their group by code
within their section, and within their outcome.
"""

from __future__ import annotations

from ctg_assets.model.tables.columns import constant, lookup, parent, text, title_match
from ctg_assets.model.tables.declaration import Field, Source, Table

_RESULTS = "resultsSection"

FLOW = "Participant Flow"
BASELINE = "Baseline"
OUTCOME = "Outcome"
EVENT = "Reported Event"

_REFERENCE = "Group that the row is about; NULL where no group has the code."
_CODE = "Code of the group, as the registry refers to it."


def result_groups() -> Table:
    """The groups of all results sections; those of outcome measures once per outcome."""
    return Table(
        name="result_groups",
        description=(
            "Groups in which results are reported, per section and, since codes start anew in each, "
            "per outcome."
        ),
        sources=(
            Source(f"{_RESULTS}.participantFlowModule.groups[]", {"result_type": FLOW}),
            Source(f"{_RESULTS}.baselineCharacteristicsModule.groups[]", {"result_type": BASELINE}),
            Source(
                f"{_RESULTS}.outcomeMeasuresModule.outcomeMeasures[].groups[]",
                {"result_type": OUTCOME},
            ),
            Source(f"{_RESULTS}.adverseEventsModule.eventGroups[]", {"result_type": EVENT}),
        ),
        declared=(
            constant(
                "result_type",
                "Section that reports the group: Participant Flow, Baseline, Outcome or Reported Event.",
            ),
            parent(
                "outcome_id",
                "outcomes",
                "Outcome whose group this is; NULL in the other sections.",
                optional=True,
            ),
            text("ctgov_group_code", "id", "Code of the group within its section and outcome."),
            text("title", "title", "Name of the group."),
            text("description", "description", "Who is in the group and what they received."),
            *title_match(
                "design_group",
                "design_groups",
                {"title": "title"},
                "Arm of the protocol that has the group's title",
            ),
        ),
    )


def group_of_section(section: str, path: str = "groupId") -> tuple[Field, ...]:
    """The group that a row of a section is about: reference and code."""
    return (
        lookup(
            "result_group_id",
            "result_groups",
            {"ctgov_group_code": "ctgov_group_code"},
            _REFERENCE,
            {"result_type": section},
        ),
        text("ctgov_group_code", path, _CODE),
    )


def group_of_outcome(path: str = "groupId") -> tuple[Field, ...]:
    """The group that a row with an `outcome_id` is about: reference and code within the outcome."""
    return (
        lookup(
            "result_group_id",
            "result_groups",
            {"outcome_id": "outcome_id", "ctgov_group_code": "ctgov_group_code"},
            _REFERENCE,
        ),
        text("ctgov_group_code", path, _CODE),
    )
