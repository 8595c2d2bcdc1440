"""`prepaid customers`: find, show, add, change and close customers and their phones, signed in and on record."""

from __future__ import annotations

from typing import Any, Final

from config import languages
from gateway.commands.records import (
    answers,
    changing,
    debt_lines,
    limit,
    looking,
    money,
    page_end,
    paged,
    show,
    table,
    tenths,
)
from gateway.keysession import WELL, Group, Session, Unusable, say
from gateway.world import RealWorld, World
from ledger import customers, overview
from ledger.overview import Overview

_BETWEEN_DIGITS: Final = str.maketrans("", "", " +-()\u00a0")


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `customers` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "customers", "look at customers and change their records", world or RealWorld())
    finding = paged(
        group.command(
            "find",
            _find,
            "customers by account, phone, meter or part of the name; a phone also as it is dialled at home, 0711...",
            people=1,
        )
    )
    for name in ("account", "phone", "meter", "name"):
        finding.add_argument(f"--{name}", default=None)
    showing = answers(group.command("show", _show, "all about a customer", people=1))
    showing.add_argument("account", metavar="ACCOUNT|METER|PHONE|RECEIPT")
    adding = answers(group.command("add", _add, "add a customer", people=1))
    adding.add_argument("account")
    adding.add_argument("--name", required=True)
    adding.add_argument("--category", default="DOMESTIC")
    adding.add_argument("--language", default=None, help="else the utility's")
    adding.add_argument("--phone", action="append", default=[], metavar="MSISDN", help="may be given again")
    changing_one = answers(group.command("change", _change, "change name, category or language", people=1))
    changing_one.add_argument("account")
    for name in ("name", "category", "language"):
        changing_one.add_argument(f"--{name}", default=None)
    for name, work, about in (
        ("add-phone", _add_phone, "let a phone buy from the customer's wallet"),
        ("remove-phone", _remove_phone, "let a phone no longer buy from it"),
    ):
        parser = answers(group.command(name, work, about, people=1))
        parser.add_argument("account")
        parser.add_argument("phone")
    paying = answers(group.command("pay-out", _pay_out, "pay out all that is in the wallet; two people", people=2))
    paying.add_argument("account")
    paying.add_argument("--to", required=True, choices=sorted(customers.PAID_OUT_BY))
    for name, work, about in (
        ("pay-out-carry", _pay_out_carry, "put what rounding has kept into the customer's wallet"),
        ("close", _close, "close an account on which nothing is left; a SUPERVISOR does"),
    ):
        answers(group.command(name, work, about, people=1)).add_argument("account")


def _find(session: Session) -> int:
    options = session.options
    wanted = {
        "account_no": options.account,
        "phone": _digits(options.phone),
        "drn": _digits(options.meter),
        "name": options.name,
    }
    if not any(wanted.values()):
        raise Unusable("at least one of --account, --phone, --meter and --name expected")
    at_most = limit(session)
    page = looking(
        session, lambda connection: customers.find(connection, **wanted, after=options.after, at_most=at_most)
    )

    def lines() -> list[str]:
        rows = [(c.account_no, c.name, c.category, c.language, c.status) for c in page.customers]
        if not rows:
            return ["no customer is like that"]
        return [*table(("account", "name", "category", "language", "status"), rows), *page_end(page.next_after)]

    show(session, page, lines)
    return WELL


def _digits(text: str | None) -> str | None:
    """A number as people write it, without blanks, dashes, brackets and the plus sign."""
    return None if text is None else text.translate(_BETWEEN_DIGITS)


def _show(session: Session) -> int:
    wanted = session.options.account.strip()
    wanted = digits if (digits := _digits(wanted) or "").isdigit() else wanted
    found = looking(
        session, lambda connection: overview.of_customer(connection, overview.account_of(connection, wanted))
    )
    show(session, found, lambda: _lines(session, found))
    return WELL


