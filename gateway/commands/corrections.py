"""`prepaid corrections`, `account` and `purchase`: corrections by two people, payments, statements, and one purchase.

No vending key is needed here: the token of a correction is stored with its inputs, and the running gateway makes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, datetime, time
from functools import partial
from typing import Any, TypeVar

from channels.commands import LastToken
from channels.contract import Inbound
from config.settings import Settings
from gateway.account_payment import OFFICE_CASH, AtCounter, PayAccount
from gateway.commands.sell import tenders_of
from gateway.corrections import Approve, Approved, GatewaysModule, PriceOfUnits
from gateway.deeds import Arrival
from gateway.keysession import NO, WELL, Books, Group, Session, Unusable, say
from gateway.reversal import Answer, Reversal, Reverse
from gateway.sale import receipt_of
from gateway.vend import Done, Shop
from gateway.world import RealWorld, World
from ledger import audit, corrections, records, statements, stations
from ledger.audit import Origin
from ledger.corrections import APPROVERS, ASKERS, Case, CorrectionRefused, Kind, PaymentRefused, State, Wish
from ledger.money import plain, to_minor
from ledger.operators import READERS, Role, require_role
from ledger.reasons import Reason, Refusal
from ledger.statements import Customer, Life
from ledger.store import Store

_T = TypeVar("_T")

TOKEN_READERS = (Role.SUPPORT, Role.SUPERVISOR, Role.ENGINEER)
CASHIERS = (Role.VENDOR, Role.SUPERVISOR, Role.FINANCE)


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add the three commands to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    hand = world or RealWorld()
    _add_corrections(Group(subparsers, "corrections", "correct sales; one person asks, another approves", hand))
    account = Group(subparsers, "account", "a customer's account: its statement, and payments without energy", hand)
    showing = account.command("show", _account_show, "every entry of the wallet, and what was paid on debts", people=1)
    showing.add_argument("who", metavar="ACCOUNT|METER|PHONE")
    showing.add_argument("--from", dest="since", metavar="DATE", help="from this local day on: 2026-06-01")
    showing.add_argument("--to", dest="until", metavar="DATE", help="to the end of this local day")
    paying = account.command("pay", _account_pay, "take money for debts, fixed charges and the wallet", people=1)
    paying.add_argument("who", metavar="ACCOUNT|METER|PHONE")
    paying.add_argument("amount", help="in units of the currency: 1250 or 1250.50")
    paying.add_argument("--reference", required=True, help="of the slip; the same one again is the same payment")
    paying.add_argument(
        "--station", metavar="CODE", help="that took the money, one's own if not given; without one the office did"
    )
    paying.add_argument(
        "--tender", action="append", metavar="HOW[:MONEY]", help="at a station: cash, card or cheque; cash if not given"
    )
    paying.add_argument("--wallet", action="store_true", help="all of it to the wallet")
    purchase = Group(subparsers, "purchase", "one purchase: its whole life, and taking it back", hand)
    looking = purchase.command("show", _purchase_show, "all that is stored of a purchase", people=1)
    looking.add_argument("receipt")
    looking.add_argument("--digits", action="store_true", help="show the token in full; it then counts as seen")
    resending = purchase.command(
        "resend",
        _resend,
        "send a meter's last token once more, to the phone that bought it or its customer's",
        people=1,
    )
    resending.add_argument("receipt")
    purchase.command(
        "reverse", _purchase_reverse, "take a purchase back, if nobody can have seen its token", people=1
    ).add_argument("receipt")


def _add_corrections(group: Group) -> None:
    asking = group.command("ask", _ask, "ask for a correction of a sale", people=1)
    asking.add_argument("kind", choices=[kind.value.lower().replace("_", "-") for kind in Kind])
    asking.add_argument("receipt", help="of the sale that is to be corrected")
    asking.add_argument("--meter", metavar="DRN", help="the right meter, or the one in the faulty one's place")
    asking.add_argument("--amount", help="refund-token: what the units are to be worth")
    asking.add_argument("--units", metavar="KWH", help="faulty-meter: the units that were lost, 12.3")
    asking.add_argument(
        "--wrong",
        choices=("debit", "block", "loss"),
        default="debit",
        help="wrong-meter: its account owes it, it is blocked, or the utility bears it",
    )
    asking.add_argument("--to", choices=("source", "cash"), default="source", help="refund-money: where it goes")
    for name, work, about in (
        ("approve", _approve, "carry a correction out; not by whoever asked"),
        ("refuse", _refuse, "say no to a correction; not by whoever asked"),
    ):
        group.command(name, work, about, people=1).add_argument("code")
    group.command("show", _show, "a correction with its states", people=1).add_argument("code")
    listing = group.command("list", _list, "all corrections, the oldest first", people=1)
    listing.add_argument("--state", choices=[state.value for state in State])


# --- corrections ------------------------------------------------------------------------------------------------------


def shop_of(session: Session) -> Shop:
    """A shop whose replies no node holds: a running gateway sends them as soon as it looks."""
    settings = session.settings
    office = replace(
        settings,
        gateway=replace(settings.gateway, node="office"),
        delivery=replace(settings.delivery, lease_s=0.001),
    )
    return Shop.of(office, session.world, GatewaysModule())


def _worded(work: Callable[[Books], Awaitable[_T]]) -> Callable[[Books], Awaitable[_T]]:
    async def run(books: Books) -> _T:
        try:
            return await work(books)
        except Refusal as refusal:
            raise CorrectionRefused(f"it cannot be done: {refusal.reason.value}") from None

    return run


def _ask(session: Session) -> int:
    options, shop, new_id = session.options, shop_of(session), session.world.new_id()
    kind = Kind(options.kind.upper().replace("-", "_"))
    code, utility = receipt_of(new_id), session.settings.utility

    async def work(books: Books) -> Case:
        require_role(books.first, *ASKERS)
        life = await books.read(lambda connection: statements.purchase(connection, options.receipt))
        if life is None:
            raise CorrectionRefused(f"no sale has the receipt {options.receipt}")
        wish = await _wish(session, shop, books, kind, life)
        return await books.write(
            lambda connection: corrections.ask(connection, wish, new_id, code, utility.currency, books.origin)
        )

    case = session.in_books(_worded(work))
    say(f"{case.code}: {_case_line(case, session.settings)}; another person approves it")
    return WELL


async def _wish(session: Session, shop: Shop, books: Books, kind: Kind, life: Life) -> Wish:
    options, paid = session.options, int(life.purchase["amount_minor"])
    if (options.amount is not None) != (kind is Kind.REFUND_TOKEN):
        raise Unusable("--amount: for refund-token, and only for that")
    if (options.units is not None) != (kind is Kind.FAULTY_METER):
        raise Unusable("--units: for faulty-meter, and only for that")
    if (options.meter is not None) != (kind in (Kind.WRONG_METER, Kind.FAULTY_METER)):
        raise Unusable("--meter: for wrong-meter and faulty-meter, and only for these")
    if kind is Kind.WRONG_METER:
        return Wish(kind, options.receipt, paid, 0, options.meter, {"wrong": options.wrong})
    if kind is Kind.REFUND_MONEY:
        return Wish(kind, options.receipt, paid, 0, "", {"to": options.to})
    if kind is Kind.REFUND_TOKEN:
        return Wish(kind, options.receipt, _minor(session.settings, options.amount), 0, life.drn, {})
    units = _amount(options.units, 1, "kWh")
    most = session.settings.corrections.units_max_tenths
    if not 0 < units <= most:
        raise CorrectionRefused(f"0.1 to {plain(most, 1)} kWh for one case, got {options.units}")
    price = await books.store.submit(PriceOfUnits(shop, options.meter, units))
    return Wish(kind, options.receipt, price, units, options.meter, {"faulty": life.drn})


def _amount(text: str, digits: int, what: str) -> int:
    try:
        return to_minor(text, digits)
    except ValueError as error:
        raise Unusable(f"{what}: {error}") from None


def _minor(settings: Settings, text: str) -> int:
    return _amount(text, settings.utility.minor_digits, settings.utility.currency)


async def approve(store: Store, shop: Shop, code: str, origin: Origin) -> Approved | None:
    """Approve a correction as it stands now, with its audit row; None if it changed while it was looked at."""
    case = await store.read(partial(corrections.find, code=code))
    to = await store.read(partial(corrections.addressee, drn=case.drn)) if case.drn else None
    owner = await store.read(partial(corrections.owner_then, purchase_id=case.purchase_id))

    def note(connection: Any, approved: Approved | None) -> None:
        if approved is not None and not approved.again:
            what = {"kind": case.kind.value, "receipt": case.receipt, "purchase": str(approved.issue_id or "")}
            corrections.note_approval(connection, case, what, origin)

    return await store.submit_noted(Approve(shop, case, to, origin, owner), note)


def _approve(session: Session) -> int:
    options, shop = session.options, shop_of(session)

    async def work(books: Books) -> Approved:
        require_role(books.first, *APPROVERS)
        while (approved := await approve(books.store, shop, options.code, books.origin)) is None:
            pass  # another was at it in the meantime: look again
        return approved

    approved = session.in_books(_worded(work))
    words = "was approved before" if approved.again else "approved"
    say(f"{options.code}: {words}" + (f"; its token: {approved.state}" if approved.state else "; the money is back"))
    return WELL


def _refuse(session: Session) -> int:
    code = session.options.code

    async def work(books: Books) -> Case:
        require_role(books.first, *APPROVERS)
        return await books.write(lambda connection: corrections.refuse(connection, code, books.origin))

    session.in_books(work)
    say(f"{code}: refused")
    return WELL


def _show(session: Session) -> int:
    code = session.options.code

    async def work(books: Books) -> tuple[Case, Any, str]:
        require_role(books.first, *READERS)
        case = await books.read(lambda connection: corrections.find(connection, code))
        found = await books.read(lambda connection: corrections.steps(connection, case.id))
        issue = case.issue_id
        state = await books.read(lambda connection: _issue_line(connection, issue)) if issue is not None else ""
        return case, found, state

    case, found, issue = session.in_books(work)
    say(f"{case.code}: {_case_line(case, session.settings)}")
    say(f"  corrects receipt {case.receipt}; asked for because: {case.reason}")
    for step in found:
        said = f": {step.reason}" if step.reason else ""
        say(f"  {session.minute(step.at)}  {step.state:<8}  {step.who}, {step.place}{said}")
    if issue:
        say(f"  {issue}")
    return WELL


def _issue_line(connection: Any, issue_id: Any) -> str:
    life = statements.purchase(connection, receipt_of(issue_id))
    if life is None:
        return ""
    row = life.purchase
    units = plain(row["units_tenths"] or 0, 1)
    return f"token: receipt {row['receipt']}, meter {life.drn}, {units} kWh, {row['state']}"


def _list(session: Session) -> int:
    wanted = State(session.options.state) if session.options.state else None

    async def work(books: Books) -> list[Case]:
        require_role(books.first, *READERS)
        return await books.read(lambda connection: corrections.cases(connection, state=wanted))

    for case in session.in_books(work):
        say(f"{case.code}  {session.minute(case.asked_at)}  {case.state:<8}  {_case_line(case, session.settings)}")
    return WELL


def _case_line(case: Case, settings: Settings) -> str:
    units = f", {plain(case.units_tenths, 1)} kWh" if case.units_tenths else ""
    meter = f", to meter {case.drn}" if case.drn else ""
    details = "".join(f", {name} {value}" for name, value in sorted(case.details.items()))
    return f"{case.kind}, receipt {case.receipt}, {_money(settings, case.amount_minor)}{units}{meter}{details}"


def _money(settings: Settings, minor: int) -> str:
    return f"{plain(minor, settings.utility.minor_digits)} {settings.utility.currency}"


# --- accounts ---------------------------------------------------------------------------------------------------------


async def _customer(books: Books, wanted: str) -> Customer:
    found = await books.read(lambda connection: statements.customer(connection, wanted))
    if found is None:
        raise Unusable(f"no account, meter or phone {wanted}")
    return found


def _day(session: Session, text: str | None, *, end: bool) -> datetime | None:
    """The first instant of a local day; or of the day after it."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Unusable(f"a day as in 2026-06-01 expected, got {text!r}") from None
    zone = session.settings.utility.zone
    return datetime.combine(date.fromordinal(day.toordinal() + end), time(), zone)


