"""Integrity: whether all files of the lake are as they were written, making damaged ones again, and copies.

Belongs here: verification, repair from what the lake has and with the registry's help, and copying a lake
while others work on it. Does not belong here: how a single file tells that it is damaged (`storage`).
"""
