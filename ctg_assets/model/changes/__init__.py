"""What changed between two contents of a study.

Belongs here: the differences field by field (`field_changes.py`) and what they mean to people
(`typed_events.py`), as pure functions of two decoded JSON studies. Does not belong here: deciding
that a study changed, and keeping what was found (`lake`).
"""