def _account_show(session: Session) -> int:
    options, settings = session.options, session.settings
    since, until = _day(session, options.since, end=False), _day(session, options.until, end=True)
    digits = settings.utility.minor_digits

    async def work(books: Books) -> None:
        require_role(books.first, *READERS)
        of = await _customer(books, options.who)
        say(f"account {of.account_no}, {of.name}, in {settings.utility.currency}")

        def tell(connection: Any) -> None:
            # Told as it is read: a statement may be longer than memory.
            for entry in statements.entries(connection, of.wallet_id, since, until):
                say(
                    f"  {session.minute(entry.at)}  {entry.kind:<16} {entry.receipt:<13}"
                    f" {plain(entry.amount_minor, digits):>14} {plain(entry.balance_minor, digits):>14}"
                )
            say("paid on debts")
            for paid in statements.debt_entries(connection, of, since, until):
                parts = ", ".join(f"{code} {plain(amount, digits)}" for code, amount in paid.paid_minor.items())
                say(f"  {session.minute(paid.at)}  {paid.kind:<16} {paid.receipt:<13} {parts}")
            say("owed now")
            for code, kind, status, outstanding in statements.debts_now(connection, of):
                say(f"  {code:<16} {kind:<16} {status:<10} {plain(outstanding, digits):>14}")

        await books.read(tell)

    session.in_books(work)
    return WELL


