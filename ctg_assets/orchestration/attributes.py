"""What all assets have beside what each of them says: tags, the version of their code, how fresh they should be.

Code versions come from the digests by which a refresh tells what to make anew. Plans and pages have none: they are
what the registry said, whatever code asked. Those of models and seeds are dbt's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg

from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.state import aact_definition
from ctg_assets.load.staging import PresentCode
from ctg_assets.orchestration.jobs import CTGOV_GROUP, STAGING_PREFIX

_DIGITS = 16

_DOMAINS = {"who": "burden-of-disease"}

# The registry rests at weekends and holidays, and what did not change is rightly not made again. Dagster looks at the
# time of the last materialization only; how old the data are, `status` and the checks say.
_FRESH_WITHIN = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=4), warn_window=timedelta(days=3)
)
# One where the registry is asked, one where all tables are loaded. What hangs below is made when these change.
_WATCHED = {dg.AssetKey("extraction_plan"), dg.AssetKey([STAGING_PREFIX, "load_info"])}


def with_attributes(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The same assets with these attributes."""
    versions = _code_versions()

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        domain = _DOMAINS.get(spec.group_name or "", "clinical-trials")
        tags = {"domain": domain, "layer": spec.group_name or ""}
        if spec.key in _WATCHED:
            spec = spec.replace_attributes(freshness_policy=_FRESH_WITHIN)
        if spec.key in versions:
            spec = spec.replace_attributes(code_version=versions[spec.key])
        return spec.merge_attributes(tags=tags)

    return [each.map_asset_specs(complete) for each in assets]


def _code_versions() -> Mapping[dg.AssetKey, str]:
    code = PresentCode.read()
    return {
        dg.AssetKey("study_changes"): _short(code.event_rules),
        dg.AssetKey("studies"): _short(code.model_fingerprint),
        **{
            dg.AssetKey([STAGING_PREFIX, name]): _short(made)
            for name, made in code.tables().items()
        },
        # A digest of all of AACT's tables together decides whether they are made.
        **dict.fromkeys(
            (dg.AssetKey([CTGOV_GROUP, table.name]) for table in aact_tables()),
            _short(aact_definition()),
        ),
    }


def _short(digest: str) -> str:
    return hashlib.sha256(digest.encode()).hexdigest()[:_DIGITS]
