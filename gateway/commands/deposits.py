"""`prepaid deposits`, `prepaid banking`: what stations and customers pay in; one enters it, another approves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.commands.stations import day_of, local_now, minor_of, require_reader, shown
from gateway.keysession import WELL, Books, Group, Session, Unusable, say
from gateway.sale import receipt_of
from gateway.world import RealWorld, World
from ledger import corrections, customers, deposits, outbox
from ledger.deposits import Batch, Deposit, New, Slip


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `deposits` and `banking`; each sub-command sets `run`, options to exit code."""
    given = world or RealWorld()
    group = Group(subparsers, "deposits", "money that stations and customers pay in", given)
    entering = group.command("enter", _enter, "enter a station's slip, for another person to approve", people=1)
    entering.add_argument("station")
    _slip_options(entering)
    wallet = group.command(
        "enter-wallet", _enter_wallet, "enter a customer's slip or cash, for another person to approve", people=1
    )
    wallet.add_argument("account", metavar="ACCOUNT_NO")
    where = wallet.add_mutually_exclusive_group(required=True)
    where.add_argument("--bank", help="the bank that the slip is of")
    where.add_argument("--cash", action="store_true", help="the office took the money; the slip is its receipt")
    _slip_options(wallet, bank=False)
    for parser in (entering, wallet):
        parser.add_argument("--amount", required=True, metavar="MONEY")
    for name, about, people in (
        ("approve", "post it to its account; FINANCE or SUPERVISOR, not who entered it", 1),
        ("refuse", "it is not so; nothing is posted", 1),
        ("reverse", "undo an approved deposit by a new entry; two people", 2),
    ):
        group.command(name, _decide, about, people=people).add_argument("code")
    listing = group.command("list", _list, "the last deposits", people=1)
    listing.add_argument("--station", metavar="CODE")
    listing.add_argument("--customer", metavar="ACCOUNT_NO")
    listing.add_argument("--state", choices=(deposits.ENTERED, deposits.APPROVED, deposits.REFUSED, deposits.REVERSED))
    group = Group(subparsers, "banking", "closed shifts on their way to the bank", given)
    opening = group.command("open", _open, "gather closed shifts of a station; all of them if none is named", people=1)
    opening.add_argument("station")
    opening.add_argument("shift", nargs="*")
    banking = group.command("bank", _bank, "the batch is at the bank: enter its slip, for another to approve", people=1)
    banking.add_argument("code")
    _slip_options(banking)
    closing = group.command("close", _close, "the batch has neither cash nor cheques: there is no slip", people=1)
    closing.add_argument("code")
    showing = group.command("list", _batches, "the last banking batches of a station", people=1)
    showing.add_argument("station")


def _slip_options(parser: Any, *, bank: bool = True) -> None:
    if bank:
        parser.add_argument("--bank", required=True)
    parser.add_argument("--slip", required=True, metavar="NUMBER")
    parser.add_argument("--paid-on", required=True, type=day_of, metavar="DAY")


def _new(session: Session) -> New:
    new_id = session.world.new_id()
    return New(new_id, receipt_of(new_id))


def _written(session: Session, write: Callable[[Any, Books], Any]) -> Any:
    async def work(books: Books) -> Any:
        return await books.write(lambda connection: write(connection, books))

    answer: Callable[[Books], Awaitable[Any]] = work
    return session.in_books(answer)


# --- deposits ---------------------------------------------------------------------------------------------------------


def _enter(session: Session) -> int:
    options, new, today = session.options, _new(session), local_now(session).date()
    slip = Slip.of(options.bank, options.slip, minor_of(session, "amount", options.amount), options.paid_on, today)
    entered: Deposit = _written(
        session,
        lambda connection, books: deposits.enter(
            connection, new, options.station, slip, by=books.first, origin=books.origin
        ),
    )
    say(f"{_line(session, entered)}; another person approves it")
    return WELL