def _account_pay(session: Session) -> int:
    options, settings, shop = session.options, session.settings, shop_of(session)
    amount = _minor(settings, options.amount)

    async def work(books: Books) -> tuple[Customer, Any]:
        require_role(books.first, *CASHIERS)
        by = books.first
        if options.station is not None and by.station not in (None, options.station):
            raise CorrectionRefused(f"{by.login} takes money for station {by.station} only")
        of = await _customer(books, options.who)
        if of.is_closed:
            raise PaymentRefused(f"account {of.account_no} is closed")
        source, counter = await _source(session, books, options.station or by.station, amount)
        to = await books.read(lambda connection: corrections.phone_of(connection, of.id))
        deed = PayAccount(shop, of, to, amount, source, options.reference, by.login, options.wallet, counter)

        def note(connection: Any, paid: Any) -> None:
            if not paid.again:
                after = {"amount_minor": amount, "source": source, "receipt": paid.receipt, "shift_id": paid.shift_id}
                audit.note(
                    connection, books.origin, deed="account.paid", subject=f"account {of.account_no}", after=after
                )

        try:
            return of, await books.store.submit_noted(deed, note)
        except Refusal as refusal:
            if refusal.reason is not Reason.SHIFT_NEEDED or counter is None:
                raise
            raise PaymentRefused(
                f"{by.login} has no open shift at {counter.station}: money that is taken there lies in a drawer that"
                " its own shift counts"
            ) from None

    of, paid = session.in_books(_worded(work))
    if paid.again:
        say(f"receipt {paid.receipt}: this payment was taken before")
        return WELL
    say(f"receipt {paid.receipt}: {_money(settings, amount)} for account {of.account_no}")
    for code, part in paid.split["debts_minor"].items():
        say(f"  debt {code}: {_money(settings, part)}")
    say(f"  fixed charges: {_money(settings, paid.split['fixed_minor'])}")
    say(f"  wallet: {_money(settings, paid.split['wallet_minor'])}; it has {_money(settings, paid.balance_minor)} now")
    return WELL


