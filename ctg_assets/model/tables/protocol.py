"""Tables of the protocol section: what is studied, in whom, how and by whom."""

from __future__ import annotations

from ctg_assets.model.tables.columns import (
    age,
    boolean,
    columns,
    constant,
    contains,
    joined,
    labelled,
    lookup,
    lower,
    parent,
    text,
)
from ctg_assets.model.tables.declaration import Source, Table

_ARMS = "protocolSection.armsInterventionsModule"
_CONDITIONS = "protocolSection.conditionsModule"
_DESCRIPTION = "protocolSection.descriptionModule"
_DESIGN = "protocolSection.designModule"
_ELIGIBILITY = "protocolSection.eligibilityModule"
_IDENTIFICATION = "protocolSection.identificationModule"
_OUTCOMES = "protocolSection.outcomesModule"
_SPONSORS = "protocolSection.sponsorCollaboratorsModule"


def protocol_tables() -> tuple[Table, ...]:
    """The protocol section's tables, but for `studies`, contacts, sites and references."""
    return (
        _brief_summaries(),
        _detailed_descriptions(),
        _designs(),
        _eligibilities(),
        _id_information(),
        _conditions(),
        _keywords(),
        _sponsors(),
        _responsible_parties(),
        _interventions(),
        _intervention_other_names(),
        _design_groups(),
        _design_group_interventions(),
        _design_group_intervention_names(),
        _design_outcomes(),
    )


def _brief_summaries() -> Table:
    return Table(
        name="brief_summaries",
        description="Short descriptions for the public, one row per study that has descriptions.",
        sources=(Source(_DESCRIPTION),),
        declared=(text("description", "briefSummary", "Purpose of the study in a few sentences."),),
    )


def _detailed_descriptions() -> Table:
    return Table(
        name="detailed_descriptions",
        description="Longer descriptions, one row per study that has descriptions (may be NULL).",
        sources=(Source(_DESCRIPTION),),
        declared=(text("description", "detailedDescription", "Extended account of the protocol."),),
    )


def _designs() -> Table:
    masked = "maskingInfo.whoMasked[]"
    return Table(
        name="designs",
        description="How a study is designed, one row per study that states its design.",
        sources=(Source(f"{_DESIGN}.designInfo"),),
        declared=(
            text("allocation", "allocation", "How participants are assigned to arms."),
            text(
                "intervention_model",
                "interventionModel",
                "How interventions are given over the arms, such as PARALLEL or CROSSOVER.",
            ),
            text(
                "intervention_model_description",
                "interventionModelDescription",
                "More about the intervention model.",
            ),
            text("primary_purpose", "primaryPurpose", "Main aim, such as TREATMENT."),
            text(
                "observational_model",
                "observationalModel",
                "How participants of an observational study are chosen and followed.",
            ),
            text(
                "time_perspective",
                "timePerspective",
                "Whether an observational study looks forward, back or at one time.",
            ),
            text("masking", "maskingInfo.masking", "How many parties are kept unaware of arms."),
            text(
                "masking_description",
                "maskingInfo.maskingDescription",
                "More about who is masked and how.",
            ),
            joined(
                "who_masked", masked, "Masked parties in the order sent, joined with /.", aact=None
            ),
            contains("subject_masked", masked, "PARTICIPANT", "Whether participants are masked."),
            contains(
                "caregiver_masked", masked, "CARE_PROVIDER", "Whether care providers are masked."
            ),
            contains(
                "investigator_masked", masked, "INVESTIGATOR", "Whether investigators are masked."
            ),
            contains(
                "outcomes_assessor_masked",
                masked,
                "OUTCOMES_ASSESSOR",
                "Whether those who assess outcomes are masked.",
            ),
        ),
    )


