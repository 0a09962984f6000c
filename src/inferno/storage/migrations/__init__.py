"""Alembic migrations; `versions` holds one file per step, never changed once released.

A step runs with foreign keys enforced. On SQLite it must not make Alembic copy and drop a table
that others refer to (`users`, `resources`): the drop would cascade to the rows that refer to it.
Adding columns and tables is safe.
"""