async def _source(session: Session, books: Books, code: str | None, amount: int) -> tuple[str, AtCounter | None]:
    """The code of the account that the money comes in by, and at which counter it was given."""
    utility, texts = session.settings.utility, session.options.tender or []
    await books.write(lambda connection: records.ensure_accounts(connection, records.SYSTEM_ACCOUNTS, utility.currency))
    if code is None:
        if texts:
            raise Unusable("--tender: for money that a station takes")
        return OFFICE_CASH, None
    tenders = tenders_of(texts, amount, utility.minor_digits)
    at = await books.read(lambda connection: stations.known(connection, code))
    if at.state == "BLOCKED":
        raise CorrectionRefused(f"station {code} is blocked: it takes no money")
    # An agent who sells from a float has paid for it: the drawer is the agent's own, and a shift only where it is asked
    # for. What a station on credit takes is the utility's.
    counter = AtCounter(code, at.id, at.shift_required or at.funding == "CREDIT", tenders)
    return at.account_code, counter


# --- one purchase -----------------------------------------------------------------------------------------------------


def _purchase_show(session: Session) -> int:
    options, new_id = session.options, session.world.new_id()

    async def work(books: Books) -> tuple[Life, bool]:
        require_role(books.first, *READERS)
        life = await books.read(lambda connection: statements.purchase(connection, options.receipt))
        if life is None:
            raise Unusable(f"no purchase has the receipt {options.receipt}")
        if not options.digits:
            return life, False
        require_role(books.first, *TOKEN_READERS)

        def shown(connection: Any) -> bool:
            is_shown = statements.disclose(connection, options.receipt, new_id, books.first.login, books.origin.at)
            audit.note(
                connection, books.origin, deed="purchase.token_shown", subject=f"receipt {options.receipt}",
                after={"shown": is_shown},
            )  # fmt: skip
            return is_shown

        return life, await books.write(shown)

    life, with_digits = session.in_books(work)
    if options.digits and not with_digits:
        say("its tokens are shown to nobody: it does not stand as a sale")
    _tell(life, with_digits, session)
    return WELL


