"""`prepaid operators` and `prepaid audit`: who may sign in, and the record of who did what. Shell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from gateway.keysession import NO, WELL, Books, Group, Session, Unusable, say
from ledger import audit, operators
from ledger.audit import Broken
from ledger.operators import Operator, Role, require_role


def add_operators(group: Group) -> None:
    """Add the sub-commands of `operators`."""
    adding = group.command("add", _add_operator, "add an operator; the first one needs no --as", people=2, needed=False)
    adding.add_argument("login")
    adding.add_argument("--name", required=True)
    adding.add_argument("--role", action="append", required=True, metavar="ROLE", help="may be given again")
    adding.add_argument("--language", default="en")
    adding.add_argument("--station", default=None, metavar="CODE")
    password = group.command("password", _set_password, "set one's own password, or as ADMIN somebody's", people=2)
    password.add_argument("login")
    for parser in (adding, password):
        parser.add_argument("--new-password-file", type=Path, metavar="FILE", help="else it is asked for")
    for name, about in (
        ("disable", "keep an operator from signing in"),
        ("enable", "let an operator sign in again; ends a lock-out too"),
    ):
        group.command(name, _set_disabled, about, people=1).add_argument("login")
    group.command("list", _list_operators, "show all operators")


def _add_operator(session: Session) -> int:
    options = session.options
    new = Operator(options.login, options.name, operators.roles_from(options.role), options.language, options.station)
    password = session.secret(f"new password of {new.login}: ", options.new_password_file, twice=True)
    salt = session.world.nonce(operators.SALT_BYTES)

    async def work(books: Books) -> Operator:
        return await books.write(
            lambda connection: operators.add(
                connection, new, password, salt, by=books.someone, beside=books.second, origin=books.origin
            )
        )

    added = session.in_books(work)
    say(f"added {added.login}: {' '.join(sorted(added.roles))}")
    return WELL


def _set_password(session: Session) -> int:
    options = session.options
    password = session.secret(f"new password of {options.login}: ", options.new_password_file, twice=True)
    salt = session.world.nonce(operators.SALT_BYTES)

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: operators.set_password(
                connection,
                options.login,
                password,
                salt,
                by=books.first,
                beside=books.second,
                origin=books.origin,
            )
        )

    session.in_books(work)
    say(f"{options.login} has a new password")
    return WELL


def _set_disabled(session: Session) -> int:
    login, disabled = session.options.login, session.options.operators_command == "disable"

    async def work(books: Books) -> None:
        await books.write(
            lambda connection: operators.set_disabled(connection, login, disabled, by=books.first, origin=books.origin)
        )

    session.in_books(work)
    say(f"{login} {'can no longer' if disabled else 'can again'} sign in")
    return WELL


def _list_operators(session: Session) -> int:
    now = session.world.now()
    for one in session.in_books(lambda books: books.read(operators.everybody)):
        parts = [one.login, one.name, " ".join(sorted(one.roles)), one.language, one.station or "-"]
        if one.is_disabled:
            parts.append("disabled")
        if one.locked_until is not None and now < one.locked_until:
            parts.append(f"locked out until {session.minute(one.locked_until)}")
        say("  ".join(parts))
    return WELL


# --- audit ------------------------------------------------------------------------------------------------------------


def add_audit(group: Group) -> None:
    """Add the sub-commands of `audit`."""
    verifying = group.command("verify", _verify, "walk the whole chain; 1 if anything was changed")
    verifying.add_argument(
        "--seen", metavar="NUMBER:HASH", help="a last row as it was noted before: it must still be the same"
    )
    showing = group.command("show", _show, "show the last rows; not for a VENDOR alone", people=1)
    showing.add_argument("--last", type=int, default=20, metavar="N")
    showing.add_argument("--subject", help='of one subject only, as in "key 600801/2/2/4/2014" or a login')


def _verify(session: Session) -> int:
    witness = None
    if session.options.seen is not None:
        match = re.fullmatch(r"([0-9]{1,15}):([0-9a-f]{64})", session.options.seen)
        if match is None:
            raise Unusable("--seen: NUMBER:HASH expected, as `prepaid audit verify` shows it")
        witness = int(match[1]), match[2]
    verdict = session.in_books(lambda books: books.read(lambda connection: audit.verify(connection, witness)))
    if isinstance(verdict, Broken):
        say(f"BROKEN at row {verdict.seq}: {verdict.what}")
        return NO
    say(f"the chain holds: {verdict.count} rows; note the last one elsewhere: {verdict.count}:{verdict.head}")
    return WELL


def _show(session: Session) -> int:
    options = session.options
    count = min(max(options.last, 1), 10_000)

    async def work(books: Books) -> Iterable[audit.Row]:
        require_role(books.first, *(role for role in Role if role is not Role.VENDOR))
        return await books.read(lambda connection: audit.latest(connection, count, options.subject))

    rows = session.in_books(work)
    for row in rows:
        why = f"  because: {row.reason}" if row.reason else ""
        say(f"{row.seq}  {session.second(row.at)}  {row.who}  {row.deed}  {row.subject}  from {row.place}{why}")
        for name, values in (("before", row.before), ("after", row.after)):
            if values != "null":
                say(f"    {name}: {values}")
    return WELL
