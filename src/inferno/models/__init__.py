"""Model files: names, GGUF headers, the models folder, installing.

Imports only `inferno.core`. Nothing here starts engines or knows about replicas, and importing
a module of this package stays cheap: HTTP clients and file watchers load when they are needed.
"""