def _tell(life: Life, with_digits: bool, session: Session) -> None:
    settings = session.settings
    row, digits = life.purchase, settings.utility.minor_digits
    say(f"receipt {row['receipt']}, meter {life.drn}, {_money(settings, row['amount_minor'])}, {row['state']}")
    if row["reason"]:
        say(f"  because: {row['reason']}")
    if life.request is not None:
        request = life.request
        who = request["sender"] or "-"
        say(f"  asked {session.minute(request['received_at'])} on {request['channel']} by {who}, {request['command']}")
    split = json.loads(row["sale"] or "{}")
    for name in sorted(name for name in split if name.endswith("_minor") and split[name]):
        value = split[name]
        parts = (
            ", ".join(f"{code} {plain(amount, digits)}" for code, amount in value.items())
            if isinstance(value, dict)
            else plain(value, digits)
        )
        say(f"  {name.removesuffix('_minor')}: {parts}")
    for hold in life.holds:
        say(f"  held {plain(hold['amount_minor'], digits)}: {hold['state']}")
    for txn, postings in life.transactions:
        named = ", undoes the sale" if txn["reverses"] else ""
        say(f"  posted {session.minute(txn['recorded_at'])}: {txn['kind']}{named}, for {txn['business_date']}")
        for code, amount in postings:
            say(f"    {code:<28} {plain(amount, digits):>14}")
    for token in life.tokens:
        text = str(token["digits"] or "")
        shown = text if with_digits else f"{'*' * 16}{text[-4:]}" if text else "not made"
        say(f"  token {token['seq'] + 1}: {token['kind']}, {plain(token['units_tenths'], 1)} kWh, {shown}")
    if life.sold_on is not None:
        say(f"  its token, which nobody had seen, was sold again: receipt {life.sold_on}")
    if life.first_made_for is not None:
        say(f"  its token was made for receipt {life.first_made_for}, which was reversed before anybody saw it")
    for reply in life.replies:
        ended = f", {session.minute(reply['ended_at'])}" if reply["ended_at"] else ""
        say(f"  reply {reply['message']} on {reply['channel']}: {reply['state']}, tried {reply['attempts']}{ended}")
    for seen in life.disclosures:
        say(f"  token shown {session.minute(seen['at'])}: {seen['how']}, to {seen['to_whom']}")
    for reversal in life.reversals:
        because = f", {reversal['reason']}" if reversal["reason"] else ""
        say(f"  reversal {session.minute(reversal['decided_at'])} by {reversal['who']}: {reversal['answer']}{because}")
    for case in life.corrections:
        say(f"  correction {case.code}: {_case_line(case, settings)}, {case.state}")