def _lines(session: Session, found: Overview) -> list[str]:
    customer = found.customer
    lines = [
        f"account {customer.account_no}  {customer.name}  {customer.category}  {customer.language}  {customer.status}",
        f"wallet {money(session, found.wallet_minor)}"
        + (f", {money(session, found.held_minor)} of it held" if found.held_minor else ""),
        f"phones {' '.join(found.phones) or '-'}",
    ]
    for place in found.points:
        point = place.point
        free = f", {point.free_kwh_per_month} kWh free a month" if point.free_kwh_per_month else ""
        lines.append("")
        lines.append(f"service point {place.code}  {place.area}  tariff {point.tariff_code}{free}")
        lines.append(
            f"  bought in {point.counter_month}: {tenths(point.month_units_tenths)} kWh; fixed charges unpaid"
            f" {money(session, point.fixed_shortfall_minor)}; kept {money(session, point.carry_minor)}"
        )
        lines.extend(f"  meter {meter.drn}  {meter.status}" for meter in place.meters)
    if found.debts:
        lines.append("")
        lines.extend(debt_lines(session, found.debts))
    if found.last:
        rows = [
            (
                session.minute(one.at),
                one.drn,
                money(session, one.amount_minor),
                tenths(one.units_tenths),
                one.receipt or "-",
            )
            for one in found.last
        ]
        lines.extend(["", *table(("bought", "meter", "amount", "kWh", "receipt"), rows)])
    return lines


def _language(session: Session, wanted: str | None) -> str | None:
    known = languages.load(session.settings.utility.default_language).languages
    if wanted is not None and wanted not in known:
        raise Unusable(f"--language: one of {', '.join(sorted(known))} expected, got {wanted!r}")
    return wanted


def _add(session: Session) -> int:
    options = session.options
    language = _language(session, options.language) or session.settings.utility.default_language
    added = changing(
        session,
        f"customer {options.account}",
        lambda connection, act: customers.add(
            connection,
            act,
            options.account,
            name=options.name,
            category=options.category,
            language=language,
            phones=options.phone,
        ),
    )
    show(session, added, lambda: [f"added account {added.account_no}: {added.name}"])
    return WELL


def _change(session: Session) -> int:
    options = session.options
    _language(session, options.language)
    wanted = {name: getattr(options, name) for name in ("name", "category", "language")}
    values = {name: value for name, value in wanted.items() if value is not None}
    if not values:
        raise Unusable("at least one of --name, --category and --language expected")
    after = changing(
        session,
        f"customer {options.account}",
        lambda connection, act: customers.change(connection, act, options.account, **values),
    )
    show(session, after, lambda: [f"account {after.account_no}: {after.name}  {after.category}  {after.language}"])
    return WELL


def _add_phone(session: Session) -> int:
    return _phone(session, customers.add_phone, "can buy from")


def _remove_phone(session: Session) -> int:
    return _phone(session, customers.remove_phone, "no longer buys from")


def _phone(session: Session, deed: Any, said: str) -> int:
    account, phone = session.options.account, session.options.phone
    changing(session, f"customer {account}", lambda connection, act: deed(connection, act, account, phone))
    show(session, {"account_no": account, "phone": phone}, lambda: [f"{phone} {said} account {account}"])
    return WELL


def _pay_out_carry(session: Session) -> int:
    account = session.options.account
    paid_minor = changing(
        session, f"customer {account}", lambda connection, act: customers.pay_out_carry(connection, act, account)
    )
    currency = session.settings.utility.currency
    show(
        session,
        {"account_no": account, "amount_minor": paid_minor},
        lambda: [f"account {account}: {money(session, paid_minor)} {currency} put into the wallet"],
    )
    return WELL


def _pay_out(session: Session) -> int:
    account, to = session.options.account, session.options.to
    paid_minor = changing(
        session, f"customer {account}", lambda connection, act: customers.pay_out(connection, act, account, to)
    )
    value = {"account_no": account, "amount_minor": paid_minor, "to": to}
    show(session, value, lambda: [f"account {account}: {money(session, paid_minor)} paid out by {to}"])
    return WELL


def _close(session: Session) -> int:
    account = session.options.account
    digits = session.settings.utility.minor_digits
    changing(
        session,
        f"customer {account}",
        lambda connection, act: customers.close(connection, act, account, minor_digits=digits),
    )
    if session.options.json:
        show(session, {"account_no": account, "status": customers.CLOSED}, lambda: [])
    else:
        say(f"account {account} is closed")
    return WELL
