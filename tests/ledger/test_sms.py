"""Parts of long messages, sent parts and their receipts, second routes and dead letters, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from channels.smpp.messageid import forms, normal
from gateway.world import uuid7
from ledger import audit, sms, sms_parts, tables
from ledger.audit import Origin
from ledger.outbox import End, claim
from ledger.sms import News, NoLetter, SentRow
from ledger.sms_parts import Assembly, AssemblyState, PartRow
from ledger.sms_tables import sms_part, sms_receipt, sms_sent
from ledger.store import Store, migrate, open_store

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=24)
PHONE = "256772123456"


@pytest.fixture
async def store(database_url: str) -> Any:
    await migrate(database_url)
    opened = await open_store(database_url)
    yield opened
    await opened.close()


# --- parts ------------------------------------------------------------------------------------------------------------


def part(number: int, octets: bytes = b"") -> PartRow:
    octets = octets or f"part {number} ".encode()
    return PartRow(number, PHONE, "1234", 0, octets, "", "", digest=octets)


async def keep(
    store: Store, one: PartRow, fresh: int, total: int = 3, key: str = "key", now: datetime = NOW
) -> Assembly:
    return await store.transact(
        lambda connection: sms_parts.keep_part(
            connection,
            key=key,
            fresh=UUID(int=fresh),
            link="a",
            total=total,
            part=one,
            now=now,
            forgotten_before=now - timedelta(hours=24),
        )
    )


async def test_parts_make_a_whole_in_any_order_and_a_repeat_changes_nothing(store: Store) -> None:
    assert not (await keep(store, part(3), 1)).is_whole
    assert not (await keep(store, part(1), 2)).is_whole
    assert not (await keep(store, part(1), 3)).is_whole
    whole = await keep(store, part(2), 4)
    assert whole.is_whole and whole.id == UUID(int=1) and [each.number for each in whole.parts] == [1, 2, 3]
    again = await keep(store, part(2), 5)
    assert (again.id, again.is_whole, again.state) == (whole.id, True, AssemblyState.OPEN), "not handed on yet"
    await store.transact(lambda connection: sms_parts.settle(connection, whole.id, AssemblyState.DONE))
    late = await keep(store, part(1), 6, now=NOW + timedelta(hours=1))
    assert (late.id, late.state) == (whole.id, AssemblyState.DONE), "the message centre has not heard our answer"


async def test_the_same_words_under_another_message_id_are_the_next_message_once_the_first_is_done(
    store: Store,
) -> None:
    """A phone's 8-bit reference comes again within hours, and so may the words of a part."""

    def named(number: int, message_id: str) -> PartRow:
        return replace(part(number), reference=message_id)

    await keep(store, named(1, "m1"), 1, total=2)
    first = await keep(store, named(2, "m2"), 2, total=2)
    await store.transact(lambda connection: sms_parts.settle(connection, first.id, AssemblyState.DONE))
    repeat = await keep(store, named(2, "m2"), 3, total=2)
    assert (repeat.id, repeat.state) == (first.id, AssemblyState.DONE), "the message centre repeats it"
    begun = await keep(store, named(2, "m3"), 4, total=2)
    assert (begun.id, begun.is_whole) == (UUID(int=4), False)
    whole = await keep(store, named(1, "m4"), 5, total=2)
    assert (whole.id, whole.is_whole) == (begun.id, True)
    again = await keep(store, part(1), 6, total=2)
    assert again.id == whole.id, "without a name it may be a repeat: nothing is bought twice"


def hours(number: float) -> datetime:
    return NOW + timedelta(hours=number)


