"""Tables of the outcome measures: denominators, classes, categories, measured values and analyses.

The registry's `dispersionType` of an outcome and `paramType` of an analysis are free text that looks
like an enumeration ("Standard Deviation"), other fields of these names are enumerations
(STANDARD_DEVIATION). All are kept as sent.
"""

from __future__ import annotations

from dataclasses import replace

from ctg_assets.model.tables.columns import (
    boolean,
    columns,
    constant,
    number,
    outer_position,
    parent,
    partial_date,
    text,
)
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Beside
from ctg_assets.model.tables.result_groups import group_of_outcome

_OUTCOMES = "resultsSection.outcomeMeasuresModule.outcomeMeasures[]"
_CLASSES = f"{_OUTCOMES}.classes[]"
_CATEGORIES = f"{_CLASSES}.categories[]"
_ANALYSES = f"{_OUTCOMES}.analyses[]"
_COUNTS = "denoms[].counts[]"
_VALUES = (
    *(
        f"classes[].categories[].measurements[].{name}"
        for name in ("value", "spread", "lowerLimit", "upperLimit")
    ),
    *(
        f"analyses[].{name}"
        for name in (
            *("paramValue", "dispersionValue", "pValue"),
            *("ciPctValue", "ciLowerLimit", "ciUpperLimit"),
        )
    ),
)
"""The numbers of an outcome, which were written together."""
_AACT_POSTING = "outcomes.anticipated_posting_date"


def outcome_tables() -> tuple[Table, ...]:
    """The tables of what lies in an outcome; `outcomes` itself comes before its groups."""
    return (
        _outcome_counts(),
        _outcome_classes(),
        _outcome_class_counts(),
        _outcome_categories(),
        _outcome_measurements(),
        _outcome_analyses(),
        _outcome_analysis_groups(),
    )


def outcomes() -> Table:
    """The outcome measures, to which their groups refer."""
    return Table(
        name="outcomes",
        description="Outcome measures of the results section, posted or only announced.",
        sources=(Source(_OUTCOMES),),
        declared=columns(
            text("outcome_type", "type", "PRIMARY, SECONDARY, OTHER_PRE_SPECIFIED or POST_HOC."),
            text("title", "title", "What is measured."),
            text("description", "description", "More about the measure and how it is assessed."),
            text("time_frame", "timeFrame", "When it is measured."),
            text(
                "population",
                "populationDescription",
                "Who is analyzed, and how they differ from all who were assigned.",
            ),
            text(
                "reporting_status",
                "reportingStatus",
                "POSTED where there are values, NOT_POSTED where they are only announced.",
                aact=None,
            ),
            _anticipated_posting(),
            text("units", "unitOfMeasure", "Unit of the values."),
            text(
                "units_analyzed",
                "typeUnitsAnalyzed",
                "What is analyzed besides participants, such as eyes or lesions.",
            ),
            text("param_type", "paramType", "What the values are, such as MEAN."),
            text(
                "dispersion_type",
                "dispersionType",
                "How the spread of the values is given, in free text such as Standard Deviation.",
            ),
            boolean(
                "calculate_percentage",
                "calculatePct",
                "Whether the registry is to show percentages of the number analyzed.",
                aact=None,
            ),
            text(
                "denom_units_selected",
                "denomUnitsSelected",
                "Units of the denominators that the values are about, as sent.",
                aact=None,
            ),
        ),
    )


def _anticipated_posting() -> tuple[Field, ...]:
    # Of this date alone AACT takes the first day; here, as everywhere, `_date` is the last.
    others = {"anticipated_posting_date": None, "anticipated_posting_date_first": _AACT_POSTING}
    return tuple(
        replace(item, aact=others.get(item.name, item.aact))
        for item in partial_date(
            "anticipated_posting",
            "anticipatedPostingDate",
            "When the outcome's values are to be posted",
        )
    )


