"""`prepaid sell`: an operator at a station's terminal sells, or prints a receipt once more."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any, Final

from channels.contract import NotStored
from channels.counter import CounterSale
from gateway import till
from gateway.keysession import NO, WELL, Books, Session, Unusable, command, say
from gateway.till import Outcome, Printed, Till
from gateway.world import RealWorld, World, uuid7
from ledger import counter_sales, shifts
from ledger.money import to_minor
from ledger.operators import Operator, OperatorFault, OperatorRefused, Role, require_role
from ledger.schema import DatabaseAway
from sts.errors import NumberError
from sts.numbers import check_drn

IN_PROGRESS: Final = 4
"""Exit code of a sale that is stored and not decided yet: ask again."""

_CODES: Final = {
    Outcome.SOLD: WELL,
    Outcome.REFUSED: NO,
    Outcome.DIFFERS: NO,
    Outcome.IN_PROGRESS: IN_PROGRESS,
    Outcome.PRICED: WELL,
}
_NUMBERS_TRIED: Final = 5
_LEFT_OVER_S: Final = 86_400.0  # so far back sales are looked for that were never printed
_USAGE: Final = (
    "METER AMOUNT [2 to sell the same again] [cash|card|cheque, or cash:300 card:200] sells;"
    " ? METER AMOUNT only tells the price; again RECEIPT prints a copy"
)
_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,99}")
_TENDERS: Final = ("cash", "card", "cheque")


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `sell` to an argparse sub-parsers object; it sets `run`, options to exit code."""
    selling = command(
        subparsers,
        "sell",
        _sell,
        "sell at a station's counter and print the receipt; without --meter, sales are read from standard input,"
        " a line each: METER AMOUNT [2] [cash|card|cheque]; at a terminal each is priced first, and Enter sells",
        world or RealWorld(),
        people=1,
    )
    selling.add_argument("--meter", metavar="NUMBER")
    selling.add_argument("--amount", metavar="MONEY", help="what the customer pays, tax included, as in 500 or 500.50")
    selling.add_argument(
        "--tender",
        action="append",
        metavar="HOW[:MONEY]",
        help="cash, card or cheque, with its part of the amount if there are several; cash if not given",
    )
    selling.add_argument(
        "--nth", type=int, default=1, metavar="N", help="2 to sell the same again within a short time, 3 for a third"
    )
    one = selling.add_mutually_exclusive_group()
    one.add_argument(
        "--sequence",
        type=int,
        metavar="N",
        help="the sale's number in the shift; the same again asks for the same sale",
    )
    one.add_argument("--key", metavar="TEXT", help="a name of one's own for the sale, instead of its number")
    one.add_argument(
        "--again", metavar="RECEIPT", help="print this receipt as a copy, or what became of the sale in progress"
    )


def _sell(session: Session) -> int:
    options = session.options
    if options.again is None and (options.meter is None) != (options.amount is None):
        raise Unusable("--meter and --amount: both or neither expected")
    if options.again is not None and (options.meter is not None or options.tender):
        raise Unusable("--again goes without --meter, --amount and --tender")

    async def work(books: Books) -> int:
        async with till.opened(session.settings, session.world, books.store) as terminal:
            if options.again is not None:
                return _told(await _again(books, terminal, options.again))
            station = _station_of(books.first)
            if options.meter is not None:
                tenders = options.tender or []
                sale = _sale(session, books.first, station, options.meter, options.amount, tenders, options.nth)
                return _told(await _one(books, terminal, sale, options.sequence, options.key))
            return await _many(session, books, terminal, station)

    try:
        return session.in_books(work)
    except NotStored:
        raise DatabaseAway("the sale could not be stored: nothing was sold; the same again may work later") from None


def _station_of(operator: Operator) -> str:
    require_role(operator, Role.VENDOR)
    if operator.station is None:
        raise Unusable(f"{operator.login} belongs to no station")
    return operator.station


def _told(printed: Printed) -> int:
    say(printed.text)
    return _CODES[printed.outcome]


async def _many(session: Session, books: Books, terminal: Till, station: str) -> int:
    """Sales typed a line each; the worst of their exit codes. Whoever types them is told the price first."""
    worst = await _left_over(session, books, terminal)
    if till.is_typed():
        say(_USAGE)
    while line := await till.typed_line("sell> "):
        try:
            told = await _line(session, books, terminal, station, line.split())
        except Unusable as error:
            say(f"not sold: {error}")
            worst = max(worst, NO)
            continue
        if told is not None:
            worst = max(worst, _told(told))
            say("")
    return worst


async def _left_over(session: Session, books: Books, terminal: Till) -> int:
    """Print what an earlier terminal of this operator sold and did not live to print; the worst exit code."""
    since, login = session.world.now() - timedelta(seconds=_LEFT_OVER_S), books.first.login
    after = uuid7(int(since.timestamp() * 1000), 0, 0)
    worst = WELL
    for reference in await books.read(lambda connection: counter_sales.unshown(connection, login, after)):
        say(f"sold before and never printed, {reference}:")
        found = await terminal.again(reference)
        assert found is not None, "its request is stored"
        worst = max(worst, _told(found))
        say("")
    return worst


