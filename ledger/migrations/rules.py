"""Rules that several versions of the schema lay on tables."""

from __future__ import annotations

from alembic import op


def keep_for_ever(table: str) -> None:
    """What is in the books is never changed or deleted, whoever asks: corrections are new transactions."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {table}_kept_for_ever() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{table} is never changed'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_kept_for_ever BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {table}_kept_for_ever()"
        )
        return
    for deed in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_kept_for_ever_{deed.lower()} BEFORE {deed} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is never changed'); END"
        )


def keep_columns(table: str, *columns: str) -> None:
    """These columns of a row never change, and no row is deleted, whoever asks; the other columns may change."""
    changed = f"UPDATE OF {', '.join(columns)}"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {table}_keeps_columns() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{table} keeps what it says'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_keeps_columns BEFORE {changed} OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {table}_keeps_columns()"
        )
        return
    for deed, event in (("update", changed), ("delete", "DELETE")):
        op.execute(
            f"CREATE TRIGGER {table}_keeps_columns_{deed} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} keeps what it says'); END"
        )
