"""The command line: one file per command group.

`main` holds the application; `serve`, `run` and `models` hold the commands, which only read
options and print. What they do is in `client` (HTTP), `discovery` (finding a running server),
`spawn` (starting one), `conversation` and `chat`. Command files import heavy modules inside
functions: `inferno --help` answers at once.
"""
