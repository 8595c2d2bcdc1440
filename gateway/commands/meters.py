"""`prepaid meters`: a meter with its key, and key changes that an engineer asks for, signed in and on record.

The deeds from the stock to the scrap are in `gateway/commands/meterlife.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.commands import meterlife as meterlife_commands
from gateway.keysession import WELL, Books, Group, Session, Unusable, say
from gateway.tokens import changed, key_of, key_text
from gateway.world import RealWorld, World
from ledger import meters
from ledger.meters import MeterUnknown, NoKeyChange
from ledger.operators import Role, require_role
from ledger.unit import Meter
from sts.tid import issued_at


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `meters` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(
        subparsers,
        "meters",
        "look at meters, change their keys, move them from the stock to the scrap",
        world or RealWorld(),
    )
    group.command("show", _show, "a meter with its key, and the change that is asked for").add_argument("drn")
    asking = group.command(
        "change-key", _change_key, "have a meter's key changed with its next sales; an ENGINEER asks", people=1
    )
    asking.add_argument("drn")
    asking.add_argument("--to-supply-group", metavar="SGC")
    asking.add_argument("--to-tariff-index", metavar="TI")
    asking.add_argument("--to-revision", type=int, metavar="KRN")
    asking.add_argument("--to-expiry", type=int, metavar="KEN")
    asking.add_argument("--to-base-date", type=int, choices=(1993, 2014, 2035))
    asking.add_argument("--to-generation", type=int, choices=(2, 4))
    asking.add_argument("--to-type", type=int, choices=(1, 2, 3))
    asking.add_argument("--none", action="store_true", help="take the wish back")
    group.command(
        "key-changed", _key_changed, "the meter has taken its key change; an ENGINEER says so", people=1
    ).add_argument("drn")
    meterlife_commands.add_to(group)


def _show(session: Session) -> int:
    drn = session.options.drn

    async def work(books: Books) -> Meter:
        return await books.read(lambda connection: meters.known(connection, drn))

    meter = _meter(session, work)
    say(f"meter {meter.drn}, {meter.status}, EA{meter.encryption_algorithm:02d}, key {key_text(key_of(meter))}")
    if meter.replaced_by is not None:
        say(f"replaced by {meter.replaced_by}")
    at = issued_at(meter.last_tid, meter.base_date) if meter.last_tid is not None else None
    last = f"{meter.last_tid}, {session.minute(at)}" if at is not None else "none yet"
    technology = {"01": "magnetic card", "02": "numeric"}.get(meter.token_technology, meter.token_technology)
    say(f"last TID {last}; tokens are {technology}")
    if meter.next_key is not None:
        given = f"given out {session.minute(meter.change_given_at)}" if meter.change_given_at else "not given out yet"
        say(f"to be changed to {meter.next_key}, {given}")
    return WELL


def _change_key(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> Meter:
        require_role(books.first, Role.ENGINEER)
        meter = await books.read(lambda connection: meters.known(connection, options.drn))
        wanted = None if options.none else _wanted(meter, options)
        return await books.write(
            lambda connection: meters.ask_key_change(connection, options.drn, wanted, books.origin)
        )

    meter = _meter(session, work)
    say(f"meter {meter.drn}: " + ("its key stays" if options.none else "its key changes with the next sales"))
    return WELL


def _wanted(meter: Meter, options: Any) -> str:
    present = key_of(meter)
    named = {
        "supply_group": options.to_supply_group,
        "tariff_index": options.to_tariff_index,
        "key_revision": options.to_revision,
        "key_expiry": options.to_expiry,
        "base_date": options.to_base_date,
        "dkga": options.to_generation,
        "key_type": options.to_type,
    }
    new = replace(present, **{name: value for name, value in named.items() if value is not None})
    if new == present:
        raise Unusable("the change changes nothing: at least one --to-... expected, or --none")
    return key_text(new)


def _key_changed(session: Session) -> int:
    drn = session.options.drn

    async def work(books: Books) -> Meter:
        require_role(books.first, Role.ENGINEER)
        meter = await books.read(lambda connection: meters.known(connection, drn))
        if meter.next_key is None:
            raise NoKeyChange(f"no key change of meter {drn} was asked for")
        after = changed(meter)
        await books.write(lambda connection: meters.confirm_key_change(connection, after, books.origin))
        return after

    meter = _meter(session, work)
    say(f"meter {meter.drn} has key {key_text(key_of(meter))} from now on")
    return WELL


def _meter(session: Session, work: Any) -> Meter:
    try:
        meter: Meter = session.in_books(work)
    except (MeterUnknown, NoKeyChange) as error:
        raise Unusable(str(error)) from None
    return meter
