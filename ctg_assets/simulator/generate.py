"""Generated studies: deterministic, cheap, structurally complete, of realistic skew.

Belongs here: putting the sections of one study together. Does not belong here: NCT ids and posting dates
(`identity.py`).
"""

from __future__ import annotations

import msgspec

from ctg_assets.simulator import identity


def study_json(seed: int, index: int) -> bytes:
    """The JSON of generated study `index`, compact and on one line."""
    posted = identity.iso(identity.last_update_post_day(seed, index))
    return msgspec.json.encode(
        {
            "protocolSection": {
                "identificationModule": {"nctId": identity.nct_id(seed, index)},
                "statusModule": {"lastUpdatePostDateStruct": {"date": posted, "type": "ACTUAL"}},
            },
            "hasResults": False,
        }
    )
