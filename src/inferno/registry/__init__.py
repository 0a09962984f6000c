"""The directory of inference servers that anybody may run (seed 000).

entries     what an entry is: fields, bounds, times. Pure.
paths       what is in a document, by path, as it is indexed. Pure.
compiling   a filter as SQL that leaves out no entry that matches
catalog     entries in the database: added, changed, removed
finding     queries over them
expiry      entries that stop their heartbeat are marked, then removed
watching    the change feed
calls       what a request asks for. Pure.
app         the API on the control plane
errors      its envelope
"""