def _resend(session: Session) -> int:
    """As if the phone had asked by SMS: the same limits, the same reply, and the operator never sees the token."""
    options, shop, new_id = session.options, shop_of(session), session.world.new_id()

    async def work(books: Books) -> tuple[str, Done]:
        require_role(books.first, *TOKEN_READERS)
        life = await books.read(lambda connection: statements.purchase(connection, options.receipt))
        if life is None:
            raise Unusable(f"no purchase has the receipt {options.receipt}")
        to = await books.read(lambda connection: statements.phone_for(connection, life))
        if to is None:
            raise CorrectionRefused("neither the phone that bought it nor one of its customer is known")
        command = LastToken(life.drn)
        inbound = Inbound(
            channel="sms",
            peer="",  # by any link
            reference=f"office/{new_id}",
            fingerprint=hashlib.blake2b(repr(command).encode(), digest_size=16).digest(),
            sender=to,
            destination="",
            command=command,
            received_at=books.origin.at,
        )

        def require_last(connection: Any, done: Done) -> None:
            said = done.replies[0].message
            if said.key == "last_token" and said.values["receipt"] != options.receipt:
                raise CorrectionRefused(f"only the last is sent: receipt {said.values['receipt']} of meter {life.drn}")
            if said.key != "last_token":
                raise CorrectionRefused(f"it is not sent again: {said.key}")
            subject, after = f"receipt {options.receipt}", {"to": f"...{to[-3:]}"}
            audit.note(connection, books.origin, deed="purchase.resent", subject=subject, after=after)

        return to, await books.store.submit_noted(Arrival(shop, inbound), require_last)

    to, _ = session.in_books(_worded(work))
    say(f"{options.receipt}: its token goes to the phone ending in {to[-3:]} once more, marked as a copy")
    return WELL


def _purchase_reverse(session: Session) -> int:
    options, shop, new_id = session.options, shop_of(session), session.world.new_id()

    async def work(books: Books) -> Any:
        require_role(books.first, Role.SUPERVISOR)
        life = await books.read(lambda connection: statements.purchase(connection, options.receipt))
        if life is None or life.request is None:
            raise Unusable(f"no purchase has the receipt {options.receipt}")
        corrections.require_reason(books.origin)
        asked = Reversal(
            original=str(life.request["idem_key"]),
            key=f"office|{new_id}",
            fingerprint=hashlib.blake2b(options.receipt.encode(), digest_size=16).digest(),
            channel="office",
            peer="",
            who=books.first.login,
            asked_at=books.origin.at,
        )

        def note(connection: Any, result: Any) -> None:
            after = {"answer": result.answer.value, "reason": result.reason.value if result.reason else ""}
            before = {"state": str(life.purchase["state"])}
            audit.note(connection, books.origin, "purchase.reversal", f"receipt {options.receipt}", before, after)

        return await books.store.submit_noted(Reverse(shop, asked), note)

    result = session.in_books(work)
    if result.answer is Answer.REFUSED:
        way = "; two people correct it: prepaid corrections ask" if result.reason is Reason.TOKEN_DISCLOSED else ""
        say(f"{options.receipt}: it stands ({result.reason}){way}")
        return NO
    say(f"{options.receipt}: {result.answer}")
    return WELL
