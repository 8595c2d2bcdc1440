"""Alembic's entry: runs the versions on the connection that ledger/schema.py hands over."""

from __future__ import annotations

from alembic import context

from ledger.all_tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
