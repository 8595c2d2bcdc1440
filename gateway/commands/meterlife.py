"""The deeds of `prepaid meters` from the stock to the scrap: receive, install, block, replace and the like."""

from __future__ import annotations

import argparse
from typing import Any

from config.settings import UtilitySettings
from gateway.commands.records import (
    answers,
    changing,
    history_lines,
    kwh,
    limit,
    looking,
    money,
    next_key,
    page_end,
    paged,
    show,
    table,
    tenths,
)
from gateway.keysession import WELL, Group, Session, Unusable
from gateway.tokens import key_of, key_text
from ledger import metermoves, meters, service_points
from ledger.meterlife import Deed, Status
from ledger.metermoves import TakenDown
from ledger.unit import Meter
from sts.meterkey import MeterKey
from sts.numbers import iin_for, pan_of


def add_to(group: Group) -> None:
    """Add the sub-commands to the group `meters`."""
    listing = paged(group.command("list", _list, "meters of one status", people=1))
    listing.add_argument("status", choices=[status.value for status in Status])
    answers(group.command("history", _history, "what happened to a meter", people=1)).add_argument("drn")
    receiving = answers(group.command("receive", _receive, "take a new meter into the stock", people=1))
    receiving.add_argument("drn")
    receiving.add_argument("--pan", default=None, help="the 18 digits on its card, to be compared")
    receiving.add_argument("--ea", type=int, required=True, choices=(7, 11))
    receiving.add_argument("--supply-group", required=True, metavar="SGC")
    receiving.add_argument("--tariff-index", required=True, metavar="TI")
    receiving.add_argument("--key-revision", type=int, required=True, metavar="KRN")
    receiving.add_argument("--key-type", type=int, default=2, choices=(0, 1, 2, 3))
    receiving.add_argument("--key-expiry", type=int, default=255, metavar="KEN")
    receiving.add_argument("--base-date", type=int, required=True, choices=(1993, 2014, 2035))
    receiving.add_argument("--key-generation", type=int, default=None, choices=(2, 4), help="else that of the EA")
    receiving.add_argument("--token-technology", default="02", choices=("01", "02"))
    for deed, about in (
        (Deed.ISSUE, "hand a meter to a fitter"),
        (Deed.BRING_BACK, "the fitter brings it back unused"),
        (Deed.REPAIR, "a removed meter is repaired"),
        (Deed.RESTOCK, "a repaired meter goes back into the stock"),
        (Deed.SCRAP, "a removed meter is scrapped"),
    ):
        parser = answers(group.command(_word(deed), _move, about, people=1))
        parser.add_argument("drn")
        parser.set_defaults(deed=deed)
    for deed, about in (
        (Deed.BLOCK, "sell nothing more for a meter"),
        (Deed.UNBLOCK, "sell for it again"),
        (Deed.REPORT_FAULT, "the meter is broken where it hangs"),
    ):
        parser = answers(group.command(_word(deed), _at_place, about, people=1))
        parser.add_argument("drn")
        parser.set_defaults(deed=deed)
    installing = answers(group.command("install", _install, "put an issued meter up at a service point", people=1))
    installing.add_argument("drn")
    installing.add_argument("--point", required=True)
    removing = answers(group.command("remove", _remove, "take a meter down", people=1))
    removing.add_argument("drn")
    replacing = answers(group.command("replace", _replace, "take a meter down and put an issued one up", people=1))
    replacing.add_argument("drn")
    replacing.add_argument("--by", required=True, metavar="DRN", help="the new meter")
    for parser in (installing, replacing):
        parser.add_argument("--reading", default=None, metavar="KWH", help="of the new meter's register")
    for parser in (removing, replacing):
        _taken_down_options(parser)


def _taken_down_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last-reading", default=None, metavar="KWH", help="of the register that is taken down")
    parser.add_argument("--credit-left", default=None, metavar="KWH", help="credit in the meter that is taken down")
    parser.add_argument(
        "--not-entered",
        action="append",
        default=[],
        metavar="RECEIPT",
        help="a purchase whose token that meter never took; may be given again",
    )


def _word(deed: Deed) -> str:
    return deed.value.lower().replace("_", "-")


def _list(session: Session) -> int:
    o, at_most = session.options, limit(session)
    found, next_after = looking(
        session, lambda connection: metermoves.in_stock(connection, Status(o.status), after=o.after, at_most=at_most)
    )

    def lines() -> list[str]:
        rows = [(m.drn, m.status, f"EA{m.encryption_algorithm:02d}", key_text(key_of(m))) for m in found]
        return [*table(("meter", "status", "algorithm", "key"), rows), *page_end(next_after)]

    show(session, {"meters": found, "next_after": next_after}, lines)
    return WELL


