"""Tables of the baseline characteristics: measures, their classes and categories, and the numbers."""

from __future__ import annotations

from ctg_assets.model.tables.column_values import Lookup
from ctg_assets.model.tables.columns import (
    boolean,
    columns,
    constant,
    first_found,
    number,
    or_else,
    outer_position,
    parent,
    text,
)
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Beside
from ctg_assets.model.tables.result_groups import BASELINE, group_of_section

_BASELINE = "resultsSection.baselineCharacteristicsModule"
_MEASURES = f"{_BASELINE}.measures[]"
_CLASSES = f"{_MEASURES}.classes[]"
_CATEGORIES = f"{_CLASSES}.categories[]"
_COUNTS = "denoms[].counts[]"
_MEASURED = Beside(
    "^^^",
    tuple(
        f"classes[].categories[].measurements[].{name}"
        for name in ("value", "spread", "lowerLimit", "upperLimit")
    ),
)
"""The values of a measure, as its measurements see them: whoever wrote one wrote all."""


def baseline_tables() -> tuple[Table, ...]:
    """The baseline characteristics' tables."""
    return (
        _baseline_counts(),
        _baseline_measures(),
        _baseline_measure_counts(),
        _baseline_classes(),
        _baseline_class_counts(),
        _baseline_categories(),
        _baseline_measurements(),
    )


