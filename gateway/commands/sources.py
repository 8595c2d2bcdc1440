"""`prepaid sources`: the outside sources of money that are set up, and telling Safaricom where it may call. Shell."""

from __future__ import annotations

from typing import Any, Final

from config.provider_checks import callback_url
from gateway.keysession import NO, WELL, Books, Group, Session, Unusable, say
from gateway.payments.contract import Asked, Declined, Unclear
from gateway.payments.mpesa_c2b import MpesaC2b
from gateway.payments.registry import made
from gateway.world import RealWorld, World
from ledger import audit
from ledger.operators import Role, require_role

# Who may change where a provider tells of money.
_MAY_REGISTER: Final = (Role.ENGINEER, Role.ADMIN)


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `sources` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "sources", "outside sources of money, as set up", world or RealWorld())
    group.command("list", _list, "every [[payment]] table: what it can do, and where it is called back")
    register = group.command(
        "register", _register, "tell Safaricom the two addresses of an mpesa_c2b source. An ENGINEER or ADMIN", people=1
    )
    register.add_argument("name", help="the name of its [[payment]] table")
    register.add_argument(
        "--when-unreachable",
        choices=("Cancelled", "Completed"),
        default="Cancelled",
        help="what becomes of payments that cannot be validated (default %(default)s)",
    )
    register.add_argument("--version", choices=("v1", "v2"), default="v2", help="of the API (default %(default)s)")


def _list(session: Session) -> int:
    for one, source in made(session.settings, session.world.now):
        can = ", ".join(sorted(source.can))
        called = callback_url(session.settings.callbacks, one)
        if one.path_secret:
            called = called.replace(one.path_secret.reveal(), "***")
        say(f"{one.name}  {one.kind}  {can}  {called or 'no callbacks'}")
    return WELL


def _register(session: Session) -> int:
    name, settings = session.options.name, session.settings
    one = next((each for each in settings.payment if each.name == name), None)
    if one is None or one.kind != "mpesa_c2b":
        known = [each.name for each in settings.payment if each.kind == "mpesa_c2b"]
        raise Unusable(f"source {name}: one of {', '.join(known) or 'none, there is no mpesa_c2b source'} expected")
    source = next(source for each, source in made(settings, session.world.now) if each is one)
    assert isinstance(source, MpesaC2b), "what the kind makes"
    session.subject = name

    async def work(books: Books) -> Asked | Declined | Unclear:
        require_role(books.first, *_MAY_REGISTER)
        wanted = {"when_unreachable": session.options.when_unreachable, "version": session.options.version}

        def note(deed: str, after: dict[str, str]) -> Any:
            return books.write(lambda connection: audit.note(connection, books.origin, deed, name, None, after))

        # Before and after: whatever becomes of this program between the two, it is known that somebody began.
        await note("sources.register", wanted)
        try:
            answer = await source.register(
                when_unreachable=session.options.when_unreachable, version=session.options.version
            )
        finally:
            await source.close()
        detail = "" if isinstance(answer, Asked) else answer.detail
        await note("sources.registered", {**wanted, "answer": type(answer).__name__, "detail": detail})
        return answer

    answer = session.in_books(work)
    if isinstance(answer, Asked):
        say(f"{name}: Safaricom has both addresses; what it cannot ask about is {session.options.when_unreachable}")
        return WELL
    words = "refused" if isinstance(answer, Declined) else "no answer, ask Safaricom which addresses it has"
    say(f"{name}: {words}: {answer.detail}")
    return NO
