"""Tables of the protocol section, among them `studies`, which also holds other sections' single values.

Belongs here: declarations only.

Indexes are declared on enumerated values, on dates, and on names that the registry keeps short
(conditions and keywords to 160 characters, sites and outcome measures to 254): a Postgres B-tree
entry cannot exceed about 2,700 bytes, so free text of unbounded length must not be indexed.
"""

from __future__ import annotations

from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables.declaration import (
    Condition,
    Field,
    Source,
    Table,
    age,
    boolean,
    columns,
    constant,
    contains,
    count,
    equals,
    full_date,
    integer,
    joined,
    last_day,
    lookup,
    lower,
    parent,
    part,
    partial_date,
    snapshot,
    text,
)

UNKNOWN_ENROLLMENT = 99_999_999
"""The registry's own mark for an enrollment count that nobody knows."""

_ARMS = "protocolSection.armsInterventionsModule"
_CONDITIONS = "protocolSection.conditionsModule"
_CONTACTS = "protocolSection.contactsLocationsModule"
_DESCRIPTION = "protocolSection.descriptionModule"
_DESIGN = "protocolSection.designModule"
_ELIGIBILITY = "protocolSection.eligibilityModule"
_IDENTIFICATION = "protocolSection.identificationModule"
_IPD = "protocolSection.ipdSharingStatementModule"
_OUTCOMES = "protocolSection.outcomesModule"
_OVERSIGHT = "protocolSection.oversightModule"
_SPONSORS = "protocolSection.sponsorCollaboratorsModule"
_STATUS = "protocolSection.statusModule"
_BASELINE = "resultsSection.baselineCharacteristicsModule"
_MORE_INFO = "resultsSection.moreInfoModule"
_SUBMISSIONS = "derivedSection.miscInfoModule.submissionTracking"


def protocol_tables() -> tuple[Table, ...]:
    """The protocol section's tables."""
    return (
        _studies(),
        _brief_summaries(),
        _detailed_descriptions(),
        _designs(),
        _eligibilities(),
        _id_information(),
        _conditions(),
        _keywords(),
        _sponsors(),
        _interventions(),
        _intervention_other_names(),
        _design_groups(),
        _design_group_interventions(),
        _design_outcomes(),
        _facilities(),
        _countries(),
    )


def _studies() -> Table:
    return Table(
        name="studies",
        description="One row per study: its identity, status, dates and single-valued facts.",
        sources=(Source(""),),
        declared=(
            snapshot(
                "content_hash",
                "Hash of the study's content without volatile parts; equal hash, equal content.",
            ),
            *_study_identity(),
            *_study_dates(),
            *_study_design(),
            *_study_oversight(),
            *_study_results(),
        ),
        indexes=(
            ("study_type",),
            ("overall_status",),
            ("last_known_status",),
            ("phase",),
            ("enrollment_type",),
            ("source",),
            ("start_date",),
            ("primary_completion_date",),
            ("completion_date",),
            ("study_first_submitted_date",),
            ("results_first_submitted_date",),
            ("last_update_submitted_date",),
            ("last_update_posted_date",),
        ),
    )


def _study_identity() -> tuple[Field, ...]:
    return columns(
        text("brief_title", f"{_IDENTIFICATION}.briefTitle", "Short title, meant for the public."),
        text("official_title", f"{_IDENTIFICATION}.officialTitle", "Title as in the protocol."),
        text("acronym", f"{_IDENTIFICATION}.acronym", "Acronym by which the study is known."),
        text(
            "source",
            f"{_IDENTIFICATION}.organization.fullName",
            "Organization that registered the study and answers for its record.",
        ),
        text(
            "source_class",
            f"{_IDENTIFICATION}.organization.class",
            "Kind of the registering organization, such as INDUSTRY or NIH.",
        ),
        text("overall_status", f"{_STATUS}.overallStatus", "Recruitment status of the study."),
        text(
            "last_known_status",
            f"{_STATUS}.lastKnownStatus",
            "Status before the registry set it to UNKNOWN for want of updates.",
        ),
        text(
            "why_stopped",
            f"{_STATUS}.whyStopped",
            "Reason given for terminating, suspending or withdrawing the study.",
        ),
        boolean(
            "delayed_posting",
            f"{_STATUS}.delayedPosting",
            "Whether posting is delayed until the device studied is approved or cleared.",
        ),
        boolean(
            "has_expanded_access",
            f"{_STATUS}.expandedAccessInfo.hasExpandedAccess",
            "Whether patients outside the study can get the product by expanded access.",
        ),
        text(
            "expanded_access_nctid",
            f"{_STATUS}.expandedAccessInfo.nctId",
            "NCT id of the related expanded access record.",
        ),
        text(
            "expanded_access_status_for_nctid",
            f"{_STATUS}.expandedAccessInfo.statusForNctId",
            "Status of the related expanded access record.",
        ),
    )