async def done_with(store: Store, fresh: int, *parts: PartRow, now: datetime = NOW) -> Assembly:
    """A message of these parts, handed on."""
    for number, one in enumerate(parts):
        whole = await keep(store, one, fresh + number, total=len(parts), now=now)
    assert whole.is_whole
    await store.transact(lambda connection: sms_parts.settle(connection, whole.id, AssemblyState.DONE))
    return whole


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 2, 1)])
@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_message_without_ids_that_comes_again_is_known_for_a_day_and_then_is_another(
    store: Store, is_followed: bool, order: tuple[int, ...]
) -> None:
    """Also behind another message that the phone has sent under the same reference since."""
    first = await done_with(store, 10, part(1), part(2), part(3))
    if is_followed:
        await done_with(store, 20, part(1, b"next"), part(2, b"one"), part(3, b"!"), now=hours(1))
    for at in (2, 23.9):
        for number in order:
            again = await keep(store, part(number), 30 + number, now=hours(at))
            assert (again.id, again.state) == (first.id, AssemblyState.DONE)
    new = await keep(store, part(order[0]), 40, now=hours(24.1))
    assert (new.id, new.state) == (UUID(int=40), AssemblyState.OPEN)


async def test_a_part_repeated_for_want_of_an_answer_does_not_get_into_the_next_message(store: Store) -> None:
    """A phone that uses one reference for all: 500 for the one meter must not become 900 for the other."""
    first = await done_with(store, 10, part(1, b"04012345676"), part(2, b" 900"))
    begun = await keep(store, part(1, b"04011111116"), 20, total=2, now=NOW + timedelta(seconds=20))
    repeat = await keep(store, part(2, b" 900"), 21, total=2, now=NOW + timedelta(seconds=30))
    assert repeat.id == first.id and repeat.state is AssemblyState.DONE
    whole = await keep(store, part(2, b" 500"), 22, total=2, now=NOW + timedelta(seconds=40))
    assert (whole.id, whole.is_whole) == (begun.id, True) and whole.parts[1].octets == b" 500"


async def test_the_next_message_may_have_a_part_like_one_of_the_last(store: Store) -> None:
    """Another meter, and the same amount, an hour later."""
    await done_with(store, 10, part(1, b"04012345676"), part(2, b" 900"))
    await keep(store, part(1, b"04011111116"), 20, total=2, now=hours(1))
    whole = await keep(store, part(2, b" 900"), 21, total=2, now=hours(1))
    assert (whole.id, whole.is_whole) == (UUID(int=20), True)


async def test_of_what_is_done_with_nothing_is_kept_but_digests(store: Store) -> None:
    await done_with(store, 10, part(1), part(2))
    rows = await store.read(lambda connection: list(connection.execute(sms_part.select())))
    assert [(row.octets, row.digest) for row in rows] == [(b"", part(1).octets), (b"", part(2).octets)]


async def test_a_part_with_other_content_begins_another_message_and_the_first_waits_on(store: Store) -> None:
    await keep(store, part(1), 1)
    other = await keep(store, part(1, b"other"), 2)
    assert other.id == UUID(int=2) and len(other.parts) == 1
    left = await store.read(lambda connection: sms_parts.left(connection, quiet_since=NOW, at_most=10))
    assert {each.id for each in left} == {UUID(int=1), UUID(int=2)}
    whole = await keep(store, part(2), 3, total=3)
    assert whole.id == other.id


async def test_a_missing_part_that_comes_after_its_sender_was_told_is_dropped(store: Store) -> None:
    torso = await keep(store, part(1), 1, total=2)
    await store.transact(lambda connection: sms_parts.settle(connection, torso.id, AssemblyState.TOLD))
    late = await keep(store, part(2), 2, total=2)
    assert late.state is AssemblyState.TOLD and not late.is_whole
    new = await keep(store, part(2), 3, total=2, now=NOW + timedelta(hours=25))
    assert new.id == UUID(int=3), "a day later it is another message"


async def test_parts_that_come_to_two_nodes_at_once_see_each_other(store: Store) -> None:
    found = await asyncio.gather(*(keep(store, part(number), number, total=6) for number in range(1, 7)))
    assert sum(each.is_whole for each in found) == 1 and len({each.id for each in found}) == 1


