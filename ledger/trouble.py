"""What went wrong with the database, in words for people: away, unusable, or a record that it refuses.

Drivers' exceptions stay inside the ledger, and their texts are not passed on where they may hold values: SQLAlchemy
shows the statement with its parameters, PostgreSQL the row.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import sqlalchemy as sa

from ledger.schema import DatabaseAway, DatabaseUnusable, RecordRefused

Trouble = DatabaseAway | DatabaseUnusable | RecordRefused

_CHAIN_MAX: Final = 10

# SQLite's primary result codes (sqlite.org/rescode.html).
_SQLITE_AWAY: Final = {
    5: "another program has locked it",
    6: "another program has locked it",
    10: "its file cannot be read or written",
    13: "the disk is full",
}
_SQLITE_UNUSABLE: Final = {
    3: "its file may not be opened",
    8: "its file may not be written",
    11: "its file is damaged",
    14: "its file cannot be opened",
    26: "the file is not a database",
}
_SQLITE_CONSTRAINT: Final = 19

# PostgreSQL's SQLSTATE by its beginning (its manual, appendix A); the server's own sentence is shown.
_POSTGRES_AWAY: Final = ("08", "53", "57P")  # connection, resources, shut down or starting
_POSTGRES_UNUSABLE: Final = ("28", "3D", "3F", "25006", "42501")  # sign-in, database, schema, read-only, permission
_POSTGRES_REFUSED: Final = ("22", "23")  # a value, a constraint


def of(error: BaseException) -> Trouble | None:
    """What this exception says of the database; None if it is about something else, a bug most of all."""
    for cause in _chain(error):
        found = _sqlite(cause) or _postgres(cause) or _network(cause)
        if found is not None:
            return found
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The exception, and what SQLAlchemy wrapped in it: the innermost knows best and comes first."""
    found = [error]
    while isinstance(error, sa.exc.DBAPIError | sa.exc.EmulatedDBAPIException) and len(found) < _CHAIN_MAX:
        inner = error.orig if isinstance(error, sa.exc.DBAPIError) else error.__cause__
        if inner is None:
            break
        error = inner
        found.append(error)
    return found[::-1]


def _sqlite(error: BaseException) -> Trouble | None:
    # By its attribute: the code is what counts, and only SQLite's exceptions have one.
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return None
    primary = code & 0xFF
    if primary in _SQLITE_AWAY:
        return DatabaseAway(f"the database is away: {_SQLITE_AWAY[primary]}")
    if primary in _SQLITE_UNUSABLE:
        return DatabaseUnusable(f"the database cannot be used: {_SQLITE_UNUSABLE[primary]}")
    if primary == _SQLITE_CONSTRAINT:
        return RecordRefused(f"the database refuses a record: {error}")  # "UNIQUE constraint failed: meter.drn"
    return None


def _postgres(error: BaseException) -> Trouble | None:
    if isinstance(error, asyncpg.ClientConfigurationError):
        return DatabaseUnusable(f"the database cannot be used: {error}")
    if isinstance(error, asyncpg.InterfaceError):
        return DatabaseAway(f"the database is away: {error}")
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, asyncpg.PostgresError) or not isinstance(state, str):
        return None
    if state.startswith(_POSTGRES_AWAY):
        return DatabaseAway(f"the database is away: {error}")
    if state.startswith(_POSTGRES_UNUSABLE):
        return DatabaseUnusable(f"the database cannot be used: {error}")
    if state.startswith(_POSTGRES_REFUSED):
        rule = getattr(error, "constraint_name", None) or getattr(error, "column_name", None) or type(error).__name__
        table = getattr(error, "table_name", None)
        return RecordRefused(f"the database refuses a record: {rule}{f' of {table}' if table else ''}")
    return None


def _network(error: BaseException) -> Trouble | None:
    """What a connection meets before there is a database to say anything; asyncpg passes it on as it is."""
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    several = error.errno is None and "Connect call failed" in str(error)  # one failure for each address of the host
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ == "gaierror" or several:
        return DatabaseAway(f"the database is away: {error.strerror or str(error) or type(error).__name__}")
    return None
