"""The cluster API: the platform's resources as `kubectl` and Kubernetes clients expect them.

Protocol work only: the kinds are defined in `core` and here in `builtin`, what a write makes of a
resource is the store's, and what follows from it the controllers'. Everything is under `/k8s` on
the control plane.
"""
