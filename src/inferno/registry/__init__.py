"""The directory of inference servers that anybody may run (seed 000).

entries     what an entry is: fields, bounds, times. Pure.
paths       what is in a document, by path, as it is indexed. Pure.
compiling   a filter as SQL that leaves out no entry that matches
catalog     entries in the database: added, changed, removed
finding     queries over them
expiry      entries that stop their heartbeat are marked, then removed
probing     whether the servers answer
turn        a task that one process has at a time
watching    the change feed
calls       what a request asks for. Pure.
app         the API on the control plane
errors      its envelope

And the other side, a platform that has an entry somewhere:

announcement  what it says of itself. Pure.
hardware      what its machine has
announcing    keeps the entry fresh and true
remote        the registry, as it is called
"""
