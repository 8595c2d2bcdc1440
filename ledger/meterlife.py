"""The life of a meter from the stock to the scrap: its statuses, what can happen, and the one table. Pure.

A meter's status is stored; whoever changes it (`ledger/metermoves.py`) asks `follow` what the deed leads to. Only a
meter that is INSTALLED buys. `docs/meters.md` shows the table; a test keeps the two equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a meter stands, as stored."""

    IN_STOCK = "IN_STOCK"
    ISSUED = "ISSUED"  # in the hands of a fitter
    INSTALLED = "INSTALLED"  # at a service point, and sold for
    BLOCKED = "BLOCKED"  # at a service point, and not sold for until it is unblocked
    FAULTY = "FAULTY"  # at a service point, and broken
    REMOVED = "REMOVED"  # taken down, not yet looked at
    REPAIRED = "REPAIRED"
    SCRAPPED = "SCRAPPED"


class Deed(StrEnum):
    """What can be done to a meter. A replacement is REMOVE of one and INSTALL of another in one transaction."""

    ISSUE = "ISSUE"
    BRING_BACK = "BRING_BACK"
    INSTALL = "INSTALL"
    BLOCK = "BLOCK"
    UNBLOCK = "UNBLOCK"
    REPORT_FAULT = "REPORT_FAULT"
    REMOVE = "REMOVE"
    REPAIR = "REPAIR"
    RESTOCK = "RESTOCK"
    SCRAP = "SCRAP"


S, D = Status, Deed

# fmt: off
TABLE: Final[dict[Status, dict[Deed, Status]]] = {
    S.IN_STOCK:  {D.ISSUE:        S.ISSUED},
    S.ISSUED:    {D.INSTALL:      S.INSTALLED,
                  D.BRING_BACK:   S.IN_STOCK},    # the fitter did not need it
    S.INSTALLED: {D.BLOCK:        S.BLOCKED,
                  D.REPORT_FAULT: S.FAULTY,
                  D.REMOVE:       S.REMOVED},
    S.BLOCKED:   {D.UNBLOCK:      S.INSTALLED,
                  D.REPORT_FAULT: S.FAULTY,       # there is no way back from here that would end the block
                  D.REMOVE:       S.REMOVED},
    S.FAULTY:    {D.REMOVE:       S.REMOVED},
    S.REMOVED:   {D.REPAIR:       S.REPAIRED,
                  D.SCRAP:        S.SCRAPPED},
    S.REPAIRED:  {D.RESTOCK:      S.IN_STOCK},
    S.SCRAPPED:  {},
}
# fmt: on

START: Final = Status.IN_STOCK
AT_POINT: Final = frozenset({Status.INSTALLED, Status.BLOCKED, Status.FAULTY})
"""Statuses of a meter that hangs at a service point; a point has at most one such meter."""


class WrongStatus(Exception):
    """The deed is not in the row of the meter's status; the message says which statuses it takes."""


def follow(status: Status, deed: Deed) -> Status:
    """The status after the deed; WrongStatus if the table has no such row."""
    after = TABLE[status].get(deed)
    if after is None:
        takes = ", ".join(one for one, row in TABLE.items() if deed in row)
        raise WrongStatus(f"it is {status}; {takes} expected")
    return after


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/meters.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {START}"]
    lines.extend(f"    {status} --> {after}: {deed}" for status, row in TABLE.items() for deed, after in row.items())
    lines.extend(f"    {status} --> [*]" for status, row in TABLE.items() if not row)
    return "\n".join(lines) + "\n"