def _counts() -> tuple[Field, ...]:
    return columns(
        outer_position(
            "denom_position",
            "^",
            "Position of the row's units in the list of denominators, from 1.",
        ),
        group_of_outcome(),
        text("units", "^.units", "What is counted, such as Participants."),
        number(
            "count",
            "value",
            "Number of units analyzed in the group",
            raw="count_raw",
            value="count",
            whole=True,
            beyond_aact=("count_raw",),
        ),
    )


def _outcome_counts() -> Table:
    return Table(
        name="outcome_counts",
        description="How many participants or other units of each group an outcome is about.",
        sources=(Source(f"{_OUTCOMES}.{_COUNTS}", {"scope": "Measure"}),),
        declared=(
            parent("outcome_id", "outcomes", "Outcome whose denominator it is."),
            constant("scope", "What the number holds for: always Measure, the whole outcome."),
            *_counts(),
        ),
    )


def _outcome_classes() -> Table:
    return Table(
        name="outcome_classes",
        description="Rows into which an outcome is divided; one without a title if it is not.",
        sources=(Source(_CLASSES),),
        declared=(
            parent("outcome_id", "outcomes", "Outcome that is divided."),
            text("title", "title", "Name of the class."),
        ),
        in_aact=False,
    )


def _outcome_class_counts() -> Table:
    return Table(
        name="outcome_class_counts",
        description="Denominators of an outcome's class, of which AACT has none.",
        sources=(Source(f"{_CLASSES}.{_COUNTS}"),),
        declared=(
            parent("outcome_id", "outcomes", "Outcome of the class."),
            parent("outcome_class_id", "outcome_classes", "Class whose denominator it is."),
            *_counts(),
        ),
        in_aact=False,
    )


def _outcome_categories() -> Table:
    return Table(
        name="outcome_categories",
        description="Categories of an outcome's class; one without a title if it has none.",
        sources=(Source(_CATEGORIES),),
        declared=(
            parent("outcome_id", "outcomes", "Outcome of the class."),
            parent("outcome_class_id", "outcome_classes", "Class that has the category."),
            text("title", "title", "Name of the category."),
        ),
        in_aact=False,
    )


def _outcome_measurements() -> Table:
    return Table(
        name="outcome_measurements",
        description="Values of outcomes, one row per group, category, class and outcome.",
        sources=(Source(f"{_CATEGORIES}.measurements[]"),),
        declared=columns(
            parent("outcome_id", "outcomes", "Outcome of the value."),
            parent("outcome_class_id", "outcome_classes", "Class of the value.", aact=None),
            parent(
                "outcome_category_id", "outcome_categories", "Category of the value.", aact=None
            ),
            group_of_outcome(),
            text("classification", "^^.title", "Name of the class."),
            text("category", "^.title", "Name of the category."),
            text("title", "^^^.title", "What is measured."),
            text("units", "^^^.unitOfMeasure", "Unit of the value."),
            text("param_type", "^^^.paramType", "What the value is, such as MEAN."),
            number(
                "param_value",
                "value",
                "Value measured",
                raw="param_value",
                value="param_value_num",
                beside=Beside("^^^", _VALUES),
            ),
            text(
                "dispersion_type",
                "^^^.dispersionType",
                "How the spread of the value is given, in free text such as Standard Deviation.",
            ),
            number(
                "dispersion_value",
                "spread",
                "Spread of the value where it is one number",
                raw="dispersion_value",
                value="dispersion_value_num",
                beside=Beside("^^^", _VALUES),
            ),
            number(
                "dispersion_lower_limit",
                "lowerLimit",
                "Lower end of the spread where it is a range",
                raw="dispersion_lower_limit_raw",
                value="dispersion_lower_limit",
                beside=Beside("^^^", _VALUES),
            ),
            number(
                "dispersion_upper_limit",
                "upperLimit",
                "Upper end of the spread where it is a range",
                raw="dispersion_upper_limit_raw",
                value="dispersion_upper_limit",
                beside=Beside("^^^", _VALUES),
            ),
            text("explanation_of_na", "comment", "Why there is no value, or a comment on it."),
        ),
    )