async def test_what_is_done_with_is_forgotten_in_time_and_what_is_open_is_not(store: Store) -> None:
    done = await keep(store, part(1), 1, total=1)
    await keep(store, part(1), 2, total=2, key="open")
    await store.transact(lambda connection: sms_parts.settle(connection, done.id, AssemblyState.DONE))

    async def forget(before: datetime) -> int:
        return await store.transact(lambda connection: sms_parts.forget(connection, before=before, at_most=10))

    assert await forget(NOW) == 0
    assert await forget(NOW + timedelta(seconds=1)) == 1
    left = await store.read(lambda connection: sms_parts.left(connection, quiet_since=NOW, at_most=10))
    assert [each.id for each in left] == [UUID(int=2)]


# --- receipts ---------------------------------------------------------------------------------------------------------


def an_id(number: int, at: datetime = NOW) -> UUID:
    return uuid7(int(at.timestamp() * 1000), 0, number)


def row(number: int, message_id: str, recipient: str = PHONE, outbox: int = 0, **changes: Any) -> SentRow:
    sent = SentRow(
        an_id(number), "umoja", normal(message_id), message_id, an_id(outbox or number), 1, 1, "a", recipient,
        None, None, None, True,
    )  # fmt: skip
    return replace(sent, **changes)


def news(message_id: str, state: str = "DELIVRD", recipient: str = PHONE, number: int = 900) -> News:
    return News(an_id(number), "umoja", forms(message_id), recipient, state, None, NOW + timedelta(seconds=5))


async def sent(store: Store, *rows: SentRow) -> None:
    """Through the deed that marks replies, as they come to be."""
    for each in rows:
        await store.submit(End(each.outbox_id, "one", "SENT", None, "", NOW, (each,)))


async def states(store: Store) -> list[str | None]:
    def read(connection: Any) -> list[str | None]:
        return [each.state for each in connection.execute(sms_sent.select().order_by(sms_sent.c.id))]

    return await store.read(read)


async def take(store: Store, *some: News) -> int:
    return len(await store.transact(lambda connection: sms.take_receipts(connection, some)))


# fmt: off
FORMS = [
    # in the response, in the receipt
    ("1a2b",       "1a2b"),
    ("1A2B",       "1a2b"),
    ("00001a2b",   "1A2B"),
    ("1a2b",       "6699"),          # hexadecimal, then decimal
    ("6699",       "1a2b"),          # and the reverse
    ("0000006699", "1A2B"),
    ("77",         "000000000077"),
    ("4d",         "77"),
    ("0",          "0000"),
    ("9fd36b0e-0d7e-4f0b-8a52-0d2f5f3c8b11", "9FD36B0E-0D7E-4F0B-8A52-0D2F5F3C8B11"),
    ("ABC-1",      " abc-1"),
]
# fmt: on


@pytest.mark.parametrize(("response", "receipt"), FORMS)
def test_ids_of_every_form_find_each_other(response: str, receipt: str) -> None:
    assert normal(response) in forms(receipt)


async def test_a_receipt_finds_its_part_by_id_and_number_and_says_its_state(store: Store) -> None:
    await sent(store, row(1, "1a2b"), row(2, "77", "256772000001"), row(3, "77", "256772000002"))
    assert await take(store, news("6699"), news("77", "UNDELIV", "0772000002")) == 2
    assert await states(store) == ["DELIVRD", None, "UNDELIV"]


async def test_the_latest_of_two_messages_of_one_id_counts(store: Store) -> None:
    later = row(2, "1a2b", id=an_id(2, NOW + timedelta(minutes=1)))
    await sent(store, row(1, "1a2b"), later)
    await take(store, news("1a2b"))
    assert await states(store) == [None, "DELIVRD"]


async def test_receipts_come_in_any_order_and_more_than_once(store: Store) -> None:
    await sent(store, row(1, "5"))
    for state, expected in (
        ("ENROUTE", "ENROUTE"), ("UNDELIV", "UNDELIV"), ("ACCEPTD", "UNDELIV"), ("DELIVRD", "DELIVRD"),
        ("EXPIRED", "DELIVRD"), ("DELIVRD", "DELIVRD"),
    ):  # fmt: skip
        await take(store, news("5", state))
        assert await states(store) == [expected]


