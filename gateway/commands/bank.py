"""`prepaid bank`: banks as the books know them: business days, keys, who dials, and totals of a day. Shell."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from typing import Any

from gateway.keysession import WELL, Books, Group, Session, Unusable, minute, say
from gateway.world import RealWorld, World
from ledger import banklinks, banks, links
from ledger.banklinks import Ask, Result
from ledger.banks import KeyRow, Reconciled, Totals
from ledger.links import LinkState, Slot, Wish
from ledger.money import plain


def add_commands(subparsers: Any, *, world: World | None = None) -> Group:
    """Add `bank` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code. The group."""
    group = Group(subparsers, "bank", "look at banks that sell over ISO 8583", world or RealWorld())
    group.command("status", _status, "every bank: its links, business date and keys that it has sent")
    totals = group.command("totals", _totals, "purchases and reversals of a business date, and what the bank has said")
    totals.add_argument("bank")
    totals.add_argument("date", metavar="YYYY-MM-DD")
    return group


def _status(session: Session) -> int:
    settings, now = session.settings, session.world.now()
    if not settings.bank:
        say("no bank is in these settings")
        return WELL

    states: dict[str, LinkState] = {}
    asks: dict[str, tuple[Ask, list[Result]] | None] = {}

    async def work(
        books: Books,
    ) -> tuple[dict[str, tuple[list[tuple[date, datetime]], list[KeyRow]]], list[Slot]]:
        found = {}
        nonlocal states
        states = await books.read(links.wishes)
        for bank in settings.bank:
            asks[bank.name] = await books.read(partial(banklinks.last, bank=bank.name))
            days = await books.read(partial(banks.days, bank=bank.name, at_most=1))
            found[bank.name] = days, await books.read(partial(banks.keys, bank=bank.name))
        return found, await books.read(lambda connection: links.slots(connection, now))

    found, slots = session.in_books(work)
    for bank in settings.bank:
        days, keys = found[bank.name]
        where = " and ".join(
            part
            for part in (bank.listen and f"dials us at {bank.listen}", bank.dial and f"is dialled at {bank.dial}")
            if part
        )
        say(f"{bank.name}  profile {bank.profile}  {where}")
        if days:
            say(f"    business date {days[0][0]}, announced {minute(days[0][1])}")
        else:
            say("    has announced no business date: the message's counts, or the calendar's")
        state, asked = states.get(banklinks.wish_name(bank.name)), asks[bank.name]
        if state is not None and state.wish is not Wish.RUN:
            why = f" because: {state.reason}" if state.reason else ""
            say(f"    {state.wish}, set by {state.set_by} {minute(state.set_at)}{why}")
        if asked is not None:
            ask, results = asked
            came = ", ".join(f"{one.node} {one.link or '-'} {one.result}" for one in results) or "no answer of a node"
            say(f"    {ask.what} asked by {ask.asked_by} {minute(ask.asked_at)}: {came}")
        for key in keys:
            say(f"    key {key.handle} {key.kcv} {key.state}, came {minute(key.received_at)}")
        for slot in slots:
            if slot.link.startswith(f"bank:{bank.name}."):
                held = f"held by {slot.node}" if slot.is_held else "held by no node"
                say(f"    link {slot.link.partition(':')[2]}: {held}")
    say("what each link does now is in the metrics of its node")
    return WELL


def _totals(session: Session) -> int:
    name = session.options.bank
    known = [bank.name for bank in session.settings.bank]
    if name not in known:
        raise Unusable(f"bank {name}: one of {', '.join(known) or 'none, there are no banks'} expected")
    try:
        day = date.fromisoformat(session.options.date)
    except ValueError:
        raise Unusable(f"date {session.options.date}: YYYY-MM-DD expected") from None

    async def work(books: Books) -> tuple[Totals, list[Reconciled]]:
        ours = await books.read(partial(banks.totals, bank=name, day=day))
        return ours, await books.read(partial(banks.reconciled, bank=name, day=day))

    ours, said = session.in_books(work)
    digits = session.settings.utility.minor_digits
    say(f"ours          {_line(ours, ours.net_minor, digits)}")
    for one in said:
        balance = "in balance" if one.in_balance else "out of balance"
        say(f"{minute(one.received_at)}  {_line(one.theirs, one.their_net_minor, digits)}  {balance}")
    return WELL


def _line(totals: Totals, net_minor: int, digits: int) -> str:
    sold, back, net = (plain(minor, digits) for minor in (totals.purchases_minor, totals.reversals_minor, -net_minor))
    return f"{totals.purchases} purchases {sold}, {totals.reversals} reversals {back}, the bank owes {net}"
