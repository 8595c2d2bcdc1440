"""`prepaid token selftest | make | verify | explain`: tokens by hand, for engineers and certifiers. Shell.

`add_commands` hangs the commands under an argparse parser; each ends with an exit code: 0 well, 1 the answer is no
(a row differs, a token is not ours), 2 what was given cannot be used. Answers go to standard output, complaints to
standard error, and with `--json` standard output holds JSON alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from config.settings import Settings
from gateway.commands.tokenmake import add_make
from gateway.commands.tokenoptions import (
    NO,
    WELL,
    Approve,
    FindMeter,
    FindSale,
    MakeInBooks,
    OpenModule,
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
    say_facts,
    settings_of,
    tables_from,
)
from gateway.world import RealWorld, World
from ledger.meters import SaleOfToken
from ledger.money import plain
from sts import bits
from sts.errors import Fault
from sts.explain import Candidate, Facts, explained, verdict_of
from sts.knownanswer import known_answers
from sts.selftest import Result, Tally, check_lines
from sts.tables import SAMPLE

VECTORS_BYTES_MAX: Final = 64 * 1024 * 1024

_SAMPLE_HINT: Final = "read with the sample EA07 tables: a token of a real EA07 meter cannot be recognised with them"


def add_commands(
    subparsers: Any,
    *,
    find_meter: FindMeter | None = None,
    find_sale: FindSale | None = None,
    make_in_books: MakeInBooks | None = None,
    open_module: OpenModule | None = None,
    approve: Approve | None = None,
    world: World | None = None,
) -> argparse.ArgumentParser:
    """Add `token` with its sub-commands to an argparse sub-parsers object; each sets `run`, options to exit code.

    All but the world reach into the books: a meter's keys, the sale of a token, an engineering token that stands in
    them, the modules with the keys in use, the people who make and approve a token. Without them keys are named by
    options alone, and whoever has the key store may use it.
    """
    about = "make, check and explain STS tokens by hand"
    token: argparse.ArgumentParser = subparsers.add_parser("token", help=about, description=about)
    what = token.add_subparsers(dest="token_command", required=True, metavar="WHAT")
    common: dict[str, Any] = {
        "find_meter": find_meter,
        "find_sale": find_sale,
        "make_in_books": make_in_books,
        "open_module": open_module,
        "approve": approve,
        "world": world or RealWorld(),
    }

    about = "known-answer test: compute every row of a vector file and compare"
    testing = what.add_parser(
        "selftest",
        help=about,
        description=about
        + ". One JSON line for each row that differs, is unreadable or is skipped, then a summary. Ends with 0 if no "
        "row differs or is unreadable, 1 otherwise, 2 if a file cannot be read or has no row.",
    )
    testing.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="JSON lines, a row each")
    testing.add_argument(
        "--tables", type=Path, metavar="FILE", help="operational EA07 tables, JSON: enc_sub1, enc_sub2, enc_perm"
    )
    testing.set_defaults(run=answering(_selftest), **common)

    about = "say what a token says to somebody without a key"
    explaining = what.add_parser("explain", help=about, description=about + ". Ends with 0, or 1 for wrong digits.")
    _add_token(explaining)
    explaining.set_defaults(run=answering(_explain), **common)

    about = "say whether a meter's key, or another key it had, made a token, and what it says"
    verifying = what.add_parser(
        "verify",
        help=about,
        description=about + ". Ends with 0 if the token is ours and good, 1 if not, 2 if that cannot be told.",
    )
    _add_token(verifying)
    add_identity(verifying, "")
    add_identity(verifying, "previous-")
    add_keys(verifying, "then, if --previous-... names another vending key, that one on a second line")
    add_offsets(verifying)
    verifying.set_defaults(run=answering(_verify), **common)

    add_make(what, common)
    return token


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("token", nargs="+", metavar="TOKEN", help="20 digits, in one piece or in groups of four")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


# --- selftest ---------------------------------------------------------------------------------------------------------


def _selftest(options: argparse.Namespace) -> int:
    tables = tables_from(options.tables)
    with options.vectors.open("rb") as file:
        raw = file.read(VECTORS_BYTES_MAX + 1)
    if len(raw) > VECTORS_BYTES_MAX:
        raise Unusable(f"vector file: at most {VECTORS_BYTES_MAX} bytes expected")
    tally = Tally()
    for finding in check_lines(raw.split(b"\n"), tables):
        tally.add(finding)
        if finding.result is not Result.PASSED:
            say(json.dumps(finding.as_json()))
    summary = tally.as_json() | {"tables": tables.name if tables else SAMPLE.name}
    if tables is not None:
        is_operational = known_answers(tables).operational_ea07
        summary["tables_known_answer"] = "passed" if is_operational else "failed"
        if not is_operational:
            sys.stderr.write(
                "prepaid token selftest: the tables do not make the published token of STS 531-1-0-02 CTSA01: they "
                "are not the operational EA07 tables\n"
            )
    say(json.dumps(summary))
    if not tally.rows:
        raise Unusable("vector file: at least one row expected")
    return WELL if tally.is_well else NO


# --- explain and verify -----------------------------------------------------------------------------------------------


def _explain(options: argparse.Namespace) -> int:
    facts = explained(" ".join(options.token))
    say_facts(facts, options.json)
    return NO if "fault" in facts else WELL


def _verify(options: argparse.Namespace) -> int:
    text = " ".join(options.token)
    outer = explained(text)
    has_keys = options.config is not None or options.test_key
    if outer.get("fault") == Fault.FORMAT or (not outer.get("needs_key") and ("fault" not in outer or not has_keys)):
        # No key can say more of it. With one, a wrong digit that changed the class can still be found.
        facts: Facts = {"ours": "fault" not in outer, **outer}
        say_facts(facts, options.json)
        return WELL if facts["ours"] else NO
    settings = settings_of(options)
    candidates = candidates_of(options, settings)
    present = candidates[0].key
    if (previous := changed(present, options, "previous_")) != present:
        candidates.append(Candidate("previous", previous))
    if settings is not None:
        module = configured_module(options, settings)
    elif options.test_key:
        module = module_under_test_keys(options, [(candidate.name, candidate.key) for candidate in candidates])
    else:
        raise Unusable("an encrypted token: --config FILE or --test-key expected")
    try:
        facts = verdict_of(text, candidates, module, calendar_of(options, settings))
    finally:
        let_go(module)
    facts |= _key_facts(facts, candidates)
    if settings is not None and options.find_sale is not None and facts.get("crc_fits"):
        facts |= _sale_facts(options.find_sale(settings, present.drn, bits.plain(text)), settings)
    if present.ea == 7 and not module.status().real_meters_accept_ea07:
        facts["warning"] = _SAMPLE_HINT
    say_facts(facts, options.json)
    return WELL if facts["ours"] else NO


_UNDONE: Final = {
    "SEALED": "sealed: the sale was reversed before anybody could see this token; if it turns up, it is to be charged",
    "REFUNDED": "refunded: the money of this token was given back",
}


def _sale_facts(sale: SaleOfToken | None, settings: Settings) -> Facts:
    """Which sale it was made in, if the books have it."""
    if sale is None:
        return {"sale": "none in the books"}
    amount = plain(sale.amount_minor, settings.utility.minor_digits)
    bought_at = sale.accepted_at.astimezone(settings.utility.zone)
    facts: Facts = {
        "sale": sale.receipt or str(sale.purchase_id),
        "bought": f"{bought_at:%Y-%m-%d %H:%M}",
        "paid": f"{amount} {settings.utility.currency}",
    }
    if sale.state in _UNDONE:
        facts["undone"] = _UNDONE[sale.state]
    return facts


def _key_facts(facts: Facts, candidates: Sequence[Candidate]) -> Facts:
    """Which key it was, in numbers; and what follows if it is not the present one."""
    for candidate in candidates:
        if candidate.name == facts.get("key"):
            key = candidate.key
            numbers: Facts = {
                "meter": key.drn,
                "supply_group": key.supply_group,
                "key_revision": key.key_revision,
                "key_type": key.key_type,
            }
            if candidate is not candidates[0]:
                numbers["note"] = f"the {candidate.name} key made it: the meter takes it only while it has that key"
            return numbers
    return {}