async def test_a_receipt_that_overtakes_the_response_waits_for_it_and_not_for_ever(store: Store) -> None:
    assert await take(store, news("5"), news("6", number=901)) == 0

    async def match(drop_before: datetime = LONG_AGO) -> tuple[int, int]:
        told, dropped = await store.transact(lambda connection: sms.match_parked(connection, drop_before=drop_before))
        return len(told), dropped

    assert await match() == (0, 0)
    await sent(store, row(1, "5"))
    assert await match() == (1, 0) and await states(store) == ["DELIVRD"]
    assert await match(NOW + timedelta(hours=1)) == (0, 1)

    def count(connection: Any) -> int:
        return len(connection.execute(sms_receipt.select()).all())

    assert await store.read(count) == 0


async def test_the_same_id_at_another_message_centre_is_another_message(store: Store) -> None:
    await sent(store, row(1, "5", centre="other"))
    assert await take(store, news("5")) == 0 and await states(store) == [None]


async def test_sent_parts_are_forgotten_after_their_days(store: Store) -> None:
    await sent(store, row(1, "5", id=an_id(1, NOW - timedelta(days=8))), row(2, "6"))
    before = sms.kept_since(NOW, 7)
    assert await store.transact(lambda connection: sms.forget_sent(connection, before=before, at_most=10)) == 1
    assert await states(store) == [None]


# --- second routes and dead letters -----------------------------------------------------------------------------------


async def owe(store: Store, number: int, state: str = "OWED", peer: str = "a") -> None:
    values = {
        "id": an_id(number), "request_id": an_id(number), "channel": "sms", "peer": peer, "recipient": PHONE,
        "sender": "1234", "language": "en", "message": "help", "fields": "{}", "state": state, "owner": "one",
        "lease_until": NOW, "attempts": 3, "detail": "why", "ended_at": NOW if state == "DEAD" else None,
    }  # fmt: skip
    await store.transact(lambda connection: connection.execute(tables.outbox.insert(), values))


async def claimed(store: Store) -> list[tuple[UUID, str, int]]:
    rows = await store.transact(
        lambda connection: claim(
            connection, owner="two", channels=["sms"], now=NOW, lease_until=NOW + timedelta(minutes=3), at_most=10
        )
    )
    return [(each.id, each.peer, each.attempts) for each in rows]


async def test_a_reply_without_a_good_receipt_goes_out_by_another_link_once(store: Store) -> None:
    for number in (1, 2, 3):
        await owe(store, number)
    later = an_id(3, NOW + timedelta(minutes=9))
    await sent(store, row(1, "1"), row(2, "2"), row(3, "3", id=later, outbox=3))
    await take(store, news("2"))

    async def again() -> int:
        return await store.transact(
            lambda connection: sms.second_route(
                connection,
                other={"a": "b"},
                sent_before=sms.first_id_at(NOW + timedelta(minutes=5)),
                now=NOW,
                at_most=10,
            )
        )

    assert await again() == 1
    assert await claimed(store) == [(an_id(1), "b", 1)], "tried before"
    assert await again() == 0, "one that was delivered, and one that has time left, stay as they are"


async def test_a_dead_letter_is_owed_again_on_record_and_only_if_it_is_dead(store: Store) -> None:
    await owe(store, 1, "DEAD")
    await owe(store, 2, "SENT")
    (letter,) = await store.read(lambda connection: sms.dead(connection, at_most=10))
    assert (letter.id, letter.detail, letter.attempts) == (an_id(1), "why", 3)
    origin = Origin("sam", NOW, "terminal", "the link was down")
    await store.transact(lambda connection: sms.replay(connection, an_id(1), origin))
    assert await claimed(store) == [(an_id(1), "a", 1)], "tried before"
    (noted,) = await store.read(lambda connection: audit.latest(connection, 10))
    assert (noted.who, noted.deed, noted.reason) == ("sam", "sms.replay", "the link was down")
    assert noted.subject.replace(":", "-") == f"reply {an_id(1)}"
    for number, why in ((1, "OWED"), (2, "SENT"), (9, "none")):
        with pytest.raises(NoLetter, match=why):
            await store.transact(partial(sms.replay, outbox_id=an_id(number), origin=origin))