def _history(session: Session) -> int:
    drn = session.options.drn

    def read(connection: Any) -> Any:
        meter = meters.find(connection, drn)
        if meter is None:
            raise Unusable(f"no meter {drn}")
        return service_points.history(connection, meter=meter.id)

    events = looking(session, read)
    show(session, {"drn": drn, "history": events}, lambda: history_lines(session, events))
    return WELL


def _receive(session: Session) -> int:
    o = session.options
    key = received_key(o, session.settings.utility)
    new = Meter(
        id=session.world.new_id(),
        drn=key.drn,
        iin=key.iin,
        service_point_id=None,
        status=Status.IN_STOCK.value,
        encryption_algorithm=key.ea,
        key_generation=key.dkga,
        key_type=key.key_type,
        supply_group=key.supply_group,
        key_revision=key.key_revision,
        tariff_index=key.tariff_index,
        key_expiry=key.key_expiry,
        base_date=key.base_date,
        last_tid=None,
        next_key=None,
        next_last_tid=None,
        change_given_at=None,
        replaced_by=None,
        token_technology=o.token_technology,
    )
    changing(session, f"meter {o.drn}", lambda connection, act: metermoves.receive(connection, act, new))
    return _said(session, new)


def received_key(options: argparse.Namespace, utility: UtilitySettings) -> MeterKey:
    """The key a new meter comes with; StsError where a number of it cannot be."""
    generation = options.key_generation or (2 if options.ea == 7 else 4)
    iin = utility.iin if len(options.drn) == 11 else iin_for(options.drn)
    key = MeterKey(
        drn=options.drn,
        iin=iin,
        supply_group=options.supply_group,
        key_type=options.key_type,
        tariff_index=options.tariff_index,
        key_revision=options.key_revision,
        key_expiry=options.key_expiry,
        base_date=options.base_date,
        ea=options.ea,
        dkga=generation,
    )
    if options.pan is not None and options.pan != (pan := pan_of(key.iin, key.drn)):
        raise Unusable(f"--pan: {pan} belongs to meter {key.drn}, got {options.pan!r}")
    return key


def _move(session: Session) -> int:
    o = session.options
    return _said(
        session,
        changing(session, f"meter {o.drn}", lambda connection, act: metermoves.move(connection, act, o.drn, o.deed)),
    )


_AT_PLACE = {
    Deed.BLOCK: metermoves.block,
    Deed.UNBLOCK: metermoves.unblock,
    Deed.REPORT_FAULT: metermoves.report_fault,
}


def _at_place(session: Session) -> int:
    o = session.options
    return _said(
        session,
        changing(session, f"meter {o.drn}", lambda connection, act: _AT_PLACE[o.deed](connection, act, o.drn)),
    )


def _install(session: Session) -> int:
    o = session.options
    reading = kwh("--reading", o.reading)
    meter = changing(
        session,
        f"meter {o.drn}",
        lambda connection, act: metermoves.install(connection, act, o.drn, o.point, next_key, reading_tenths=reading),
    )
    return _said(session, meter)


def _remove(session: Session) -> int:
    o, taken = session.options, _taken(session)
    return _said(
        session,
        changing(session, f"meter {o.drn}", lambda connection, act: metermoves.remove(connection, act, o.drn, taken)),
    )


def _replace(session: Session) -> int:
    o, taken = session.options, _taken(session)
    reading = kwh("--reading", o.reading)
    done = changing(
        session,
        f"meter {o.drn}",
        lambda connection, act: metermoves.replace(
            connection, act, o.drn, o.by, next_key, taken, reading_tenths=reading
        ),
    )

    def lines() -> list[str]:
        lines = [f"meter {o.drn} was replaced by {o.by} at {done.point}; counter, debts and carry stay there"]
        if done.new.next_key is not None:
            lines.append(f"meter {o.by} gets its key change with the next sales: {done.new.next_key}")
        if done.last:
            rows = [
                (session.minute(one.at), money(session, one.amount_minor), tenths(one.units_tenths), one.receipt or "-")
                for one in done.last
            ]
            lines += ["the last purchases for the old meter:", *table(("bought", "amount", "kWh", "receipt"), rows)]
        return lines

    show(session, done, lines)
    return WELL


def _taken(session: Session) -> TakenDown:
    o = session.options
    return TakenDown(kwh("--last-reading", o.last_reading), kwh("--credit-left", o.credit_left), tuple(o.not_entered))


def _said(session: Session, meter: Meter) -> int:
    def lines() -> list[str]:
        lines = [f"meter {meter.drn} is {meter.status}"]
        if meter.next_key is not None:
            lines.append(f"its key changes with the next sales to {meter.next_key}")
        return lines

    show(session, meter, lines)
    return WELL
