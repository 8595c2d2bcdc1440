"""`prepaid bank`, a bank's links: pause, drain, sign-on and sign-off, echo, a business date by hand. Shell.

What is wanted stands in the database; every node does so within a sixth of a lease, and says what came of it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from gateway.commands.stations import day_of, local_now
from gateway.keysession import NO, WELL, Books, Group, Session, Unusable, say
from ledger import banklinks, links
from ledger.banklinks import Ask, Result
from ledger.links import Wish
from ledger.operators import Role, require_role

_MAY_STEER: Final = (Role.ENGINEER, Role.ADMIN)
_MAY_SET_DAY: Final = (Role.FINANCE, Role.SUPERVISOR)
_WISHES: Final = {"pause": Wish.PAUSED, "resume": Wish.RUN, "drain": Wish.DRAINED}
_ASKS: Final = {"sign-on": "sign_on", "sign-off": "sign_off", "echo": "echo"}
_LOOK_S: Final = 0.25


def add_to(group: Group) -> None:
    """Add the sub-commands to `prepaid bank`."""
    for name, about in (
        ("pause", "decline what is new with 91; repeats, reversals and totals are answered. An ENGINEER or ADMIN"),
        ("resume", "sell to a bank again, and have its links"),
        ("drain", "finish what is under way, end a bank's links, and have none until it is resumed"),
    ):
        group.command(name, _wish, about, people=1).add_argument("bank")
    for name, about in (
        ("sign-on", "send a sign-on on every link of a bank. An ENGINEER or ADMIN"),
        ("sign-off", "send a sign-off on every link; no business comes by them until a sign-on"),
        ("echo", "ask on every link whether the bank is there"),
    ):
        parser = group.command(name, _ask, about, people=1)
        parser.add_argument("bank")
        parser.add_argument("--wait", type=int, default=20, metavar="S", help="for what came of it, in seconds")
    parser = group.command(
        "cut-over", _cut_over, "begin a business date that the bank has not announced; FINANCE or SUPERVISOR", people=1
    )
    parser.add_argument("bank")
    parser.add_argument("day", type=day_of)


def _known(session: Session) -> str:
    name: str = session.options.bank
    known = [bank.name for bank in session.settings.bank]
    if name not in known:
        raise Unusable(f"bank {name}: one of {', '.join(known) or 'none, there are no banks'} expected")
    return name


def _within_s(session: Session) -> float:
    return session.settings.links.lease_s / 6


def _wish(session: Session) -> int:
    bank, wish = _known(session), _WISHES[session.options.bank_command]

    async def work(books: Books) -> Wish:
        require_role(books.first, *_MAY_STEER)
        name = banklinks.wish_name(bank)
        return await books.write(lambda connection: links.set_wish(connection, name, wish, books.origin, "bank"))

    before = session.in_books(work)
    say(f"bank {bank}: {wish}, was {before}; every node obeys within {_within_s(session):.0f} s")
    return WELL


def _ask(session: Session) -> int:
    bank, what, ask_id = _known(session), _ASKS[session.options.bank_command], session.world.new_id()
    wait_s = max(0, min(session.options.wait, banklinks.ASK_S))

    async def work(books: Books) -> list[Result]:
        require_role(books.first, *_MAY_STEER)

        def write(connection: Any) -> Ask:
            return banklinks.ask(connection, ask_id, bank, what, books.origin)

        await books.write(write)
        found: list[Result] = []
        for _ in range(int(wait_s / _LOOK_S)):
            found = await books.read(partial(banklinks.results, ask_id=ask_id))
            if any(one.link for one in found):
                break  # of other nodes more may come; most have none of its links
            await asyncio.sleep(_LOOK_S)
        return found

    found = session.in_books(work)
    for one in found:
        where = f"link {one.link}" if one.link else "no link"
        say(f"{one.node}  {where}: {one.result}")
    if not found:
        say(f"bank {bank}: no node has said what came of it yet; `prepaid bank status` will")
    return WELL if any(one.result == "ANSWERED" for one in found) else NO


def _cut_over(session: Session) -> int:
    bank, day, today = _known(session), session.options.day, local_now(session).date()

    async def work(books: Books) -> bool:
        require_role(books.first, *_MAY_SET_DAY)
        return await books.write(lambda connection: banklinks.set_day(connection, bank, day, today, books.origin))

    is_new = session.in_books(work)
    say(f"bank {bank}: the business date is {day}" + ("" if is_new else "; it was announced before"))
    return WELL