async def _line(session: Session, books: Books, terminal: Till, station: str, words: list[str]) -> Printed | None:
    """What one typed line asks for, as printed; None for an empty one and a sale that was dropped."""
    match words:
        case []:
            return None
        case ["help" | "?"]:
            say(_USAGE)
            return None
        case ["again", wanted]:
            return await _again(books, terminal, wanted)
        case ["?", *rest]:
            asked = _typed_sale(session, books.first, station, rest)
            return await terminal.price(asked)
    sale = _typed_sale(session, books.first, station, words)
    if till.is_typed():
        priced = await terminal.price(sale)
        if priced.outcome is not Outcome.PRICED:
            return priced
        say(priced.text)
        if not await _is_agreed():
            say("not sold")
            return None
    return await _one(books, terminal, sale, None, None)


async def _is_agreed() -> bool:
    """Whether an empty line was typed. The end of the input is none: it has no line end."""
    answer = await till.typed_line("Enter sells, anything else does not: ")
    return bool(answer) and not answer.strip()


def _typed_sale(session: Session, operator: Operator, station: str, words: list[str]) -> CounterSale:
    """The sale of METER AMOUNT [N] [TENDER...]."""
    if len(words) < 2:
        raise Unusable(_USAGE)
    meter, money, *rest = words
    nth = 1
    if rest and rest[0].isascii() and rest[0].isdigit() and len(rest[0]) == 1:
        nth = int(rest.pop(0))
    return _sale(session, operator, station, meter, money, rest, nth)


async def _one(books: Books, terminal: Till, sale: CounterSale, sequence: int | None, key: str | None) -> Printed:
    """One sale under its key: station, shift and number, or the one that was given."""
    login = sale.login
    shift = await books.read(lambda connection: shifts.open_of(connection, login))
    shift_id = shift.id if shift is not None else None
    if key is not None and not _REFERENCE.fullmatch(key):
        raise Unusable("--key: 1 to 100 letters, digits, dots, dashes, slashes and underscores expected")
    tried = 0
    while True:
        number = sequence
        if number is None:
            read = partial(counter_sales.next_sequence, login=login, shift_id=shift_id)
            number = await books.read(read) + tried
        reference = f"{sale.station}/{key or f'{shift.code if shift is not None else login}/{number}'}"
        numbered = CounterSale(sale.drn, sale.amount_minor, sale.nth, login, sale.station, number, *sale.tenders)
        printed = await terminal.sell(numbered, reference)
        tried += 1
        # Another terminal of the same operator took the number at this moment: the next one is as good.
        if printed.outcome is not Outcome.DIFFERS or sequence is not None or key or tried >= _NUMBERS_TRIED:
            return printed


async def _again(books: Books, terminal: Till, wanted: str) -> Printed:
    """A copy of a receipt, or the answer to a sale that was in progress; for its station, SUPPORT and FINANCE."""
    by = books.first
    require_role(by, Role.VENDOR, Role.SUPERVISOR, Role.SUPPORT, Role.FINANCE)
    anywhere = by.has(Role.SUPPORT, Role.FINANCE)
    found = await books.read(lambda connection: counter_sales.receipt(connection, number=wanted))
    gone = await books.read(lambda connection: counter_sales.undone(connection, number=wanted))
    station = found.station if found is not None else gone.station if gone is not None else None
    if station is not None and not anywhere and station != by.station:
        raise OperatorRefused(OperatorFault.ROLE_MISSING, f"receipt {wanted} is another station's")
    if gone is not None:  # it may have been given back between the two looks, never the other way round
        return terminal.undone(gone)
    if found is not None:
        return await terminal.copy(found, books.origin)
    if not anywhere and not wanted.startswith(f"{by.station}/"):
        raise Unusable(f"--again: no receipt {wanted} of station {by.station}")
    printed = await terminal.again(wanted)
    if printed is None:
        raise Unusable(f"--again: no receipt and no sale {wanted}")
    return printed


def _sale(
    session: Session, operator: Operator, station: str, meter: str, amount: str, tenders: list[str], nth: int
) -> CounterSale:
    """The sale as asked for. The number in its shift is still to come."""
    digits = session.settings.utility.minor_digits
    drn = meter.strip()
    try:
        check_drn(drn)
    except NumberError as error:
        raise Unusable(f"meter {drn}: {error.sentence}") from None
    amount_minor = _minor("amount", amount, digits)
    if amount_minor <= 0:
        raise Unusable(f"amount: more than nothing expected, got {amount}")
    given = tenders_of(tenders, amount_minor, digits)
    return CounterSale(drn, amount_minor, max(1, nth), operator.login, station, 0, *given)


def tenders_of(texts: list[str], amount_minor: int, digits: int) -> tuple[int, int, int]:
    """What was given in cash, by card and by cheque, of HOW[:MONEY] texts; all in cash where there are none."""
    given = dict.fromkeys(_TENDERS, 0)
    for text in texts or ["cash"]:
        how, colon, part = text.partition(":")
        if how not in given or (not colon and len(texts) > 1):
            raise Unusable(f"tender: cash, card or cheque expected, with :MONEY if there are several, got {text!r}")
        given[how] += _minor("tender", part, digits) if colon else amount_minor
    if sum(given.values()) != amount_minor or min(given.values()) < 0:
        raise Unusable("tender: parts that sum to the amount expected")
    return given["cash"], given["card"], given["cheque"]


def _minor(name: str, text: str, digits: int) -> int:
    try:
        return to_minor(text, digits)
    except ValueError as error:
        raise Unusable(f"{name}: {error}") from None
