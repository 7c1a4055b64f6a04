"""The `fields` parameter: which parts of a study are returned."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.naming import keys_of, resolve

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9\-. ]*|@query", re.ASCII)


class Projection(dict[str, "Projection"]):
    """The keys to keep of an object; an empty projection below a key keeps all that is there."""


def parse_fields(text: str) -> Projection:
    """What the value of a `fields` parameter keeps.

    Raises ApiError: 400 for an empty list, a malformed or an unknown name; 500 for the retired
    names ending in `List`, which is what the real API answers to `ConditionList`.
    """
    kept: list[tuple[str, ...]] = []
    for number, name in enumerate(re.split(r"[,|]", text), start=1):
        if not _NAME.fullmatch(name.strip()):
            message = f"Item {number} in parameter `fields` has incorrect format"
            raise ApiError(400, message)
        nodes = resolve(name.strip())
        if name == "@query":
            raise ApiError(501, "The simulator does not expand `@query` in parameter `fields`")
        if not nodes and name.endswith("List"):
            raise ApiError(500, "Internal Server Error")
        if not nodes:
            raise ApiError(400, f"Unknown piece name of field path: {name.strip()}")
        kept += [keys_of(node.path) for node in nodes]
    projection = Projection()
    # Shortest paths first, so that a branch asked for as a whole swallows what is asked for below it.
    for keys in sorted(kept, key=len):
        _keep(projection, keys)
    return projection


def _keep(projection: Projection, keys: tuple[str, ...]) -> None:
    key, *below = keys
    if not below:
        projection[key] = Projection()
    elif key not in projection:
        projection[key] = Projection()
        _keep(projection[key], tuple(below))
    elif projection[key]:
        _keep(projection[key], tuple(below))


def project(value: Any, projection: Projection) -> Any:
    """What a projection keeps of a JSON value, in its own key order.

    Parents stay where the study has them, even when nothing is left below, as in the real API.
    """
    if not projection:
        return value
    if isinstance(value, list):
        return [project(item, projection) for item in value]
    if isinstance(value, dict):
        return {
            key: project(item, projection[key]) for key, item in value.items() if key in projection
        }
    return value


def projected(study: bytes, projection: Projection) -> bytes:
    """A study's JSON cut down to a projection."""
    return msgspec.json.encode(project(msgspec.json.decode(study), projection))


ID_AND_DATE = Projection(
    protocolSection=Projection(
        identificationModule=Projection(nctId=Projection()),
        statusModule=Projection(lastUpdatePostDateStruct=Projection(date=Projection())),
    )
)
"""What `fields=NCTId,LastUpdatePostDate` keeps."""


def id_and_date(nct_id: str, last_update_post_date: str) -> bytes:
    """What ID_AND_DATE keeps of a study with this id and date."""
    posted = {"lastUpdatePostDateStruct": {"date": last_update_post_date}}
    protocol = {"identificationModule": {"nctId": nct_id}, "statusModule": posted}
    return msgspec.json.encode({"protocolSection": protocol})
