"""The version of the database's schema: which one it has, which one this program knows, and the way between."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

_MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseVersion(Exception):
    """The schema is not the one this program knows; the message says what to do."""


class DatabaseAway(Exception):
    """The database does not answer, or not now; the same again later may work. The message says what came instead."""


class DatabaseUnusable(Exception):
    """What the settings name is no database for us, and waiting mends nothing; the message says why."""


class RecordRefused(Exception):
    """A rule of the database forbids what was to be written. The message names the rule, never the values."""


def known() -> tuple[list[str], str]:
    """Every version this program knows, oldest first, and the newest of them: the files are named v0001_why.py."""
    versions = sorted(file.name[1:].partition("_")[0] for file in (_MIGRATIONS / "versions").glob("v*_*.py"))
    return versions, versions[-1]


def current(connection: sa.Connection) -> str | None:
    """The version of the database, or None if it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def require_current(connection: sa.Connection) -> None:
    """Refuse, with advice, a database that is empty, older, or newer than this program."""
    versions, newest = known()
    found = current(connection)
    if found == newest:
        return
    if found is None:
        raise DatabaseVersion("the database is empty: run `prepaid migrate` first")
    if found in versions:
        raise DatabaseVersion(f"the database has version {found}, this program {newest}: run `prepaid migrate`")
    raise DatabaseVersion(f"the database has version {found}, which is newer than this program's {newest}: refused")


def upgrade(connection: sa.Connection) -> tuple[str | None, str]:
    """Migrate to the newest version; the versions before and after."""
    versions, newest = known()
    found = current(connection)
    if found is not None and found not in versions:
        raise DatabaseVersion(f"the database has version {found}, which is newer than this program's {newest}: refused")
    if found == newest:
        return found, newest
    # Only here: a gateway that runs needs no Alembic, which is eleven megabytes of memory.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return found, newest
