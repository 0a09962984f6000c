"""Webhooks: telling addresses of callers' own what has happened.

An event becomes one row for each address that wants it (`outbox`), and rows are sent until they
arrive or a day of trying has passed (`deliverer`). Where deliveries may go is decided in `guard`.
"""
