"""`prepaid vouchers`: batches of vouchers made by two people, printed once, sold, made void, looked at."""

from __future__ import annotations

import hashlib
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from gateway.commands.records import act_of, amount, answers, changing, day, looking, money, show, table
from gateway.keysession import WELL, Books, Group, Session, Unusable, say, write_new
from gateway.vouchersheet import sheet
from gateway.world import RealWorld, World
from ledger import vouchers
from ledger.vouchernumbers import drawn, look_up
from ledger.vouchers import Batch, Standing


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `vouchers`; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "vouchers", "batches of vouchers", world or RealWorld())
    making = answers(group.command("make", _make, "ask for a batch; FINANCE or SUPERVISOR", people=1))
    making.add_argument("code")
    making.add_argument("--count", type=int, required=True, metavar="N")
    making.add_argument("--value", required=True, metavar="MONEY", help="of each voucher")
    making.add_argument("--expires-on", required=True, metavar="DAY", help="the last day on which it can be used")
    for name, work, about in (
        ("approve", _approve, "let a batch be printed; not by who asked for it"),
        ("activate", _activate, "let a printed batch be sold; not by who printed it"),
    ):
        answers(group.command(name, work, about, people=1)).add_argument("code")
    printing = answers(group.command("print", _print, "draw the numbers and write the sheet, once", people=1))
    printing.add_argument("code")
    printing.add_argument("--sheet", type=Path, required=True, metavar="FILE", help="a new file, PDF")
    selling = answers(group.command("sell", _sell, "sell vouchers: from here on they can be used", people=1))
    voiding = answers(group.command("void", _void, "make unused vouchers worthless; two people", people=2))
    for parser in (selling, voiding):
        parser.add_argument("code")
        parser.add_argument("--from", dest="first", type=int, metavar="SERIAL", help="else from the first")
        parser.add_argument("--to", dest="last", type=int, metavar="SERIAL", help="else to the last")
    selling.add_argument("--buyer", required=True, metavar="WHO", help='a station\'s code, "cash" or "bank"')
    answers(group.command("list", _list, "the last hundred batches", people=1))
    showing = answers(group.command("show", _show, "a batch, or what became of one voucher", people=1))
    showing.add_argument("code")
    showing.add_argument("--serial", type=int, metavar="N")


def _make(session: Session) -> int:
    options, settings = session.options, session.settings.vouchers
    value_minor = amount(session, "--value", options.value)
    expires_on = day("--expires-on", options.expires_on)
    assert isinstance(value_minor, int) and isinstance(expires_on, date), "both are required"
    batch = changing(
        session,
        f"vouchers {options.code}",
        lambda connection, act: vouchers.ask(
            connection,
            act,
            options.code,
            vouchers=options.count,
            value_minor=value_minor,
            expires_on=expires_on,
            vouchers_max=settings.batch_max,
            value_max_minor=settings.value_max_minor,
        ),
    )
    return _told(session, batch, "another person approves it")


def _approve(session: Session) -> int:
    code = session.options.code
    deed = partial(vouchers.approve, code=code)
    return _told(session, changing(session, f"vouchers {code}", deed), "it can be printed")


def _activate(session: Session) -> int:
    code = session.options.code
    deed = partial(vouchers.activate, code=code)
    return _told(session, changing(session, f"vouchers {code}", deed), "it can be sold")


def _print(session: Session) -> int:
    """The file first, then the digests: a number that nobody can read is lost; one that no books know harms nobody."""
    options, key = session.options, session.settings.pins.key.reveal()
    if not key:
        raise Unusable("[pins] key: the settings name no key, which vouchers are made with")
    session.subject = f"vouchers {options.code}"

    async def work(books: Books) -> Batch:
        act = act_of(session, books)
        batch = await books.write(lambda connection: vouchers.require_printable(connection, act, options.code))
        numbers = await _numbers(session, books, batch.vouchers, key)
        utility = session.settings.utility
        octets = sheet(utility.name, batch, list(numbers), utility.minor_digits)
        write_new(options.sheet, octets)
        try:
            digest = hashlib.sha256(octets).hexdigest()
            return await books.write(
                lambda connection: vouchers.print_out(connection, act, options.code, list(numbers.values()), digest)
            )
        except BaseException:
            options.sheet.unlink(missing_ok=True)  # its numbers are in no books
            raise

    return _told(session, session.in_books(work), f"{options.sheet} is the only place where its numbers can be read")


