"""Token identifiers: whole minutes since a base date, 24 bits. Pure: the time is an argument.

A meter takes each TID once. One minute of every day, 00:01, is kept for special tokens; a normal token takes the
next. Several tokens of one meter in one minute take the following minutes, so the caller keeps the last TID of each
meter and stores a new one before its token leaves the process.
Source: IEC 62055-41 (TokenIdentifier); STS 531-1-0-02 CTSA09 for 00:01 and for several tokens in one minute.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from sts.errors import Fault, NumberError
from sts.numbers import base_date_of

TID_MAX: Final = 0xFFFFFF
"""The last minute of a base date; 20:15 on 24 November, 31 years on."""

MINUTES_A_DAY: Final = 1440
RESERVED_MINUTE: Final = 1
"""00:01 belongs to special tokens (SpecialReservedTokenIdentifier)."""

MAX_ZONE_OFFSET_MINUTES: Final = 14 * 60

_MINUTE: Final = timedelta(minutes=1)
_STARTS: Final = {year: datetime(year, 1, 1, tzinfo=UTC) for year in (1993, 2014, 2035)}


class Slot(StrEnum):
    """Which minutes an allocator may use, so that a centre and an offline station never meet on one."""

    EVERY = "every"
    EVEN = "even"
    ODD = "odd"


def base_start(base_date: int, zone_offset_minutes: int = 0) -> datetime:
    """The instant of TID 0, in UTC: 1 January 00:00 of the base date in the zone it was counted in.

    Edition 3 counts in UTC; earlier systems counted in local time, so the offset east of Greenwich is a property of
    the supply group. Refuses OUT_OF_RANGE for another base date or an offset beyond 14 hours.
    """
    if not -MAX_ZONE_OFFSET_MINUTES <= zone_offset_minutes <= MAX_ZONE_OFFSET_MINUTES:
        raise NumberError(
            Fault.OUT_OF_RANGE, f"zone offset: at most 14 hours expected, got {zone_offset_minutes} minutes"
        )
    start = _STARTS.get(base_date)
    if start is None:
        start = _STARTS[base_date_of(base_date)]
    return start - timedelta(minutes=zone_offset_minutes) if zone_offset_minutes else start


def is_reserved(tid: int) -> bool:
    """Does this TID stand for 00:01, which only special tokens may carry?"""
    return tid % MINUTES_A_DAY == RESERVED_MINUTE


def check_tid(tid: int) -> None:
    """Refuse OUT_OF_RANGE unless this number fits the 24 bits of a TID."""
    if not 0 <= tid <= TID_MAX:
        raise NumberError(Fault.OUT_OF_RANGE, f"TID: 0 to {TID_MAX} expected, got {tid}")


def clock_minute(now: datetime, base_date: int, zone_offset_minutes: int = 0) -> int:
    """Whole minutes from the base date to `now` (aware), seconds dropped; may be the reserved minute.

    Refuses BEFORE_BASE_DATE, and BASE_DATE_ENDED past the last minute of the base date.
    """
    minute = (now - base_start(base_date, zone_offset_minutes)) // _MINUTE
    if minute < 0:
        raise NumberError(Fault.BEFORE_BASE_DATE, f"the clock is before the base date {base_date}")
    if minute > TID_MAX:
        raise NumberError(Fault.BASE_DATE_ENDED, f"the base date {base_date} has no minutes left: key change needed")
    return minute


def tid_at(now: datetime, base_date: int, *, zone_offset_minutes: int = 0) -> int:
    """The TID of a normal token issued at `now`, with no regard to earlier tokens: 00:01 gives 00:02."""
    minute = clock_minute(now, base_date, zone_offset_minutes)
    return minute + 1 if is_reserved(minute) else minute


def next_tid(
    now: datetime,
    base_date: int,
    last_tid: int | None,
    *,
    max_ahead_minutes: int,
    slot: Slot = Slot.EVERY,
    zone_offset_minutes: int = 0,
) -> int:
    """The TID for the next token of a meter whose last one was `last_tid` (None: no token yet).

    The first minute of the slot at or after the clock and after `last_tid`, never 00:01. `last_tid` counts on the
    same base date; after a key change to another base date pass None.
    Refuses TID_TOO_FAR_AHEAD if that minute lies more than `max_ahead_minutes` after the clock (an odd slot at
    midnight alone needs 3), BASE_DATE_ENDED past the last minute, BEFORE_BASE_DATE, and OUT_OF_RANGE for a
    `last_tid` that is none.
    """
    clock = clock_minute(now, base_date, zone_offset_minutes)
    tid = clock
    if last_tid is not None:
        check_tid(last_tid)
        if last_tid >= tid:
            tid = last_tid + 1
    if slot is not Slot.EVERY and (tid & 1) != (slot is Slot.ODD):
        tid += 1
    if tid % MINUTES_A_DAY == RESERVED_MINUTE:
        # A day has an even number of minutes, so 00:01 is always odd: only EVERY and ODD meet it.
        tid += 1 if slot is Slot.EVERY else 2
    if tid > TID_MAX:
        raise NumberError(Fault.BASE_DATE_ENDED, f"the base date {base_date} has no minutes left: key change needed")
    if tid - clock > max_ahead_minutes:
        raise NumberError(
            Fault.TID_TOO_FAR_AHEAD,
            f"TID at most {max_ahead_minutes} minutes ahead of the clock expected, the next free one is {tid - clock}",
        )
    return tid


def issued_at(tid: int, base_date: int, *, zone_offset_minutes: int = 0) -> datetime:
    """The minute a TID stands for, as an aware time in UTC; refuses OUT_OF_RANGE."""
    check_tid(tid)
    return base_start(base_date, zone_offset_minutes) + timedelta(minutes=tid)