def _counts() -> tuple[Field, ...]:
    return columns(
        outer_position(
            "denom_position",
            "^",
            "Position of the row's units in the list of denominators, from 1.",
        ),
        group_of_section(BASELINE),
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


def _baseline_counts() -> Table:
    return Table(
        name="baseline_counts",
        description="How many participants or other units of each group the baseline describes.",
        sources=(Source(f"{_BASELINE}.{_COUNTS}", {"scope": "overall"}),),
        declared=(
            constant("scope", "What the number holds for: always overall, the whole baseline."),
            *_counts(),
        ),
    )


def _baseline_measures() -> Table:
    return Table(
        name="baseline_measures",
        description="Characteristics measured at baseline, such as age or sex.",
        sources=(Source(_MEASURES),),
        declared=(
            text("title", "title", "Name of the measure."),
            text("description", "description", "More about the measure."),
            text(
                "population_description",
                "populationDescription",
                "How those measured differ from all who are in the baseline.",
            ),
            text("param_type", "paramType", "What the values are, such as MEAN."),
            text("dispersion_type", "dispersionType", "How the spread of the values is given."),
            text("units", "unitOfMeasure", "Unit of the values."),
            boolean(
                "calculate_percentage",
                "calculatePct",
                "Whether the registry is to show percentages of the number analyzed.",
            ),
            text(
                "denom_units_selected",
                "denomUnitsSelected",
                "Units of the denominators that the values are about, as sent.",
            ),
        ),
        in_aact=False,
    )


def _baseline_measure_counts() -> Table:
    return Table(
        name="baseline_measure_counts",
        description="Denominators of a baseline measure that differ from those of the whole baseline.",
        sources=(Source(f"{_MEASURES}.{_COUNTS}"),),
        declared=(
            parent("baseline_measure_id", "baseline_measures", "Measure whose denominator it is."),
            *_counts(),
        ),
        in_aact=False,
    )


def _baseline_classes() -> Table:
    return Table(
        name="baseline_classes",
        description="Rows into which a baseline measure is divided; one without a title if it is not.",
        sources=(Source(_CLASSES),),
        declared=(
            parent("baseline_measure_id", "baseline_measures", "Measure that is divided."),
            text("title", "title", "Name of the class."),
        ),
        in_aact=False,
    )


def _baseline_class_counts() -> Table:
    return Table(
        name="baseline_class_counts",
        description="Denominators of a baseline measure's class that differ from those of the measure.",
        sources=(Source(f"{_CLASSES}.{_COUNTS}"),),
        declared=(
            parent("baseline_measure_id", "baseline_measures", "Measure of the class."),
            parent("baseline_class_id", "baseline_classes", "Class whose denominator it is."),
            *_counts(),
        ),
        in_aact=False,
    )


def _baseline_categories() -> Table:
    return Table(
        name="baseline_categories",
        description="Categories of a baseline measure's class; one without a title if it has none.",
        sources=(Source(_CATEGORIES),),
        declared=(
            parent("baseline_measure_id", "baseline_measures", "Measure of the class."),
            parent("baseline_class_id", "baseline_classes", "Class that has the category."),
            text("title", "title", "Name of the category."),
        ),
        in_aact=False,
    )


def _baseline_measurements() -> Table:
    return Table(
        name="baseline_measurements",
        description="Values measured at baseline, one row per group, category, class and measure.",
        sources=(Source(f"{_CATEGORIES}.measurements[]"),),
        declared=columns(
            parent("baseline_measure_id", "baseline_measures", "Measure of the value.", aact=None),
            parent("baseline_class_id", "baseline_classes", "Class of the value.", aact=None),
            parent(
                "baseline_category_id", "baseline_categories", "Category of the value.", aact=None
            ),
            group_of_section(BASELINE),
            text("classification", "^^.title", "Name of the class."),
            text("category", "^.title", "Name of the category."),
            text("title", "^^^.title", "Name of the measure."),
            text("units", "^^^.unitOfMeasure", "Unit of the value."),
            text("param_type", "^^^.paramType", "What the value is, such as MEAN."),
            number(
                "param_value",
                "value",
                "Value measured",
                raw="param_value",
                value="param_value_num",
                beside=_MEASURED,
            ),
            text(
                "dispersion_type",
                "^^^.dispersionType",
                "How the spread of the value is given, such as STANDARD_DEVIATION.",
            ),
            number(
                "dispersion_value",
                "spread",
                "Spread of the value where it is one number",
                raw="dispersion_value",
                value="dispersion_value_num",
                beside=_MEASURED,
            ),
            number(
                "dispersion_lower_limit",
                "lowerLimit",
                "Lower end of the spread where it is a range",
                raw="dispersion_lower_limit_raw",
                value="dispersion_lower_limit",
                beyond_aact=("dispersion_lower_limit_raw",),
                beside=_MEASURED,
            ),
            number(
                "dispersion_upper_limit",
                "upperLimit",
                "Upper end of the spread where it is a range",
                raw="dispersion_upper_limit_raw",
                value="dispersion_upper_limit",
                beyond_aact=("dispersion_upper_limit_raw",),
                beside=_MEASURED,
            ),
            text("explanation_of_na", "comment", "Why there is no value, or a comment on it."),
            _number_analyzed(),
            boolean(
                "calculate_percentage",
                "^^^.calculatePct",
                "Whether the registry is to show percentages of the number analyzed.",
            ),
        ),
    )


def _number_analyzed() -> tuple[Field, ...]:
    """How many the value is about, from the closest denominators: the class's, the measure's, or all.

    AACT takes the last of these from any study that has a group of the same code.
    """
    group_and_units = {"ctgov_group_code": "ctgov_group_code", "units": "number_analyzed_units"}
    return (
        or_else(
            "number_analyzed_units",
            "^^^.denomUnitsSelected",
            "Participants",
            "What number_analyzed counts; Participants where the measure does not say.",
        ),
        first_found(
            "number_analyzed",
            (
                Lookup(
                    "baseline_class_counts",
                    {"baseline_class_id": "baseline_class_id", **group_and_units},
                    column="count",
                ),
                Lookup(
                    "baseline_measure_counts",
                    {"baseline_measure_id": "baseline_measure_id", **group_and_units},
                    column="count",
                ),
                Lookup("baseline_counts", group_and_units, column="count"),
            ),
            "Number analyzed in the group, from the class's, the measure's or the whole baseline's "
            "denominators.",
        ),
    )