def _eligibilities() -> Table:
    return Table(
        name="eligibilities",
        description="Who can take part, one row per study that states it.",
        sources=(Source(_ELIGIBILITY),),
        declared=columns(
            text("sampling_method", "samplingMethod", "How an observational study samples."),
            text("gender", "sex", "Sex that can take part: ALL, FEMALE or MALE."),
            boolean(
                "gender_based",
                "genderBased",
                "Whether eligibility goes by gender identity rather than sex.",
            ),
            text("gender_description", "genderDescription", "More about gender eligibility."),
            age("minimum_age", "minimumAge", "Youngest age that can take part"),
            age("maximum_age", "maximumAge", "Oldest age that can take part"),
            boolean(
                "healthy_volunteers",
                "healthyVolunteers",
                "Whether people without the condition can take part.",
            ),
            text("population", "studyPopulation", "Population from which cohorts are drawn."),
            text("criteria", "eligibilityCriteria", "Inclusion and exclusion criteria."),
            joined(
                "std_ages",
                "stdAges[]",
                "Age groups that the registry derives from the age limits, joined with /.",
                aact=None,
            ),
            contains("child", "stdAges[]", "CHILD", "Whether under 18 year olds can take part."),
            contains("adult", "stdAges[]", "ADULT", "Whether 18 to 64 year olds can take part."),
            contains(
                "older_adult",
                "stdAges[]",
                "OLDER_ADULT",
                "Whether people of 65 years or more can take part.",
            ),
        ),
    )


def _id_information() -> Table:
    return Table(
        name="id_information",
        description="Other identifiers of a study: NCT aliases, the organization's own, secondary.",
        sources=(
            Source(
                f"{_IDENTIFICATION}.nctIdAliases[]",
                {"id_source": "nct_alias"},
                {"id": ".", "type": None, "domain": None, "link": None},
            ),
            Source(
                f"{_IDENTIFICATION}.orgStudyIdInfo",
                {"id_source": "org_study_id"},
                {"domain": None},
            ),
            Source(f"{_IDENTIFICATION}.secondaryIdInfos[]", {"id_source": "secondary_id"}),
        ),
        declared=(
            constant("id_source", "Where it is from: nct_alias, org_study_id or secondary_id."),
            text("id_value", "id", "The identifier."),
            text("id_type", "type", "Kind of identifier, such as EUDRACT_NUMBER or NIH."),
            text("id_type_description", "domain", "Who issued it, or more about its kind."),
            text("id_link", "link", "Web address of the record or grant it names."),
        ),
        indexes=(("id_value",),),
    )


def _conditions() -> Table:
    return Table(
        name="conditions",
        description="Diseases and conditions studied, as the sponsor names them.",
        sources=(Source(f"{_CONDITIONS}.conditions[]"),),
        declared=(
            text("name", ".", "Name of the condition."),
            lower("downcase_name", ".", "Name of the condition in lower case."),
        ),
        indexes=(("downcase_name",),),
    )


def _keywords() -> Table:
    return Table(
        name="keywords",
        description="Words and phrases by which the sponsor wants the study to be found.",
        sources=(Source(f"{_CONDITIONS}.keywords[]"),),
        declared=(
            text("name", ".", "The keyword."),
            lower("downcase_name", ".", "The keyword in lower case."),
        ),
        indexes=(("downcase_name",),),
    )


def _sponsors() -> Table:
    return Table(
        name="sponsors",
        description="Lead sponsors and collaborators of a study.",
        sources=(
            Source(f"{_SPONSORS}.leadSponsor", {"lead_or_collaborator": "lead"}),
            Source(f"{_SPONSORS}.collaborators[]", {"lead_or_collaborator": "collaborator"}),
        ),
        declared=(
            text("agency_class", "class", "Kind of organization, such as INDUSTRY or NIH."),
            constant("lead_or_collaborator", "Whether the organization leads or supports."),
            text("name", "name", "Name of the organization."),
        ),
        indexes=(("name",),),
    )


