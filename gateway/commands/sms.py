"""`prepaid sms`: links and who holds them, pause and drain, replies given up, what became of a receipt. Shell."""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from uuid import UUID

from gateway.keysession import WELL, Books, Group, Session, Unusable, say
from gateway.world import RealWorld, World
from ledger import links, sms
from ledger.links import LinkState, Slot, Wish
from ledger.operators import Role, require_role
from ledger.sms import Letter, NoLetter

# Who may hold back or let go what customers are owed.
_MAY_SET: Final = (Role.ENGINEER, Role.ADMIN)
_REPLAYED_AT_ONCE: Final = 200
_MAY_REPLAY: Final = (Role.SUPPORT, Role.SUPERVISOR, Role.ENGINEER, Role.ADMIN)


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `sms` to an argparse sub-parsers object; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "sms", "look at and steer links to message centres, and replies", world or RealWorld())
    group.command("links", _links, "every link: what is wanted of it, and which nodes hold it")
    for name, about in (
        ("pause", "send nothing by a link; it stays bound and takes messages. An ENGINEER or ADMIN"),
        ("resume", "let a link work again"),
        ("drain", "finish what a link has begun, unbind it, and keep it away until it is resumed"),
    ):
        group.command(name, _set, about, people=1).add_argument("link")
    dead = group.command("dead", _dead, "replies that were given up, the latest last")
    dead.add_argument("--last", type=int, default=20, metavar="N")
    replay = group.command("replay", _replay, "send a reply again that was given up, or all of them", people=1)
    replay.add_argument("id", nargs="?", help="as `dead` shows it")
    replay.add_argument("--all", action="store_true", help="every reply that was given up")
    replay.add_argument(
        "--detail", default="", metavar="TEXT", help="with --all: those whose last answer has this in it"
    )
    group.command("show", _show, "what became of the replies of a receipt number").add_argument("receipt")


# --- links ------------------------------------------------------------------------------------------------------------


def _links(session: Session) -> int:
    now = session.world.now()

    async def work(books: Books) -> tuple[dict[str, LinkState], list[Slot]]:
        return await books.read(links.wishes), await books.read(lambda connection: links.slots(connection, now))

    states, slots = session.in_books(work)
    configured = {link.name: link for link in session.settings.smpp}
    places = {name: f"{link.host}:{link.port}, {link.binds_max} binds" for name, link in configured.items()}
    places |= {one.name: f"Africa's Talking as {one.username}" for one in session.settings.africastalking}
    others = {*states, *(slot.link for slot in slots)} - places.keys()
    # Those with a colon are links that we dial to banks (`prepaid bank status`).
    for name in [*places, *sorted(name for name in others if ":" not in name)]:
        state, place = states.get(name), places.get(name, "not in these settings")
        wish = state.wish if state is not None else Wish.RUN
        said = ""
        if state is not None:
            why = f" because: {state.reason}" if state.reason else ""
            said = f", set by {state.set_by} {session.minute(state.set_at)}{why}"
        say(f"{name}  {wish}  {place}{said}")
        for slot in slots:
            if slot.link == name:
                who = f"held by {slot.node} until {session.second(slot.lease_until)}" if slot.is_held else "free"
                say(f"    bind {slot.slot}: {who}, changed hands {slot.fence} times")
    return WELL


def _set(session: Session) -> int:
    link = session.options.link
    wish = {"pause": Wish.PAUSED, "resume": Wish.RUN, "drain": Wish.DRAINED}[session.options.sms_command]
    names = [each.name for each in session.settings.smpp] + [each.name for each in session.settings.africastalking]
    if link not in names:
        raise Unusable(f"link {link}: one of {', '.join(names) or 'none, there are no links'} expected")

    async def work(books: Books) -> Wish:
        require_role(books.first, *_MAY_SET)
        return await books.write(lambda connection: links.set_wish(connection, link, wish, books.origin))

    before = session.in_books(work)
    within = session.settings.links.lease_s / 6
    say(f"link {link}: {wish}, was {before}; every node obeys within {within:.0f} s")
    return WELL


# --- replies ----------------------------------------------------------------------------------------------------------


def _dead(session: Session) -> int:
    at_most = min(max(session.options.last, 1), 10_000)
    letters = session.in_books(lambda books: books.read(lambda connection: sms.dead(connection, at_most=at_most)))
    for letter in letters:
        say(_line(session, letter))
    if not letters:
        say("no reply was given up")
    return WELL


def _replay(session: Session) -> int:
    given = session.options
    if bool(given.id) == given.all or (given.detail and not given.all):
        raise Unusable("replay: the number of one reply, or --all, perhaps with --detail, expected")
    if given.all:
        return _replay_all(session, given.detail)
    try:
        outbox_id = UUID(given.id)
    except ValueError:
        raise Unusable(f"reply {given.id}: a number as `prepaid sms dead` shows it expected") from None

    async def work(books: Books) -> Letter:
        require_role(books.first, *_MAY_REPLAY)
        return await books.write(lambda connection: sms.replay(connection, outbox_id, books.origin))

    try:
        letter = session.in_books(work)
    except NoLetter as error:
        raise Unusable(str(error)) from None
    say(f"reply {letter.id} to {_hidden(letter.recipient)} is owed again")
    return WELL


def _replay_all(session: Session, detail: str) -> int:
    async def work(books: Books) -> int:
        require_role(books.first, *_MAY_SET)
        count, after = 0, UUID(int=0)
        while True:  # a transaction for some at a time: the gateway sends meanwhile
            some = partial(sms.replay_all, origin=books.origin, detail=detail, after=after, at_most=_REPLAYED_AT_ONCE)
            letters = await books.write(some)
            if not letters:
                return count
            count, after = count + len(letters), letters[-1].id

    say(f"{session.in_books(work)} replies are owed again")
    return WELL


def _show(session: Session) -> int:
    receipt = session.options.receipt
    try:
        letters = session.in_books(lambda books: books.read(lambda connection: sms.of_receipt(connection, receipt)))
    except NoLetter as error:
        raise Unusable(str(error)) from None
    for letter in letters:
        say(_line(session, letter))
        for row in letter.sent:
            came = f"{row.state} {session.minute(row.state_at)}" if row.state and row.state_at else "no receipt yet"
            why = f", error {row.error}" if row.error else ""
            say(f"    part {row.part} of {row.parts} by {row.link}, message id {row.message_id}: {came}{why}")
        if letter.delivery:
            say(f"    as a whole: {letter.delivery}")
    return WELL


def _line(session: Session, letter: Letter) -> str:
    ended = f" {session.minute(letter.ended_at)}" if letter.ended_at is not None else ""
    detail = f"  {letter.detail}" if letter.detail else ""
    return (
        f"{letter.id}  {letter.message}  by {letter.channel} {letter.peer} to {_hidden(letter.recipient)}  "
        f"{letter.state}{ended}, {letter.attempts} attempts{detail}"
    )


def _hidden(phone: str) -> str:
    """A customer's number as far as people need it to talk about it."""
    return f"...{phone[-4:]}" if len(phone) > 4 else phone