def _study_dates() -> tuple[Field, ...]:
    return columns(
        full_date(
            "study_first_submitted_date",
            f"{_STATUS}.studyFirstSubmitDate",
            "Day on which the study was first submitted to the registry.",
        ),
        full_date(
            "study_first_submitted_qc_date",
            f"{_STATUS}.studyFirstSubmitQcDate",
            "Day of the first submission that met the registry's quality criteria.",
        ),
        full_date(
            "study_first_posted_date",
            f"{_STATUS}.studyFirstPostDateStruct.date",
            "Day on which the study first appeared in the registry.",
        ),
        text(
            "study_first_posted_date_type",
            f"{_STATUS}.studyFirstPostDateStruct.type",
            "Whether the first posting's date is actual or estimated.",
        ),
        boolean(
            "results_waived",
            f"{_STATUS}.resultsWaived",
            "Whether the duty to submit results was waived.",
            aact=None,
        ),
        full_date(
            "results_first_submitted_date",
            f"{_STATUS}.resultsFirstSubmitDate",
            "Day on which results were first submitted.",
        ),
        full_date(
            "results_first_submitted_qc_date",
            f"{_STATUS}.resultsFirstSubmitQcDate",
            "Day of the first results submission that met the quality criteria.",
        ),
        full_date(
            "results_first_posted_date",
            f"{_STATUS}.resultsFirstPostDateStruct.date",
            "Day on which results first appeared in the registry.",
        ),
        text(
            "results_first_posted_date_type",
            f"{_STATUS}.resultsFirstPostDateStruct.type",
            "Whether the results' first posting date is actual or estimated.",
        ),
        full_date(
            "disposition_first_submitted_date",
            f"{_STATUS}.dispFirstSubmitDate",
            "Day on which a delay of results was first certified or requested.",
        ),
        full_date(
            "disposition_first_submitted_qc_date",
            f"{_STATUS}.dispFirstSubmitQcDate",
            "Day of the first certificate or request for delay that met the quality criteria.",
        ),
        full_date(
            "disposition_first_posted_date",
            f"{_STATUS}.dispFirstPostDateStruct.date",
            "Day on which the certificate or request for delay first appeared.",
        ),
        text(
            "disposition_first_posted_date_type",
            f"{_STATUS}.dispFirstPostDateStruct.type",
            "Whether the delay's first posting date is actual or estimated.",
        ),
        full_date(
            "last_update_submitted_date",
            f"{_STATUS}.lastUpdateSubmitDate",
            "Day on which the latest update was submitted.",
        ),
        last_day(
            "last_update_submitted_qc_date",
            f"{_STATUS}.lastUpdateSubmitDate",
            "Copy of last_update_submitted_date, kept for AACT's users; the API has no such date.",
        ),
        full_date(
            "last_update_posted_date",
            f"{_STATUS}.lastUpdatePostDateStruct.date",
            "Day on which the latest update appeared in the registry.",
        ),
        text(
            "last_update_posted_date_type",
            f"{_STATUS}.lastUpdatePostDateStruct.type",
            "Whether the latest update's posting date is actual or estimated.",
        ),
        partial_date(
            "verification",
            f"{_STATUS}.statusVerifiedDate",
            "When the record's content was last confirmed",
        ),
        partial_date("start", f"{_STATUS}.startDateStruct.date", "When enrollment began"),
        text(
            "start_date_type",
            f"{_STATUS}.startDateStruct.type",
            "Whether the start date is actual or estimated.",
        ),
        partial_date(
            "primary_completion",
            f"{_STATUS}.primaryCompletionDateStruct.date",
            "When the last participant was examined for the primary outcome",
        ),
        text(
            "primary_completion_date_type",
            f"{_STATUS}.primaryCompletionDateStruct.type",
            "Whether the primary completion date is actual or estimated.",
        ),
        partial_date(
            "completion",
            f"{_STATUS}.completionDateStruct.date",
            "When the last participant was examined for any purpose of the study",
        ),
        text(
            "completion_date_type",
            f"{_STATUS}.completionDateStruct.type",
            "Whether the completion date is actual or estimated.",
        ),
        full_date(
            "first_mcp_posted_date",
            f"{_SUBMISSIONS}.firstMcpInfo.postDateStruct.date",
            "Day on which results first appeared while quality review was still under way.",
            aact=None,
        ),
        text(
            "first_mcp_posted_date_type",
            f"{_SUBMISSIONS}.firstMcpInfo.postDateStruct.type",
            "Whether that posting date is actual or estimated.",
            aact=None,
        ),
        full_date(
            "estimated_results_first_submitted_date",
            f"{_SUBMISSIONS}.estimatedResultsFirstSubmitDate",
            "Day on which the registry takes results not yet posted to have been submitted.",
            aact=None,
        ),
    )


