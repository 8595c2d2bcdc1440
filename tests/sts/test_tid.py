"""Token identifiers: the reserved minute, several tokens in a minute, slots, zones, both ends of a base date."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts import tid
from sts.errors import Fault, NumberError
from sts.tid import Slot, next_tid

MIDNIGHT: Final = datetime(2026, 3, 1, tzinfo=UTC)
START: Final = tid.clock_minute(MIDNIGHT, 2014)
NOON: Final = MIDNIGHT + timedelta(hours=12)

# fmt: off
# now, last TID (minutes after midnight), slot -> next TID (minutes after midnight)
NEXT: Final = [
    ("00:00", None, Slot.EVERY, 0),
    ("00:01", None, Slot.EVERY, 2),    # 00:01 is reserved
    ("00:01", None, Slot.EVEN,  2),
    ("00:01", None, Slot.ODD,   3),
    ("00:00", None, Slot.ODD,   3),    # the odd minute after midnight is the reserved one
    ("00:00",    0, Slot.EVERY, 2),
    ("00:00",    0, Slot.EVEN,  2),
    ("12:00", None, Slot.EVERY, 720),
    ("12:00",  720, Slot.EVERY, 721),
    ("12:00",  725, Slot.EVERY, 726),
    ("12:00",  720, Slot.EVEN,  722),
    ("12:00",  720, Slot.ODD,   721),
    ("12:01",  720, Slot.EVEN,  722),
    ("12:00",  100, Slot.EVERY, 720),  # afterwards the clock again
    ("23:59", 1439, Slot.EVERY, 1440),
    ("23:59", 1440, Slot.EVERY, 1442),
]
# fmt: on


@pytest.mark.parametrize(("clock", "last", "slot", "wanted"), NEXT)
def test_next_tid_is_the_first_free_minute_of_the_slot(clock: str, last: int | None, slot: Slot, wanted: int) -> None:
    now = MIDNIGHT + timedelta(hours=int(clock[:2]), minutes=int(clock[3:]), seconds=59)
    last_tid = None if last is None else START + last
    assert next_tid(now, 2014, last_tid, max_ahead_minutes=30, slot=slot) == START + wanted


def test_a_meter_too_far_ahead_of_the_clock_is_refused_by_name() -> None:
    clock = tid.clock_minute(NOON, 2014)
    assert next_tid(NOON, 2014, clock + 29, max_ahead_minutes=30) == clock + 30
    with pytest.raises(NumberError) as refusal:
        next_tid(NOON, 2014, clock + 30, max_ahead_minutes=30)
    assert refusal.value.fault is Fault.TID_TOO_FAR_AHEAD


ENDS: Final = [
    (1993, datetime(2024, 11, 24, 20, 15, tzinfo=UTC)),
    (2014, datetime(2045, 11, 24, 20, 15, tzinfo=UTC)),
    (2035, datetime(2066, 11, 24, 20, 15, tzinfo=UTC)),
]


@pytest.mark.parametrize(("base_date", "last_minute"), ENDS)
def test_base_date_ends_with_its_last_minute(base_date: int, last_minute: datetime) -> None:
    assert next_tid(last_minute, base_date, None, max_ahead_minutes=30) == tid.TID_MAX
    assert tid.issued_at(tid.TID_MAX, base_date) == last_minute
    for now, last_tid in ((last_minute + timedelta(minutes=1), None), (last_minute, tid.TID_MAX)):
        with pytest.raises(NumberError) as refusal:
            next_tid(now, base_date, last_tid, max_ahead_minutes=30)
        assert refusal.value.fault is Fault.BASE_DATE_ENDED


def test_time_before_the_base_date_is_refused_by_name() -> None:
    with pytest.raises(NumberError) as refusal:
        next_tid(datetime(2013, 12, 31, 23, 59, 59, tzinfo=UTC), 2014, None, max_ahead_minutes=30)
    assert refusal.value.fault is Fault.BEFORE_BASE_DATE


@pytest.mark.parametrize("last_tid", [-1, tid.TID_MAX + 1])
def test_a_last_tid_that_is_none_is_refused(last_tid: int) -> None:
    with pytest.raises(NumberError) as refusal:
        next_tid(NOON, 2014, last_tid, max_ahead_minutes=30)
    assert refusal.value.fault is Fault.OUT_OF_RANGE


def test_a_base_date_in_local_time_counts_from_local_midnight() -> None:
    # A supply group east of Greenwich, from before edition 3: its minutes run ahead of UTC by the offset.
    assert tid.clock_minute(NOON, 2014, 180) == tid.clock_minute(NOON, 2014) + 180
    local_midnight = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=3)))
    assert tid.is_reserved(tid.clock_minute(local_midnight + timedelta(minutes=1), 2014, 180))
    with pytest.raises(NumberError):
        tid.base_start(2014, 24 * 60)
    with pytest.raises(NumberError):
        tid.base_start(2013)


def test_seconds_are_dropped_and_any_zone_of_now_will_do() -> None:
    assert tid.tid_at(datetime(1996, 3, 25, 13, 55, 22, tzinfo=UTC), 1993) == 0x19EB23
    assert tid.tid_at(datetime(1996, 3, 25, 14, 55, 22, tzinfo=timezone(timedelta(hours=1))), 1993) == 0x19EB23


TIMES: Final = st.integers(0, 1_000_000_000).map(
    lambda second: datetime(2014, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
)


@given(TIMES, st.none() | st.integers(0, tid.TID_MAX), st.sampled_from(Slot), st.integers(0, 60))
def test_next_tid_keeps_every_rule(now: datetime, last_tid: int | None, slot: Slot, ahead: int) -> None:
    clock = tid.clock_minute(now, 2014)
    try:
        found = next_tid(now, 2014, last_tid, max_ahead_minutes=ahead, slot=slot)
    except NumberError as refusal:
        assert refusal.fault in (Fault.TID_TOO_FAR_AHEAD, Fault.BASE_DATE_ENDED)
        assert last_tid is None or last_tid >= clock + ahead - 3 or ahead < 4
        return
    assert clock <= found <= clock + ahead
    assert last_tid is None or found > last_tid
    assert not tid.is_reserved(found)
    assert slot is Slot.EVERY or found % 2 == (slot is Slot.ODD)
    # Nothing free was passed over.
    earlier = range(max(clock, -1 if last_tid is None else last_tid + 1), found)
    assert all(
        tid.is_reserved(minute) or (slot is not Slot.EVERY and minute % 2 != (slot is Slot.ODD)) for minute in earlier
    )


@given(TIMES, st.integers(0, 10))
def test_centre_and_offline_station_never_use_the_same_minute(now: datetime, sales: int) -> None:
    centre: int | None = None
    station: int | None = None
    used = set()
    for _ in range(sales):
        centre = next_tid(now, 2014, centre, max_ahead_minutes=60, slot=Slot.EVEN)
        station = next_tid(now, 2014, station, max_ahead_minutes=60, slot=Slot.ODD)
        used |= {centre, station}
    assert len(used) == 2 * sales


@given(st.integers(0, tid.TID_MAX), st.sampled_from([1993, 2014, 2035]), st.integers(-840, 840))
def test_tid_is_the_minute_it_stands_for(number: int, base_date: int, offset: int) -> None:
    moment = tid.issued_at(number, base_date, zone_offset_minutes=offset)
    assert tid.clock_minute(moment, base_date, offset) == number
    assert tid.clock_minute(moment + timedelta(seconds=59), base_date, offset) == number


@pytest.mark.parametrize("number", [-1, tid.TID_MAX + 1])
def test_number_beyond_24_bits_stands_for_no_minute(number: int) -> None:
    with pytest.raises(NumberError):
        tid.issued_at(number, 2014)
