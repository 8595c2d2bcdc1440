"""`prepaid debts`: debts and the agreements to pay them, by FINANCE or a SUPERVISOR; writing off takes two people."""

from __future__ import annotations

from typing import Any

from gateway.commands.records import amount, answers, changing, day, debt_lines, looking, money, show
from gateway.keysession import WELL, Group, Session, Unusable
from gateway.world import RealWorld, World
from ledger import debts
from ledger.debts import Agreement, Debt, Kind
from ledger.pricing import DebtMode


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `debts` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "debts", "look at debts and change them", world or RealWorld())
    answers(group.command("list", _list, "a customer's debts with their age", people=1)).add_argument("account")
    adding = answers(group.command("add", _add, "add a debt, in the books too", people=2))
    adding.add_argument("debt", help="its code, for ever")
    adding.add_argument("--point", required=True, help="the service point whose purchases pay it")
    adding.add_argument("--kind", required=True, choices=[kind.value for kind in Kind])
    adding.add_argument("--amount", required=True)
    adding.add_argument("--opened-on", default=None, metavar="DATE", help="else today")
    changing_one = answers(group.command("change", _change, "change the terms of a debt", people=2))
    changing_one.add_argument("debt")
    for parser, is_new in ((adding, True), (changing_one, False)):
        parser.add_argument("--mode", choices=[mode.value for mode in DebtMode], required=is_new)
        parser.add_argument("--percent", default=None, help="of each purchase, for PERCENT: 30 means 30 %%")
        parser.add_argument("--instalment", default=None, help="a calendar month, for FIXED")
        parser.add_argument("--priority", type=int, default=None, help="the lowest is paid first")
        parser.add_argument("--agreement", default=None, metavar="NUMBER")
        parser.add_argument("--signed-on", default=None, metavar="DATE")
        parser.add_argument("--default-rule", default=None, metavar="TEXT", help="what happens if it is not kept")
    for name, work, about in (
        ("suspend", _suspend, "take nothing for a debt, as while it is disputed"),
        ("resume", _resume, "go on taking for it"),
    ):
        answers(group.command(name, work, about, people=1)).add_argument("debt")
    writing = answers(group.command("write-off", _write_off, "give up a debt, in the books too; two people", people=2))
    writing.add_argument("debt")
    writing.add_argument("--amount", default=None, help="else all that is outstanding")


def _list(session: Session) -> int:
    account = session.options.account
    found = looking(session, lambda connection: debts.of_customer(connection, account))

    def lines() -> list[str]:
        owed = sum(debt.outstanding_minor for _, debt in found)
        return [*debt_lines(session, found), f"outstanding in all: {money(session, owed)}"]

    show(session, {"debts": [{"point": place, "debt": debt} for place, debt in found]}, lines)
    return WELL


def _terms(session: Session) -> dict[str, Any]:
    """The terms that were named on the command line."""
    o = session.options
    wanted = {
        "mode": DebtMode(o.mode) if o.mode is not None else None,
        "percent": o.percent,
        "instalment_minor": amount(session, "--instalment", o.instalment),
        "priority": o.priority,
        "number": o.agreement,
        "signed_on": day("--signed-on", o.signed_on),
        "default_rule": o.default_rule,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _add(session: Session) -> int:
    o = session.options
    amount_minor = amount(session, "--amount", o.amount)
    assert amount_minor is not None
    opened_on = day("--opened-on", o.opened_on)
    agreement = Agreement(**{"priority": 1, **_terms(session)})
    debt = changing(
        session,
        f"debt {o.debt}",
        lambda connection, act: debts.add(
            connection,
            act,
            o.debt,
            point=o.point,
            kind=o.kind,
            amount_minor=amount_minor,
            agreement=agreement,
            opened_on=opened_on,
        ),
    )
    return _said(session, debt, "added")


def _change(session: Session) -> int:
    o = session.options
    terms = _terms(session)
    if not terms:
        raise Unusable("at least one term to change expected, such as --instalment")
    debt = changing(session, f"debt {o.debt}", lambda connection, act: debts.change(connection, act, o.debt, **terms))
    return _said(session, debt, "changed")


def _suspend(session: Session) -> int:
    code = session.options.debt
    debt = changing(session, f"debt {code}", lambda connection, act: debts.suspend(connection, act, code))
    return _said(session, debt, "suspended")


def _resume(session: Session) -> int:
    code = session.options.debt
    debt = changing(session, f"debt {code}", lambda connection, act: debts.resume(connection, act, code))
    return _said(session, debt, "resumed")


def _write_off(session: Session) -> int:
    o = session.options
    given_up = amount(session, "--amount", o.amount)
    debt = changing(
        session, f"debt {o.debt}", lambda connection, act: debts.write_off(connection, act, o.debt, given_up)
    )
    return _said(session, debt, "written off")


def _said(session: Session, debt: Debt, deed: str) -> int:
    left = money(session, debt.outstanding_minor)
    show(session, debt, lambda: [f"debt {debt.code} {deed}: {debt.state}, {left} outstanding"])
    return WELL
