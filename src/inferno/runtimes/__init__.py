"""Where replicas run: something that turns `Pod`s into processes and reports what became of them.

`local` runs them as child processes of the platform, on loopback.
"""
