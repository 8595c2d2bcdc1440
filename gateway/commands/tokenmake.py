"""`prepaid token make`: one token, or a key-change set, by hand. Shell.

Credit is made only under a test key that is typed in, because what is made here is not sold. Under a key of the key
store there are engineering and key-change tokens, for a stated case, and each leaves a line in the log before it is
shown. An engineering token takes its token identifier from the meter's record and is stored, unless another one is
asked for.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from config.settings import Settings
from gateway import logs
from gateway.commands.tokenoptions import (
    WELL,
    Unusable,
    add_identity,
    add_keys,
    add_offsets,
    answering,
    calendar_of,
    candidates_of,
    changed,
    configured_module,
    let_go,
    module_under_test_keys,
    say,
    settings_of,
)
from gateway.world import World
from ledger.audit import Origin
from sts import amounts, bits
from sts import tid as tids
from sts.decode import digits_from, token_from
from sts.errors import Fault, NumberError
from sts.explain import UTC_CALENDAR, Calendar, Facts, facts_of, lines_of, rounding_of
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest, KeyChangeRequest, ManagementRequest, SecurityModule
from sts.numbers import is_digits
from sts.tokens import REGISTER_ALL, MeterFlag, MeterTest, MeterTestNumber, Resource, SetFlag

log = logging.getLogger(__name__)

CASE_CHARACTERS_MAX: Final = 80

SAMPLE_WARNING: Final = (
    "made with the sample EA07 tables that the standard prints as an example: real EA07 meters refuse this token"
)
BOOKS_WARNING: Final = (
    "this token stands in no book: a sale in the same minute takes the same TID, and the meter takes only one of them"
)

_RESOURCES: Final = {resource.name.lower(): resource for resource in Resource if resource <= Resource.TIME}
_REGISTERS: Final = {**{resource.name.lower(): int(resource) for resource in Resource}, "all": REGISTER_ALL}
_FLAGS: Final = {flag.name.lower(): flag for flag in MeterFlag}
_TESTS: Final = {test.name.lower(): test for test in MeterTestNumber}

_MAKE_ABOUT: Final = (
    "make a token by hand. Credit is made only under a --test-key; credit for customers is sold through the gateway. "
    "With --config, engineering and key-change tokens need --case, which is logged with them. An engineering token "
    "without --at and --tid gets its token identifier from the meter's record and stands in the books. Where there are "
    "operators an ENGINEER makes it, and another ENGINEER or a SUPERVISOR approves it. Class 1 needs no key."
)


def add_make(what: Any, common: dict[str, Any]) -> None:
    """Add `make` with its kinds of token to the sub-commands of `token`."""
    making = what.add_parser("make", help="make a token by hand, outside the books", description=_MAKE_ABOUT)
    kinds = making.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, about: str, build: Callable[[argparse.Namespace, _Bench], list[str]], tid: bool = True) -> Any:
        parser = kinds.add_parser(name, help=about, description=f"{about}. {_MAKE_ABOUT}")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parser.add_argument("--case", metavar="NUMBER", help="why this is made; needed with --config, and logged")
        for option, which in (("as", "who makes it"), ("with", "who approves it")):
            parser.add_argument(
                f"--{option}", dest=f"{option}_login", metavar="LOGIN", help=f"{which}: an operator, password asked for"
            )
            password = "--password-file" if option == "as" else "--with-password-file"
            parser.add_argument(password, dest=f"{option}_password", type=Path, metavar="FILE")
        add_identity(parser, "")
        add_keys(parser, "a key change to another vending key wants that one on a second line")
        add_offsets(parser)
        if tid:
            when = parser.add_mutually_exclusive_group()
            when.add_argument("--at", metavar="INSTANT", help="time of issue with its zone: 2026-03-01T13:55Z")
            when.add_argument("--tid", type=int, metavar="TID", help="token identifier, minutes since the base date")
            parser.add_argument("--rnd", type=int, metavar="N", help="0 to 15; by default drawn")
        parser.set_defaults(run=answering(_make), build=build, **common)
        return parser

    credit = kind("credit", "credit in units (class 0)", _credit)
    credit.add_argument("--units", required=True, metavar="AMOUNT", help="kWh, m3 or minutes: 25.6")
    credit.add_argument("--resource", choices=sorted(_RESOURCES), default="electricity")
    test = kind("test", "meter test or display (class 1)", _meter_test, tid=False)
    test.add_argument("--test", action="append", choices=sorted(_TESTS), default=[], help="may be repeated; else all")
    test.add_argument("--manufacturer", default="00", metavar="CODE", help="2 or 4 digits; 00, the default, for all")
    for name, subclass, about in (
        ("power-limit", 0, "power limit (class 2/0)"),
        ("phase-unbalance", 6, "limit of unbalance between phases (class 2/6)"),
    ):
        limit = kind(name, about, _management)
        limit.add_argument("--watts", dest="watts", type=int, required=True, metavar="W")
        limit.set_defaults(subclass=subclass)
    clear = kind("clear-credit", "set credit registers to zero (class 2/1)", _management)
    clear.add_argument("--register", choices=sorted(_REGISTERS), required=True)
    clear.set_defaults(subclass=1)
    for name, subclass, about in (
        ("tariff-rate", 2, "tariff rate (class 2/2), 16 bits whose meaning the utility settles"),
        ("water-factor", 7, "water meter factor (class 2/7), 16 bits as given"),
    ):
        value = kind(name, about, _management)
        value.add_argument("--value", type=int, required=True, metavar="N", help="0 to 65535")
        value.set_defaults(subclass=subclass)
    tamper = kind("clear-tamper", "end the tamper condition (class 2/5)", _management)
    tamper.set_defaults(subclass=5)
    flag = kind("flag", "set or clear a flag (class 2/10)", _management)
    flag.add_argument("--flag", choices=sorted(_FLAGS), required=True)
    state = flag.add_mutually_exclusive_group(required=True)
    state.add_argument("--on", dest="flag_value", action="store_const", const=True)
    state.add_argument("--off", dest="flag_value", action="store_const", const=False)
    flag.set_defaults(subclass=10)
    change = kind("key-change", "key-change set of 2 (EA07) or 4 (EA11) tokens", _key_change, tid=False)
    add_identity(change, "to-")


@dataclass(slots=True)
class _Bench:
    """What a token is made with. `settings` is None under a test key, `module` for class 1."""

    settings: Settings | None
    calendar: Calendar
    now: datetime
    key: MeterKey | None = None
    module: SecurityModule | None = None
    tid: int | None = None
    in_books: bool = False  # the TID came from the meter's row, and the token is stored
    origin: Origin | None = None  # who signed in for it
    notes: list[str] = field(default_factory=list)

    def note(self, text: str | None) -> None:
        """Something to say beside the token."""
        if text:
            self.notes.append(text)

    def tools(self) -> tuple[MeterKey, SecurityModule]:
        """Key and module of a token that is enciphered."""
        assert self.key is not None and self.module is not None
        return self.key, self.module


def _make(options: argparse.Namespace) -> int:
    if options.config is not None:
        if options.kind == "credit":
            raise Unusable(
                "a credit token made here would stand in no book: sell it through the gateway; "
                "for trials use --test-key with a test vending key"
            )
        case = (options.case or "").strip()
        if not case or len(case) > CASE_CHARACTERS_MAX or not case.isprintable():
            raise Unusable(f"--case: with --config a case number of up to {CASE_CHARACTERS_MAX} characters expected")
    settings = settings_of(options)
    if settings is not None:
        logs.set_up(settings.log)
    world: World = options.world
    bench = _Bench(settings, UTC_CALENDAR, world.now())
    if options.kind != "test":
        bench.calendar = calendar_of(options, settings)
        bench.key = candidates_of(options, settings)[0].key
        if settings is not None:
            if options.approve is not None:
                bench.origin = options.approve(options, world)
            bench.module = configured_module(options, settings)
        elif not options.test_key:
            raise Unusable("--config FILE or --test-key expected: only class 1 is made without a key")
    try:
        digits = options.build(options, bench)
        said = [_read_again(token, bench) for token in digits]
        if settings is not None:
            _audit(options, bench, said)
        _hand_out(options, bench, digits, said)
    finally:
        let_go(bench.module)
    return WELL


def _read_again(digits: str, bench: _Bench) -> Facts:
    """What the finished token says, read from its digits."""
    if bench.key is None or bench.module is None:
        return facts_of(token_from(digits, None))
    return facts_of(bench.module.verify(digits, bench.key), bench.key.base_date, bench.calendar)


def _audit(options: argparse.Namespace, bench: _Bench, said: Sequence[Facts]) -> None:
    # A warning, so that no usual log level drops it; before the token is shown, so that none is shown without it.
    key = bench.key
    log.warning(
        "tokens made by hand",
        extra={
            "case": options.case.strip(),
            "user_id": os.getuid(),
            "operator": bench.origin.who if bench.origin is not None else None,
            "kinds": [str(facts["kind"]) for facts in said],
            "says": [str(facts["says"]) for facts in said],
            "tid": bench.tid,
            **(
                {"meter": key.drn, "supply_group": key.supply_group, "key_revision": key.key_revision}
                if key is not None
                else {}
            ),
        },
    )


def _hand_out(options: argparse.Namespace, bench: _Bench, digits: Sequence[str], said: Sequence[Facts]) -> None:
    warnings = list(bench.notes)
    sample = bench.key is not None and bench.key.ea == 7 and not _takes_ea07(bench)
    if sample:
        warnings.append(SAMPLE_WARNING)
    if bench.tid is not None and not bench.in_books:
        warnings.append(BOOKS_WARNING)
    if options.json:
        tokens = [{"token": token, **facts} for token, facts in zip(digits, said, strict=True)]
        answer = {"tokens": tokens, "sample_ea07_tables": sample, "case": options.case, "warnings": warnings}
        say(json.dumps(answer))
        return
    for place, (token, facts) in enumerate(zip(digits, said, strict=True), start=1):
        if len(digits) > 1:
            say(f"token {place} of {len(digits)}")
        for line in lines_of({"token": bits.grouped(token), **facts}):
            say(line)
    if options.case:
        say(f"case: {options.case}")
    for warning in warnings:
        say(f"note: {warning}")


def _takes_ea07(bench: _Bench) -> bool:
    return bench.module is not None and bench.module.status().real_meters_accept_ea07


# Each of these makes the digits of one kind.


def _credit(options: argparse.Namespace, bench: _Bench) -> list[str]:
    units = amounts.units_up(_amount(options.units))
    if not units:
        raise Unusable("--units: more than 0 expected")
    field = amounts.field_up(units)
    bench.note(rounding_of(units))
    key, module = _under_test_key(options, bench)
    request = CreditRequest(key, int(_RESOURCES[options.resource]), _tid(options, bench), _rnd(options), field)
    return [module.make(request)]


def _meter_test(options: argparse.Namespace, bench: _Bench) -> list[str]:
    tests = [_TESTS[name] for name in options.test]
    return [digits_from(MeterTest.of(options.manufacturer, *tests), None)]


def _management(options: argparse.Namespace, bench: _Bench) -> list[str]:
    match options.subclass:
        case 0 | 6:
            value = amounts.field_up(options.watts)
            if amounts.units_of(value) != options.watts:
                bench.note(f"rounded up from {options.watts} W: the next value that a token can carry")
        case 1:
            value = _REGISTERS[options.register]
        case 2 | 7:
            value = options.value
        case 10:
            value = SetFlag(0, 0, _FLAGS[options.flag], options.flag_value).field
        case _:
            value = 0
    key, module = _under_test_key(options, bench)
    if bench.settings is not None and options.make_in_books is not None and options.tid is None and options.at is None:
        made = options.make_in_books(
            bench.settings, module, options.world, key.drn, options.subclass, value, _origin(options, bench)
        )
        bench.tid, bench.in_books = made.tid, True
        return [made.digits]
    request = ManagementRequest(key, options.subclass, _tid(options, bench), _rnd(options), value)
    if bench.settings is not None:
        # The key's dates are held against the clock here and against the TID below: no back-dating around them.
        module.make(request, now=bench.now)
    return [module.make(request)]


def _key_change(options: argparse.Namespace, bench: _Bench) -> list[str]:
    assert bench.key is not None
    new = changed(bench.key, options, "to_")
    if new == bench.key:
        raise Unusable("the key change changes nothing: at least one --to-... expected")
    if bench.module is None:
        bench.module = module_under_test_keys(options, [("present", bench.key), ("new", new)])
    bench.note("enter all tokens of the set, in any order; credit for the new key comes after them")
    return list(bench.module.make_set(KeyChangeRequest(bench.key, new), now=bench.now))


def _under_test_key(options: argparse.Namespace, bench: _Bench) -> tuple[MeterKey, SecurityModule]:
    """Key and module; without settings the vending key is read now, after everything else was found in order."""
    assert bench.key is not None
    if bench.module is None:
        bench.module = module_under_test_keys(options, [("test", bench.key)])
    return bench.tools()


def _origin(options: argparse.Namespace, bench: _Bench) -> Origin:
    """Who makes it and why, for the audit log: who signed in, or the account at this machine; and the case."""
    if bench.origin is not None:
        return bench.origin
    return Origin(getpass.getuser(), bench.now, platform.node() or "here", f"case {options.case.strip()}")


def _amount(text: str) -> Decimal:
    whole, _, rest = text.partition(".")
    if not is_digits(whole, len(whole)) or (rest and not is_digits(rest, len(rest))) or len(text) > 20:
        raise Unusable("--units: a decimal number such as 25.6 expected")
    return Decimal(text)


def _rnd(options: argparse.Namespace) -> int:
    world: World = options.world
    return world.nibble() if options.rnd is None else int(options.rnd)


def _tid(options: argparse.Namespace, bench: _Bench) -> int:
    """The TID asked for; under a key of the key store not further ahead of the clock than a sale's may be."""
    key, _ = bench.tools()
    base_offset = bench.calendar.base_offset_minutes
    if options.tid is not None:
        tid = int(options.tid)
    elif options.at is None:
        raise Unusable("--at or --tid expected: this token does not come from the books, which would give it one")
    else:
        tid = tids.tid_at(_instant(options.at), key.base_date, zone_offset_minutes=base_offset)
    if bench.settings is not None:
        ahead = tid - tids.clock_minute(bench.now, key.base_date, base_offset)
        if ahead > bench.settings.sts.tid_ahead_max_minutes:
            raise NumberError(
                Fault.TID_TOO_FAR_AHEAD,
                f"a time up to {bench.settings.sts.tid_ahead_max_minutes} minutes ahead of the clock expected",
            )
    bench.tid = tid
    return tid


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        raise Unusable("--at: a time with its zone expected, such as 2026-03-01T13:55Z or 2026-03-01T15:55+02:00")
    return at
