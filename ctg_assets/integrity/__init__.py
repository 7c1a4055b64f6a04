"""Integrity: whether all files of the lake are as they were written, and making damaged ones again.

Belongs here: verification and repair, from what the lake has and with the registry's help. Does not belong
here: how a single file tells that it is damaged (`storage`).
"""