def _study_design() -> tuple[Field, ...]:
    interventional = Condition(f"{_DESIGN}.studyType", "INTERVENTIONAL")
    not_interventional = Condition(f"{_DESIGN}.studyType", "INTERVENTIONAL", negated=True)
    return columns(
        text(
            "study_type",
            f"{_DESIGN}.studyType",
            "INTERVENTIONAL, OBSERVATIONAL or EXPANDED_ACCESS.",
        ),
        joined(
            "phase",
            f"{_DESIGN}.phases[]",
            "Phases of the study, joined with / where it spans two.",
        ),
        integer(
            "enrollment",
            f"{_DESIGN}.enrollmentInfo.count",
            "Number of participants, exactly as sent (see enrollment_is_unknown).",
        ),
        equals(
            "enrollment_is_unknown",
            f"{_DESIGN}.enrollmentInfo.count",
            UNKNOWN_ENROLLMENT,
            f"Whether the enrollment sent is {UNKNOWN_ENROLLMENT}, the registry's mark for unknown.",
            aact=None,
        ),
        text(
            "enrollment_type",
            f"{_DESIGN}.enrollmentInfo.type",
            "Whether the enrollment is actual or estimated.",
        ),
        count(
            "number_of_arms",
            f"{_ARMS}.armGroups[]",
            "Number of arms of an interventional study.",
            when=interventional,
        ),
        count(
            "number_of_groups",
            f"{_ARMS}.armGroups[]",
            "Number of groups or cohorts of a study that is not interventional.",
            when=not_interventional,
        ),
        age(
            "target_duration",
            f"{_DESIGN}.targetDuration",
            "How long a patient registry follows each participant",
        ),
        boolean(
            "patient_registry",
            f"{_DESIGN}.patientRegistry",
            "Whether an observational study is also a patient registry.",
        ),
        text(
            "biospec_retention",
            f"{_DESIGN}.bioSpec.retention",
            "Whether samples are kept, and whether DNA can be extracted from them.",
        ),
        text(
            "biospec_description",
            f"{_DESIGN}.bioSpec.description",
            "What kinds of samples are kept.",
        ),
        boolean(
            "expanded_access_type_individual",
            f"{_DESIGN}.expandedAccessTypes.individual",
            "Whether expanded access is given to single patients.",
        ),
        boolean(
            "expanded_access_type_intermediate",
            f"{_DESIGN}.expandedAccessTypes.intermediate",
            "Whether expanded access is given to more than one patient, but not widely.",
        ),
        boolean(
            "expanded_access_type_treatment",
            f"{_DESIGN}.expandedAccessTypes.treatment",
            "Whether expanded access is given under a treatment IND or protocol.",
        ),
        integer(
            "n_ptrs_to_this_exp_acc_nct_id",
            f"{_DESIGN}.nPtrsToThisExpAccNctId",
            "Number of studies that name this expanded access record.",
            aact=None,
        ),
    )


