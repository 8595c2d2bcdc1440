"""`prepaid pins`: PINs and limits of phones, signed in and on record. A PIN is asked for, never on the command line."""

from __future__ import annotations

from functools import partial
from typing import Any

from gateway.commands.records import amount, answers, changing, looking, show
from gateway.keysession import WELL, Group, Session, Unusable
from gateway.world import RealWorld, World
from ledger import pins
from ledger.money import to_minor
from ledger.operators import SALT_BYTES


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `pins`; each sub-command sets `run`, options to exit code."""
    group = Group(subparsers, "pins", "PINs and limits of phones", world or RealWorld())
    for name, work, about in (
        ("set", _set, "set a phone's PIN, which is asked for; also unlocks it"),
        ("unlock", _unlock, "let a locked PIN be used again"),
        ("remove", _remove, "take a phone's PIN away: a new one is set by USSD"),
        ("show", _show, "whether a phone has a PIN, and its limits"),
    ):
        answers(group.command(name, work, about, people=1)).add_argument("phone", metavar="MSISDN")
    limiting = group.command("limits", _limits, "the most a station's phone may sell; SUPERVISOR or FINANCE", people=1)
    answers(limiting).add_argument("phone", metavar="MSISDN")
    for name in ("per-sale", "per-day"):
        limiting.add_argument(f"--{name}", required=True, metavar="MONEY", help="none: no limit")
    ruling = answers(group.command("rule", _rule, "when a station's phones need it; FINANCE or ADMIN", people=1))
    ruling.add_argument("station")
    ruling.add_argument("rule", choices=(*pins.RULES, "default"))
    ruling.add_argument("--amount", metavar="MONEY", help='with "above"')


def _answered(session: Session, said: str) -> int:
    show(session, {"phone": session.options.phone}, lambda: [f"phone {session.options.phone}: {said}"])
    return WELL


def _set(session: Session) -> int:
    phone, key = session.options.phone, session.settings.pins.key.reveal()
    if not key:
        raise Unusable("[pins] key: the settings name no key, which PINs are kept with")
    pin = session.secret("new PIN: ", twice=True)
    if not pins.is_pin(pin) or pins.is_weak(pin, phone):
        raise Unusable("PIN: 4 to 6 digits expected that are not easy to guess (not shown)")
    hashed = pins.pin_hash(pin, phone, key, session.world.nonce(SALT_BYTES))
    changing(session, f"phone {phone}", lambda connection, act: pins.set_pin(connection, act, phone, hashed))
    return _answered(session, "the PIN is set")


def _unlock(session: Session) -> int:
    changing(session, f"phone {session.options.phone}", partial(pins.unlock, msisdn=session.options.phone))
    return _answered(session, "the PIN can be used again")


def _remove(session: Session) -> int:
    changing(session, f"phone {session.options.phone}", partial(pins.remove, msisdn=session.options.phone))
    return _answered(session, "has no PIN any more")


def _show(session: Session) -> int:
    found = looking(session, partial(pins.standing, msisdn=session.options.phone))
    show(session, found, lambda: [f"{name}: {'-' if value is None else value}" for name, value in found.items()])
    return WELL


def _limits(session: Session) -> int:
    options = session.options
    per_sale, per_day = (
        None if text == "none" else amount(session, name, text)
        for name, text in (("--per-sale", options.per_sale), ("--per-day", options.per_day))
    )
    changing(
        session,
        f"phone {options.phone}",
        lambda connection, act: pins.set_limits(connection, act, options.phone, per_sale, per_day),
    )
    return _answered(session, f"may sell {options.per_sale} at once and {options.per_day} a day")


def _rule(session: Session) -> int:
    options = session.options
    if (options.rule == "above") != (options.amount is not None):
        raise Unusable('--amount: an amount with "above", and with nothing else')
    rule = "" if options.rule == "default" else options.rule
    if options.amount is not None:
        try:
            rule = f"above {to_minor(options.amount, session.settings.utility.minor_digits)}"
        except ValueError as error:
            raise Unusable(f"--amount: {error}") from None
    changing(session, f"station {options.station}", partial(pins.set_rule, station=options.station, rule=rule))
    show(
        session, {"station": options.station, "rule": rule}, lambda: [f"station {options.station}: {rule or 'default'}"]
    )
    return WELL
