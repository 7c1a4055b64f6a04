"""Extract: from the registry, or a file, to page shards.

Belongs here: plans of extractions, the crawl from page to page, imported files, the registry's account of
its own model. Does not belong here: what an extraction means for the history, and when one is due.
"""