async def _numbers(session: Session, books: Books, count: int, key: str) -> dict[str, str]:
    """So many new numbers, each with its digest."""
    numbers: dict[str, str] = {}
    while len(numbers) < count:
        more: dict[str, str] = {}
        while len(numbers) + len(more) < count:
            number = drawn(session.world.nonce, key)
            digest = look_up(number, key)
            assert digest is not None, "a number has its own check digits"
            more[number] = digest
        known = await books.read(partial(vouchers.taken, digests=list(more.values())))
        numbers |= {number: digest for number, digest in more.items() if digest not in known}
    return numbers


def _run(session: Session, batch: Batch) -> tuple[int, int]:
    options = session.options
    return options.first or 1, options.last or batch.vouchers


def _sell(session: Session) -> int:
    options = session.options

    def deed(connection: Any, act: Any) -> int:
        first, last = _run(session, vouchers.known(connection, options.code))
        return vouchers.sell(connection, act, options.code, first, last, to=options.buyer)

    paid_minor = changing(session, f"vouchers {options.code}", deed)
    value = {"code": options.code, "amount_minor": paid_minor, "buyer": options.buyer}
    show(session, value, lambda: [f"sold vouchers of {options.code} for {money(session, paid_minor)}: {options.buyer}"])
    return WELL


def _void(session: Session) -> int:
    options = session.options

    def deed(connection: Any, act: Any) -> int:
        first, last = _run(session, vouchers.known(connection, options.code))
        return vouchers.void(connection, act, options.code, first, last)

    back_minor = changing(session, f"vouchers {options.code}", deed)
    value = {"code": options.code, "amount_minor": back_minor}
    show(session, value, lambda: [f"vouchers of {options.code} are void; {money(session, back_minor)} given back"])
    return WELL


def _list(session: Session) -> int:
    found = looking(session, vouchers.standings)
    show(session, found, lambda: _lines(session, found))
    return WELL


def _show(session: Session) -> int:
    code, serial = session.options.code, session.options.serial
    if serial is not None:
        traced = looking(session, lambda connection: vouchers.trace(connection, code, serial))
        show(session, traced, lambda: [f"{name}: {'-' if value is None else value}" for name, value in traced.items()])
        return WELL
    found = looking(session, lambda connection: vouchers.standings(connection, code))
    batch = found[0].batch
    people = [(deed, getattr(batch, f"{deed}_by") or "-") for deed in ("asked", "approved", "printed", "activated")]
    show(
        session,
        found[0],
        lambda: (
            [*_lines(session, found), *(f"{deed} by {who}" for deed, who in people)]
            + ([f"sheet SHA-256 {batch.sheet_hash}"] if batch.sheet_hash else [])
        ),
    )
    return WELL


def _lines(session: Session, found: list[Standing]) -> list[str]:
    rows = [
        (
            one.batch.code,
            one.batch.state,
            str(one.batch.vouchers),
            money(session, one.batch.value_minor),
            one.batch.expires_on.isoformat(),
            *(str(one.counts.get(state, 0)) for state in vouchers.State),
            money(session, one.owed_minor),
        )
        for one in found
    ]
    head = ("batch", "state", "count", "value", "expires", *(state.lower() for state in vouchers.State), "owed")
    return table(head, rows)


def _told(session: Session, batch: Batch, what: str) -> int:
    if session.options.json:
        show(session, batch, lambda: [])
    else:
        say(
            f"batch {batch.code}: {batch.vouchers} vouchers of {money(session, batch.value_minor)} {batch.currency},"
            f" until {batch.expires_on}, {batch.state}; {what}"
        )
    return WELL
