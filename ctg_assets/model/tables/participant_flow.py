"""Tables of the participant flow: periods, milestones reached in them, and reasons for leaving."""

from __future__ import annotations

from ctg_assets.model.tables.columns import columns, number, parent, text
from ctg_assets.model.tables.declaration import Source, Table
from ctg_assets.model.tables.result_groups import FLOW, group_of_section

_FLOW = "resultsSection.participantFlowModule"
_PERIODS = f"{_FLOW}.periods[]"
_MILESTONES = f"{_PERIODS}.milestones[]"
_DROP_WITHDRAWALS = f"{_PERIODS}.dropWithdraws[]"


def participant_flow_tables() -> tuple[Table, ...]:
    """The participant flow's tables."""
    return (
        _participant_flows(),
        _flow_periods(),
        _flow_milestones(),
        _flow_drop_withdrawals(),
        _milestones(),
        _drop_withdrawals(),
    )


def _participant_flows() -> Table:
    return Table(
        name="participant_flows",
        description="How participants came into a study, one row per study that reports their flow.",
        sources=(Source(_FLOW),),
        declared=(
            text(
                "recruitment_details",
                "recruitmentDetails",
                "When and where participants were recruited.",
            ),
            text(
                "pre_assignment_details",
                "preAssignmentDetails",
                "What happened between enrollment and assignment to groups.",
            ),
            text(
                "units_analyzed",
                "typeUnitsAnalyzed",
                "What was assigned besides participants, such as eyes or lesions.",
            ),
        ),
    )


def _flow_periods() -> Table:
    return Table(
        name="flow_periods",
        description="Periods of a study into which the flow of participants is divided.",
        sources=(Source(_PERIODS),),
        declared=(text("title", "title", "Name of the period."),),
        in_aact=False,
    )


def _flow_milestones() -> Table:
    return Table(
        name="flow_milestones",
        description="Milestones of each period, whether or not a group has a number for them.",
        sources=(Source(_MILESTONES),),
        declared=(
            parent("flow_period_id", "flow_periods", "Period of the milestone."),
            text("title", "type", "Name of the milestone, such as STARTED."),
            text("comment", "comment", "More about the milestone."),
        ),
        in_aact=False,
    )


def _flow_drop_withdrawals() -> Table:
    return Table(
        name="flow_drop_withdrawals",
        description="Reasons for leaving in each period, whether or not a group has a number for them.",
        sources=(Source(_DROP_WITHDRAWALS),),
        declared=(
            parent("flow_period_id", "flow_periods", "Period in which participants left."),
            text("reason", "type", "Reason for leaving, such as Adverse Event."),
            text("comment", "comment", "More about the reason."),
        ),
        in_aact=False,
    )


def _milestones() -> Table:
    return Table(
        name="milestones",
        description="How many participants of each group reached each milestone of a period.",
        sources=(Source(f"{_MILESTONES}.achievements[]"),),
        declared=columns(
            parent(
                "flow_period_id", "flow_periods", "Period in which the milestone lies.", aact=None
            ),
            parent("flow_milestone_id", "flow_milestones", "Milestone reached.", aact=None),
            group_of_section(FLOW),
            text("title", "^.type", "Name of the milestone, such as STARTED or COMPLETED."),
            text("period", "^^.title", "Name of the period."),
            text("description", "comment", "Comment on the number of this group."),
            text("milestone_description", "^.comment", "Comment on the milestone as a whole."),
            number(
                "count",
                "numSubjects",
                "Number of participants who reached the milestone",
                raw="count_raw",
                value="count",
                whole=True,
                beyond_aact=("count_raw",),
            ),
            number(
                "count_units",
                "numUnits",
                "Number of units, such as eyes or lesions, that reached the milestone",
                raw="count_units",
                value="count_units_num",
                whole=True,
                beyond_aact=("count_units_num",),
            ),
        ),
    )


def _drop_withdrawals() -> Table:
    return Table(
        name="drop_withdrawals",
        description="How many participants of each group left a period for each reason.",
        sources=(Source(f"{_DROP_WITHDRAWALS}.reasons[]"),),
        declared=columns(
            parent("flow_period_id", "flow_periods", "Period in which they left.", aact=None),
            parent(
                "flow_drop_withdrawal_id", "flow_drop_withdrawals", "Reason for leaving.", aact=None
            ),
            group_of_section(FLOW),
            text("period", "^^.title", "Name of the period."),
            text("reason", "^.type", "Name of the reason, such as Death or Lost to Follow-up."),
            number(
                "count",
                "numSubjects",
                "Number of participants who left for the reason",
                raw="count_raw",
                value="count",
                whole=True,
                beyond_aact=("count_raw",),
            ),
            text("drop_withdraw_comment", "^.comment", "Comment on the reason as a whole."),
            text("reason_comment", "comment", "Comment on the number of this group."),
        ),
    )
