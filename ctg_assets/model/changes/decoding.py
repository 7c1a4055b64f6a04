"""Decoding two contents of a study as far as they differ.

Most modules of a study are sent byte for byte as before when another one changes, results above all, which
are half of the bytes; making Python objects of them took a third of the time of a comparison.
"""

from __future__ import annotations

from typing import Any

import msgspec

_Members = dict[str, msgspec.Raw]

_decode_members = msgspec.json.Decoder(_Members).decode

_PROTOCOL = "protocolSection"
# Events are told from these although they did not change: dates and the status, and where the status
# changed the sites, which may have it from the study.
_STATUS = "statusModule"
_SITES = "contactsLocationsModule"


def decode_differing(old: bytes, new: bytes) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Two contents of a study for `field_changes` and `typed_events`, which find the same as in whole ones.

    Modules that are the same in both are None in both, unless events are told from them as well. None
    if one of the two is not a JSON object.
    """
    try:
        return _differing(_decode_members(old), _decode_members(new))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _differing(old: _Members, new: _Members) -> tuple[dict[str, Any], dict[str, Any]]:
    before, after = {}, {}
    for name in old.keys() & new.keys():
        sections = _is_object(old[name]), _is_object(new[name])
        if all(sections):
            before[name], after[name] = _section(
                name, _decode_members(old[name]), _decode_members(new[name])
            )
    # In the order in which they were sent, which is that of the changes found.
    return (
        {name: before[name] if name in before else _decoded(raw) for name, raw in old.items()},
        {name: after[name] if name in after else _decoded(raw) for name, raw in new.items()},
    )


def _section(name: str, old: _Members, new: _Members) -> tuple[dict[str, Any], dict[str, Any]]:
    same = {module for module, raw in old.items() if module in new and raw == new[module]}
    told = {_STATUS} if name == _PROTOCOL else set()
    if told and _overall_status(old) != _overall_status(new):
        told.add(_SITES)
    left_out = same - told
    return (
        {module: None if module in left_out else _decoded(raw) for module, raw in old.items()},
        {module: None if module in left_out else _decoded(raw) for module, raw in new.items()},
    )


def _overall_status(protocol: _Members) -> Any:
    module = _decoded(protocol[_STATUS]) if _STATUS in protocol else None
    return module.get("overallStatus") if isinstance(module, dict) else None


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"{"


def _decoded(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)
