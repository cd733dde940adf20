"""What a backfill would take, from a sample of its blocks; nothing is written.

========  ===========================================================================================================
strata    which blocks to look at, and what they say of all: totals with their intervals (pure)
sample    fetch and decode them, as an extractor would
parquet   encode them, as a writer would
seen      what came of that
layout    units, tasks and files, by the planner's own rules (pure)
pace      how long it takes with so many extractors, and what limits then (pure)
estimate  all of it put together (pure)
place     what exists already: settings, a provider's file, what is covered; nothing is made
report    a plan as text and HTML
========  ===========================================================================================================
"""