def _study_oversight() -> tuple[Field, ...]:
    return columns(
        boolean(
            "has_dmc",
            f"{_OVERSIGHT}.oversightHasDmc",
            "Whether a data monitoring committee was appointed.",
        ),
        boolean(
            "is_fda_regulated_drug",
            f"{_OVERSIGHT}.isFdaRegulatedDrug",
            "Whether a drug or biologic that the FDA regulates is studied.",
        ),
        boolean(
            "is_fda_regulated_device",
            f"{_OVERSIGHT}.isFdaRegulatedDevice",
            "Whether a device that the FDA regulates is studied.",
        ),
        boolean(
            "is_unapproved_device",
            f"{_OVERSIGHT}.isUnapprovedDevice",
            "Whether a device studied is neither approved nor cleared by the FDA.",
        ),
        boolean(
            "is_ppsd",
            f"{_OVERSIGHT}.isPpsd",
            "Whether the FDA ordered the study as pediatric postmarket surveillance of a device.",
        ),
        boolean(
            "is_us_export",
            f"{_OVERSIGHT}.isUsExport",
            "Whether a product studied is made in the United States and exported for the study.",
        ),
        boolean(
            "fdaaa801_violation",
            f"{_OVERSIGHT}.fdaaa801Violation",
            "Whether the FDA found the study in breach of FDAAA 801.",
        ),
        text(
            "plan_to_share_ipd",
            f"{_IPD}.ipdSharing",
            "Whether data of individual participants are to be shared.",
        ),
        text(
            "plan_to_share_ipd_description",
            f"{_IPD}.description",
            "What participant data are to be shared, or why not.",
        ),
        text(
            "ipd_time_frame",
            f"{_IPD}.timeFrame",
            "From when and for how long participant data are available.",
        ),
        text(
            "ipd_access_criteria",
            f"{_IPD}.accessCriteria",
            "Who gets participant data, for which analyses, and how.",
        ),
        text("ipd_url", f"{_IPD}.url", "Web address with more on sharing of participant data."),
    )


def _study_results() -> tuple[Field, ...]:
    return columns(
        boolean(
            "has_results", "hasResults", "Whether the registry holds results of it.", aact=None
        ),
        text(
            "baseline_population",
            f"{_BASELINE}.populationDescription",
            "How the population of the baseline analysis differs from all who were assigned.",
        ),
        text(
            "baseline_type_units_analyzed",
            f"{_BASELINE}.typeUnitsAnalyzed",
            "What was counted at baseline besides participants, such as eyes or lesions.",
        ),
        text(
            "limitations_and_caveats",
            f"{_MORE_INFO}.limitationsAndCaveats.description",
            "Limits of the study that bear on its results, in the sponsor's words.",
        ),
        boolean(
            "no_sap",
            "documentSection.largeDocumentModule.noSap",
            "Whether the study is said to have no statistical analysis plan.",
            aact=None,
        ),
        text(
            "unposted_responsible_party",
            "annotationSection.annotationModule.unpostedAnnotation.unpostedResponsibleParty",
            "Who answers for results that were submitted but are not posted yet.",
            aact=None,
        ),
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
        indexes=(("masking",), ("allocation",), ("primary_purpose",)),
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
        indexes=(("gender",), ("healthy_volunteers",), ("minimum_age",), ("maximum_age",)),
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
        indexes=(("id_type",), ("id_value",)),
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
        indexes=(("name",), ("downcase_name",)),
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
        indexes=(("name",), ("downcase_name",)),
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
        indexes=(("agency_class",), ("name",)),
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
        indexes=(("intervention_type",), ("name",)),
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
        indexes=(("group_type",),),
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
        indexes=(("outcome_type",),),
    )


def _facilities() -> Table:
    return Table(
        name="facilities",
        description="Sites where a study is carried out.",
        sources=(Source(f"{_CONTACTS}.locations[]"),),
        declared=(
            text("status", "status", "Recruitment status of the site."),
            text("name", "facility", "Name of the site."),
            text("city", "city", "City of the site."),
            text("state", "state", "State or province of the site."),
            text("zip", "zip", "Postal code of the site."),
            text("country", "country", "Country of the site."),
            part("latitude", "geoPoint", "lat", "Latitude of the site's city, in degrees."),
            part("longitude", "geoPoint", "lon", "Longitude of the site's city, in degrees."),
        ),
        indexes=(("status",), ("name",), ("city",), ("state",), ("country",)),
    )


def _countries() -> Table:
    return Table(
        name="countries",
        description="Countries of a study's sites, and countries whose sites were all removed.",
        sources=(
            # A country's `position` is that of its first site: the order of first appearance.
            Source(
                f"{_CONTACTS}.locations[]",
                {"removed": False},
                {"name": "country"},
                distinct="country",
            ),
            Source(
                "derivedSection.miscInfoModule.removedCountries[]",
                {"removed": True},
                {"name": "."},
            ),
        ),
        declared=(
            text("name", "name", "Name of the country."),
            constant(
                "removed",
                "False for a country with sites, true for one that no longer has any.",
                ColumnType.BOOLEAN,
            ),
        ),
        indexes=(("name",),),
    )