def _outcome_analyses() -> Table:
    return Table(
        name="outcome_analyses",
        description="Statistical analyses of outcomes.",
        sources=(Source(_ANALYSES),),
        declared=columns(
            parent("outcome_id", "outcomes", "Outcome that is analyzed."),
            boolean(
                "tested_non_inferiority",
                "testedNonInferiority",
                "Whether non-inferiority was tested, in the registry's older form.",
                aact=None,
            ),
            text(
                "non_inferiority_type",
                "nonInferiorityType",
                "What was tested: superiority, non-inferiority, equivalence or something else.",
            ),
            text(
                "non_inferiority_description",
                "nonInferiorityComment",
                "More about the test, such as the margin of non-inferiority.",
            ),
            text(
                "param_type",
                "paramType",
                "What was estimated, in free text such as Hazard Ratio (HR).",
            ),
            number(
                "param_value",
                "paramValue",
                "Value estimated",
                raw="param_value_raw",
                value="param_value",
                beyond_aact=("param_value_raw",),
                beside=Beside("^", _VALUES),
            ),
            text(
                "dispersion_type",
                "dispersionType",
                "How the spread of the estimate is given, such as STANDARD_ERROR_OF_MEAN.",
            ),
            number(
                "dispersion_value",
                "dispersionValue",
                "Spread of the estimate",
                raw="dispersion_value_raw",
                value="dispersion_value",
                beyond_aact=("dispersion_value_raw",),
                beside=Beside("^", _VALUES),
            ),
            number(
                "p_value",
                "pValue",
                "P value",
                raw="p_value_raw",
                value="p_value",
                qualifier="p_value_modifier",
                beside=Beside("^", _VALUES),
            ),
            text("p_value_description", "pValueComment", "More about the P value."),
            text("ci_n_sides", "ciNumSides", "Whether the confidence interval has two sides."),
            number(
                "ci_percent",
                "ciPctValue",
                "Confidence level in percent",
                raw="ci_percent_raw",
                value="ci_percent",
                beyond_aact=("ci_percent_raw",),
                beside=Beside("^", _VALUES),
            ),
            number(
                "ci_lower_limit",
                "ciLowerLimit",
                "Lower limit of the confidence interval",
                raw="ci_lower_limit_raw",
                value="ci_lower_limit",
                beside=Beside("^", _VALUES),
            ),
            number(
                "ci_upper_limit",
                "ciUpperLimit",
                "Upper limit of the confidence interval",
                raw="ci_upper_limit_raw",
                value="ci_upper_limit",
                beside=Beside("^", _VALUES),
            ),
            text(
                "ci_lower_limit_na_comment",
                "ciLowerLimitComment",
                "Why there is no lower limit.",
                aact=None,
            ),
            text(
                "ci_upper_limit_na_comment", "ciUpperLimitComment", "Why there is no upper limit."
            ),
            text("method", "statisticalMethod", "Statistical method, such as ANCOVA."),
            text("method_description", "statisticalComment", "More about the method."),
            text("estimate_description", "estimateComment", "More about the estimate."),
            text("groups_description", "groupDescription", "What was compared, and how."),
            text(
                "other_analysis_description",
                "otherAnalysisDescription",
                "An analysis that fits none of the other fields.",
            ),
        ),
    )


def _outcome_analysis_groups() -> Table:
    return Table(
        name="outcome_analysis_groups",
        description="Groups that an analysis compares.",
        sources=(Source(f"{_ANALYSES}.groupIds[]"),),
        declared=columns(
            parent("outcome_id", "outcomes", "Outcome that is analyzed.", aact=None),
            parent("outcome_analysis_id", "outcome_analyses", "Analysis that compares the group."),
            group_of_outcome("."),
        ),
    )