def _enter_wallet(session: Session) -> int:
    options, new, today = session.options, _new(session), local_now(session).date()
    bank = deposits.CASH if options.cash else options.bank
    slip = Slip.of(bank, options.slip, minor_of(session, "amount", options.amount), options.paid_on, today)
    if slip.bank == deposits.CASH and not options.cash:
        raise Unusable("bank: its name expected; for cash that the office took, --cash")
    entered: Deposit = _written(
        session,
        lambda connection, books: deposits.enter_for_customer(
            connection, new, options.account, slip, by=books.first, origin=books.origin
        ),
    )
    say(f"{_line(session, entered)}; another person approves it")
    return WELL


def _decide(session: Session) -> int:
    code, what = session.options.code, session.options.deposits_command
    txn_id, today = session.world.new_id(), local_now(session).date()

    def write(connection: Any, books: Books) -> Deposit:
        if what == "approve":
            posted = deposits.approve(connection, code, txn_id, today, by=books.first, origin=books.origin)
            _tell_customer(session, connection, posted)
            return posted
        if what == "refuse":
            return deposits.refuse(connection, code, by=books.first, origin=books.origin)
        return deposits.reverse(
            connection, code, txn_id, today, by=books.first, beside=books.second, origin=books.origin
        )

    say(_line(session, _written(session, write)))
    return WELL


def _tell_customer(session: Session, connection: Any, posted: Deposit) -> None:
    """Owe the customer the word that the money is in the wallet, where a phone of hers is known."""
    if posted.customer is None:
        return
    customer = customers.known(connection, posted.customer)
    to, utility, now = corrections.phone_of(connection, customer.id), session.settings.utility, session.world.now()
    if to is None:
        return
    values = {
        "amount_minor": posted.amount_minor,
        "slip": posted.slip,
        "balance_minor": customers.wallet_available(connection, customer),
        "currency": utility.currency,
        "minor_digits": utility.minor_digits,
    }
    outbox.owe(
        connection, session.world.new_id(), posted.id,
        to=to.msisdn, language=to.language or utility.default_language, message="deposit_paid", values=values, now=now,
    )  # fmt: skip


def _list(session: Session) -> int:
    options = session.options

    async def work(books: Books) -> list[Deposit]:
        require_reader(books, options.station)
        return await books.read(
            lambda connection: deposits.listed(
                connection, station=options.station, customer=options.customer, state=options.state
            )
        )

    for one in session.in_books(work):
        say(_line(session, one))
    return WELL


def _line(session: Session, one: Deposit) -> str:
    decided = f", {one.decided_by}" if one.decided_by else ""
    return (
        f"deposit {one.code}  {one.station or one.customer}  {shown(session, one.amount_minor)}  {one.bank} {one.slip}"
        f"  paid on {one.paid_on}  {one.state}  {one.entered_by}{decided}"
    )


# --- banking ----------------------------------------------------------------------------------------------------------


def _open(session: Session) -> int:
    options, new = session.options, _new(session)
    batch: Batch = _written(
        session,
        lambda connection, books: deposits.open_batch(
            connection, new, options.station, options.shift, by=books.first, origin=books.origin
        ),
    )
    say(_batch_line(session, batch))
    return WELL


def _bank(session: Session) -> int:
    options, new, today = session.options, _new(session), local_now(session).date()

    def write(connection: Any, books: Books) -> Batch:
        amount_minor = deposits.require_money(connection, options.code)
        slip = Slip.of(options.bank, options.slip, amount_minor, options.paid_on, today)
        return deposits.bank(connection, options.code, new, slip, by=books.first, origin=books.origin)

    say(_batch_line(session, _written(session, write)))
    return WELL


def _close(session: Session) -> int:
    code = session.options.code
    batch: Batch = _written(
        session, lambda connection, books: deposits.close_batch(connection, code, by=books.first, origin=books.origin)
    )
    say(_batch_line(session, batch))
    return WELL


def _batches(session: Session) -> int:
    station = session.options.station

    async def work(books: Books) -> list[Batch]:
        require_reader(books, station)
        return await books.read(lambda connection: deposits.batches(connection, station=station))

    for one in session.in_books(work):
        say(_batch_line(session, one))
    return WELL


def _batch_line(session: Session, one: Batch) -> str:
    deposit = f"  deposit {one.deposit}" if one.deposit else ""
    return (
        f"batch {one.code}  {one.station}  {one.state}  cash and cheques {shown(session, one.shifts_minor)}{deposit}"
        f"  shifts {' '.join(one.shifts)}"
    )
