"""What is in the warehouse, to be looked at: one page for all of it, and one for a single study.

Belongs here: the questions of the report and their SQL (`queries`), plots, the two pages, the card of a study.
Does not belong here: definitions of their own, which are the marts', and anything that reaches outside: a page is one
file that opens from disk.
"""
