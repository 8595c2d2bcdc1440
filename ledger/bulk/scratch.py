"""Where an import lays its records out before anything is stored: a private file that goes away by itself.

SQLite's temporary database (a path of no letters): on disk as soon as it outgrows its small cache, seen by nobody else,
deleted when it is closed, also by a crash. So a million lines are sorted, found to be unique and read again page by
page in constant memory. It holds people's names and numbers, as the imported file does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ledger.bulk.kind import Record

_ROWS_AT_ONCE: Final = 2000
_KEYS_A_STATEMENT: Final = 1000

_TABLES: Final = """
CREATE TABLE record (n INTEGER PRIMARY KEY, kind TEXT, key TEXT, owner TEXT, file INTEGER, line INTEGER, content TEXT);
CREATE TABLE fault (file INTEGER, line INTEGER, n INTEGER PRIMARY KEY, field TEXT, words TEXT);
CREATE TABLE counted (key TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
"""


class Laid(NamedTuple):
    """A record as it was laid out, with where it came from; `content` is None if its line is faulty."""

    kind: str
    key: str
    file: int
    line: int
    content: Record | None


@dataclass(frozen=True, slots=True)
class Told:
    """A fault of a line."""

    file: int
    line: int
    field: str
    words: str


class Scratch:
    """Records of one import; a context manager. After `sort` nothing more is laid out."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)
        self._waiting: list[tuple[Any, ...]] = []
        self._faults: list[tuple[Any, ...]] = []
        self._open: set[str] = set()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # --- laying out ---

    def lay(self, kind: str, key: str, owner: str | None, file: int, line: int, content: Record | None) -> None:
        """Lay one record out; without content if its line is faulty."""
        spelled = None if content is None else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        self._waiting.append((kind, key, owner, file, line, spelled))
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._write()

    def fault(self, file: int, line: int, field: str, words: str) -> None:
        """Note what is wrong with a line; line 0 is the file as a whole."""
        self._faults.append((file, line, field, words))
        if len(self._faults) >= _ROWS_AT_ONCE:
            self._write()

    def leave_open(self, kinds: Iterable[str]) -> None:
        """Records of these kinds stand in lines that could not be read: none of them can be missed."""
        self._open.update(kinds)

    def _write(self) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO record (kind, key, owner, file, line, content) VALUES (?, ?, ?, ?, ?, ?)", self._waiting
        )
        self._db.executemany("INSERT INTO fault (file, line, field, words) VALUES (?, ?, ?, ?)", self._faults)
        self._db.execute("COMMIT")
        self._waiting.clear()
        self._faults.clear()

    def sort(self) -> Iterator[tuple[Laid, Laid]]:
        """Put all in order. Gives each record whose key another has, with that other; equal ones count once."""
        self._write()
        self._db.execute("CREATE INDEX by_key ON record (kind, key, n)")
        self._db.execute("CREATE INDEX by_owner ON record (kind, owner) WHERE owner IS NOT NULL")
        self._db.execute("CREATE INDEX by_line ON fault (file, line, n)")
        self._db.execute("CREATE TABLE again (n INTEGER PRIMARY KEY, first INTEGER, is_same INTEGER)")
        self._db.execute(
            "INSERT INTO again SELECT n, first, content IS (SELECT content FROM record f WHERE f.n = first) FROM "
            "(SELECT n, content, min(n) OVER (PARTITION BY kind, key) AS first FROM record) WHERE n > first"
        )
        clash = (
            "SELECT r.kind, r.key, r.file, r.line, f.file, f.line FROM again a JOIN record r ON r.n = a.n "
            "JOIN record f ON f.n = a.first WHERE NOT a.is_same ORDER BY a.n"
        )
        for kind, key, file, line, first_file, first_line in self._db.execute(clash):
            yield Laid(kind, key, file, line, None), Laid(kind, key, first_file, first_line, None)
        self._write()
        self._db.execute("DELETE FROM record WHERE n IN (SELECT n FROM again)")
        self._db.execute("DROP TABLE again")

    # --- counting ---

    def times_before(self, key: str) -> int:
        """How often this key was counted before; counts it."""
        row = self._db.execute(
            "INSERT INTO counted VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1 RETURNING n", (key,)
        ).fetchone()
        return int(row[0]) - 1

    # --- what is coming (ledger.bulk.kind.Coming) ---

    def get(self, kind: str, keys: Sequence[str]) -> Mapping[str, Record | None]:
        found: dict[str, Record | None] = {}
        for part in _parts(keys):
            rows = self._db.execute(
                f"SELECT key, content FROM record WHERE kind = ? AND key IN ({', '.join('?' * len(part))})",
                (kind, *part),
            )
            found.update({key: None if content is None else json.loads(content) for key, content in rows})
        return found

    def of(self, kind: str, owners: Sequence[str]) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in _parts(owners):
            rows = self._db.execute(
                f"SELECT owner, key FROM record WHERE kind = ? AND owner IN ({', '.join('?' * len(part))})",
                (kind, *part),
            )
            for owner, key in rows:
                found.setdefault(owner, []).append(key)
        return found

    def is_open(self, kind: str) -> bool:
        return kind in self._open

    # --- reading again ---

    def count(self, kind: str) -> int:
        """How many records of this kind there are, faulty ones not counted."""
        wanted = "SELECT count(*) FROM record WHERE kind = ? AND content IS NOT NULL"
        return int(self._db.execute(wanted, (kind,)).fetchone()[0])

    def page(self, kind: str, after: str, limit: int) -> list[Laid]:
        """The next sound records in the order of their keys, without those of lines that have faults."""
        self._write()
        rows = self._db.execute(
            "SELECT key, file, line, content FROM record r WHERE kind = ? AND key > ? AND content IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM fault f WHERE f.file = r.file AND f.line = r.line) ORDER BY key LIMIT ?",
            (kind, after, limit),
        )
        return [Laid(kind, key, file, line, json.loads(content)) for key, file, line, content in rows.fetchall()]

    def faults(self, file: int | None = None) -> Iterator[Told]:
        """The faults in the order of files and lines; of one file if given."""
        self._write()
        where = "" if file is None else "WHERE file = ?"
        rows = self._db.execute(
            f"SELECT file, line, field, words FROM fault {where} ORDER BY file, line, n",
            () if file is None else (file,),
        )
        return (Told(*row) for row in rows)

    def fault_counts(self) -> tuple[int, int]:
        """How many faults there are, and on how many lines."""
        self._write()
        row = self._db.execute(
            "SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT file, line FROM fault)) FROM fault"
        )
        faults, lines = row.fetchone()
        return int(faults), int(lines)


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_A_STATEMENT):
        yield keys[start : start + _KEYS_A_STATEMENT]
