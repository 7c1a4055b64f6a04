"""The table `studies`: one row per study, with the single values of all sections."""

from __future__ import annotations

from ctg_assets.model.tables.columns import (
    age,
    boolean,
    columns,
    count,
    equals,
    full_date,
    integer,
    joined,
    last_day,
    partial_date,
    snapshot,
    text,
)
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Condition

_ARMS = "protocolSection.armsInterventionsModule"
_DESIGN = "protocolSection.designModule"
_IDENTIFICATION = "protocolSection.identificationModule"
_IPD = "protocolSection.ipdSharingStatementModule"
_OVERSIGHT = "protocolSection.oversightModule"
_STATUS = "protocolSection.statusModule"
_BASELINE = "resultsSection.baselineCharacteristicsModule"
_MORE_INFO = "resultsSection.moreInfoModule"
_SUBMISSIONS = "derivedSection.miscInfoModule.submissionTracking"


UNKNOWN_ENROLLMENT = 99_999_999
"""The registry's own mark for an enrollment count that nobody knows."""


def studies() -> Table:
    """The table with one row per study."""
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
