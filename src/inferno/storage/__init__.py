"""Tables, migrations and the resource store, over SQLite and Postgres."""