def _responsible_parties() -> Table:
    return Table(
        name="responsible_parties",
        description="Who answers for a study's record, one row per study that states it.",
        sources=(Source(f"{_SPONSORS}.responsibleParty"),),
        declared=(
            text(
                "responsible_party_type",
                "type",
                "Whether it is the sponsor, or an investigator in one role or another.",
            ),
            text("name", "investigatorFullName", "Name of the investigator."),
            text("title", "investigatorTitle", "Title of the investigator."),
            text(
                "organization",
                "oldOrganization",
                "Organization, in records from before parties had a type.",
            ),
            text("affiliation", "investigatorAffiliation", "Where the investigator works."),
            text(
                "old_name_title",
                "oldNameTitle",
                "Name and title, in records from before parties had a type.",
            ),
        ),
    )


def _interventions() -> Table:
    return Table(
        name="interventions",
        description="Drugs, devices, procedures and other interventions or exposures studied.",
        sources=(Source(f"{_ARMS}.interventions[]"),),
        declared=(
            text("intervention_type", "type", "Kind of intervention, such as DRUG."),
            text("name", "name", "Name of the intervention."),
            text("description", "description", "Dose, frequency and other particulars."),
        ),
        indexes=(("name",),),
    )


def _intervention_other_names() -> Table:
    return Table(
        name="intervention_other_names",
        description="Brand names, codes and other names of interventions.",
        sources=(Source(f"{_ARMS}.interventions[].otherNames[]"),),
        declared=(
            parent("intervention_id", "interventions", "Intervention that has the name."),
            text("name", ".", "The other name."),
        ),
        indexes=(("name",),),
    )


def _design_groups() -> Table:
    return Table(
        name="design_groups",
        description="Arms of interventional studies, groups or cohorts of others, as planned.",
        sources=(Source(f"{_ARMS}.armGroups[]"),),
        declared=(
            text("group_type", "type", "Role of the arm, such as EXPERIMENTAL."),
            text("title", "label", "Label of the arm or group."),
            text("description", "description", "What is done in the arm or group."),
        ),
    )


def _design_group_interventions() -> Table:
    return Table(
        name="design_group_interventions",
        description="Which intervention is given in which arm: one row per label that links them.",
        sources=(Source(f"{_ARMS}.interventions[].armGroupLabels[]"),),
        declared=(
            lookup(
                "design_group_id",
                "design_groups",
                {"title": "arm_group_label"},
                "First arm of the study with this label; NULL where no arm has it.",
            ),
            parent("intervention_id", "interventions", "Intervention that is given."),
            text("arm_group_label", ".", "Label by which the registry names the arm.", aact=None),
        ),
    )


def _design_group_intervention_names() -> Table:
    return Table(
        name="design_group_intervention_names",
        description="Which interventions an arm lists: the same links, told from the arm's side.",
        sources=(Source(f"{_ARMS}.armGroups[].interventionNames[]"),),
        declared=columns(
            parent("design_group_id", "design_groups", "Arm that lists the intervention."),
            text("name", ".", "Kind and name of the intervention, as sent.", aact=None),
            labelled(
                "intervention_type",
                "intervention_name",
                ".",
                "Kind of the intervention that the name begins with, such as DRUG.",
                "Name of the intervention without its kind.",
            ),
            lookup(
                "intervention_id",
                "interventions",
                {"intervention_type": "intervention_type", "name": "intervention_name"},
                "First intervention of the study of this kind and name; NULL where none is.",
            ),
        ),
        in_aact=False,
    )


def _design_outcomes() -> Table:
    return Table(
        name="design_outcomes",
        description="Outcomes that a study plans to measure.",
        sources=(
            Source(f"{_OUTCOMES}.primaryOutcomes[]", {"outcome_type": "primary"}),
            Source(f"{_OUTCOMES}.secondaryOutcomes[]", {"outcome_type": "secondary"}),
            Source(f"{_OUTCOMES}.otherOutcomes[]", {"outcome_type": "other"}),
        ),
        declared=(
            constant("outcome_type", "Rank of the outcome: primary, secondary or other."),
            text("measure", "measure", "What is measured."),
            text("time_frame", "timeFrame", "When it is measured."),
            text("description", "description", "How it is measured."),
        ),
    )
