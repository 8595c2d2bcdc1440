"""`prepaid keys`: vending keys from file to sale, and the totals and dates that end them. Shell.

`add_commands` hangs `keys`, `operators` and `audit` under an argparse parser; each command ends with an exit code:
0 done, 1 the rules say no (or the report found something that is due, or the audit chain is broken), 2 what was given
cannot be used. Answers go to standard output, complaints to standard error.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from gateway import custody, modulewatch
from gateway.commands.operators import add_audit, add_operators
from gateway.custody import Order
from gateway.keptkeys import name_of
from gateway.keylock import add_lock
from gateway.keyplaces import module_names
from gateway.keysession import (
    NO,
    WELL,
    Books,
    Group,
    Session,
    Unusable,
    bytes_of,
    listed,
    minute,
    say,
    write_new,
)
from gateway.world import RealWorld, World
from ledger import operators, vendingkeys
from ledger.operators import Role
from ledger.vendingkeys import CustodyFault, CustodyRefused, KeyId, KeyRow, State, kwh
from sts.derivation import VendingKey
from sts.modules.contract import KeyStatus, ModuleError
from sts.modules.keyfile import TransferKey, hash_of, header_of, open_file
from sts.modules.keystore import FILE_BYTES_MAX, MASTER_KEY_BYTES, SALT_BYTES
from sts.modules.records import VendingKeyRecord

_DUE_DAYS: Final = 7  # the report's exit code says so from here on


def add_commands(subparsers: Any, *, world: World | None = None) -> None:
    """Add `keys`, `operators` and `audit` to an argparse sub-parsers object; each sets `run`, options to exit code."""
    hand = world or RealWorld()
    add_keys(Group(subparsers, "keys", "look after the sealed vending keys", hand))
    add_operators(Group(subparsers, "operators", "look after who may sign in", hand))
    add_audit(Group(subparsers, "audit", "verify and show the record of who did what", hand))


def add_keys(keys: Group) -> None:
    """Add the sub-commands of `keys`."""
    module: dict[str, Any] = {"metavar": "NAME", "help": "a security module of the settings (default: the key store)"}
    transfer_key: dict[str, Any] = {
        "type": Path,
        "metavar": "FILE",
        "help": "the transfer key; else a passphrase is asked",
    }

    for name, about in (
        ("new-master", "write a new master key to a file that does not exist yet"),
        ("new-transfer-key", "write a new transfer key, for files to one module, to a file that does not exist yet"),
    ):
        keys.command(name, _new_key, about, configured=False).add_argument("file", type=Path)

    adding = keys.command(
        "add", _add_key, "take in one more vending key; its hex digits are asked for", people=1, needed=False
    )
    adding.add_argument("--supply-group", required=True, metavar="SGC")
    adding.add_argument("--revision", required=True, type=int, metavar="KRN")
    adding.add_argument("--type", type=int, default=2, metavar="KT")
    adding.add_argument("--generation", type=int, choices=(2, 4), required=True, help="DKGA: 2 (8 bytes) or 4 (20)")
    adding.add_argument("--base-date", type=int, choices=(1993, 2014, 2035), default=2014)
    adding.add_argument("--expiry", type=int, default=255, metavar="KEN")
    adding.add_argument("--module", **module)

    registering = keys.command("register", _register, "enter keys that a module holds into the books", people=1)
    registering.add_argument("--module", **module)

    keys.command("list", _list_keys, "show the keys of every module by their check values")
    keys.command("report", _report, "totals against limits, and what ends soon; 1 if something is due")

    importing = keys.command("import", _import_file, "load a sealed transfer file; another person activates", people=1)
    importing.add_argument("file", type=Path)
    importing.add_argument("--module", **module)
    importing.add_argument("--transfer-key-file", **transfer_key)

    activating = keys.command("activate", _activate, "put loaded keys into use; not by whoever loaded them", people=1)
    activating.add_argument("key", nargs="+", metavar="KEY", help="as shown by `keys list`, or `all` that wait")

    suspending = keys.command("suspend", _suspend, "take an active key out of sale at once", people=1)
    suspending.add_argument("key", metavar="KEY")

    replacing = keys.command("replace", _replace, "take a key out of sale that a newer one replaces", people=2)
    replacing.add_argument("key", metavar="KEY")
    replacing.add_argument("--by", required=True, metavar="KEY", help="the active key that takes its place")

    destroying = keys.command("destroy", _destroy, "destroy a key for ever", people=2)
    destroying.add_argument("key", metavar="KEY")

    limiting = keys.command("limits", _set_limits, "set what a key may make in all; two people to raise", people=2)
    limiting.add_argument("key", metavar="KEY")
    limiting.add_argument("--tokens", metavar="N|none", help="tokens")
    limiting.add_argument("--units", metavar="KWH|none", help="kWh")

    add_lock(keys)

    exporting = keys.command("export", _export, "seal active keys for another module", people=2)
    exporting.add_argument("--module", required=True, metavar="NAME", help="the module that the file is for")
    exporting.add_argument("--out", type=Path, required=True, metavar="FILE", help="a file that does not exist yet")
    exporting.add_argument("--key", action="append", metavar="KEY", help="may be given again (default: all active)")
    exporting.add_argument("--days", type=int, default=14, help="the file must be loaded within (default: %(default)s)")
    exporting.add_argument("--refresh-days", type=int, help="a newer file must be activated within")
    exporting.add_argument("--tokens", metavar="N", help="tokens that each key may make there in all")
    exporting.add_argument("--units", metavar="KWH", help="kWh that each key may make there in all")
    exporting.add_argument("--transfer-key-file", **transfer_key)


def _new_key(session: Session) -> int:
    path = session.options.file
    write_new(path, session.world.nonce(MASTER_KEY_BYTES).hex().encode("ascii") + b"\n")
    say(
        f"a new master key is in {path}; whoever has it can open the key store, whoever loses it cannot"
        if session.options.keys_command == "new-master"
        else f"a new transfer key is in {path}; take it to the module's custodian by another way than the files"
    )
    return WELL


def _add_key(session: Session) -> int:
    options, place = session.options, session.place(session.options.module)
    try:
        raw = bytes.fromhex(session.secret("vending key, hex digits: ").strip())
    except ValueError:
        raise Unusable("vending key: hex digits expected") from None
    record = VendingKeyRecord(
        supply_group=options.supply_group,
        key_revision=options.revision,
        key_type=options.type,
        base_date=options.base_date,
        key_expiry=options.expiry,
        key=VendingKey(options.generation, raw),
    )
    missing = "" if options.as_login else session.no_books()
    if missing:
        if any(name_of(status) == record.name for status in place.held()):
            raise Unusable(f"key {custody.key_id_of(record.status, place.module)} is there already")
        place.put([record])
        registered = f"not in the books yet ({missing}): see `prepaid keys register`"
    else:

        async def work(books: Books) -> None:
            await books.write(
                lambda connection: custody.add(
                    connection, place, TransferKey(record), by=books.someone, origin=books.origin
                )
            )

        session.in_books(work)
        registered = "loaded; another person activates it"
    key = custody.key_id_of(record.status, place.module)
    say(f"sealed: key {key}, KCV {record.status.kcv}; {registered}")
    return WELL


def _register(session: Session) -> int:
    place = session.place(session.options.module)
    held = place.held()

    async def work(books: Books) -> list[KeyId]:
        return await books.write(
            lambda connection: custody.register_held(
                connection, held, module=place.module, by=books.first, origin=books.origin
            )
        )

    new = session.in_books(work)
    for key in new:
        say(f"key {key}: loaded; another person activates it")
    if not new:
        say(f"the books know every key of module {place.module} that has not ended")
    return WELL


def _list_keys(session: Session) -> int:
    held: dict[KeyId, KeyStatus] = {}
    away = []
    for name in module_names(session.settings):
        try:
            held |= {custody.key_id_of(status, name): status for status in session.place(name).held()}
        except ModuleError as trouble:
            away.append(f"module {name} was not looked at: {trouble.sentence}")
    rows = {}
    if not (missing := session.no_books()):
        rows = {row.id: row for row in session.in_books(lambda books: books.read(vendingkeys.report))}
    for key, status in held.items():
        state = rows[key].state if key in rows else "not in the books"
        say(
            f"{key}  supply group {status.supply_group} revision {status.key_revision} type {status.key_type} "
            f"DKGA{status.dkga:02d} base date {status.base_date} KEN {status.key_expiry} "
            f"KCV {status.kcv or 'not told'}  {state}"
        )
    for row in rows.values():
        if row.id not in held:
            say(f"{row.id}  not in module {row.module}, KCV {row.kcv or 'not told'}  {row.state}")
    for sentence in away:
        say(sentence)
    if missing:
        say(f"the books were not looked at: {missing}")
    return WELL


def _import_file(session: Session) -> int:
    options, place = session.options, session.place(session.options.module)
    raw = bytes_of(options.file, FILE_BYTES_MAX)
    session.file_hash = hash_of(raw)
    salt = None if options.transfer_key_file else header_of(raw).salt
    sealing_key = session.sealing_key(salt)

    async def work(books: Books) -> dict[KeyId, vendingkeys.Outcome]:
        operators.require_role(books.first, Role.KEY_CUSTODIAN)
        file = open_file(raw, sealing_key, module=place.module, now=books.origin.at)
        return await books.write(
            lambda connection: custody.load_file(connection, place, file, by=books.first, origin=books.origin)
        )

    for key, outcome in session.in_books(work).items():
        say(f"key {key}: {outcome}{'' if outcome == 'unchanged' else '; another person activates it'}")
    return WELL


def _activate(session: Session) -> int:
    held: dict[str, list[KeyStatus]] = {}

    async def work(books: Books) -> list[KeyRow]:
        if session.options.key == ["all"]:
            rows = await books.read(vendingkeys.report)
            keys = [row.id for row in rows if row.state is State.LOADED or row.pending]
            if not keys:
                raise CustodyRefused(CustodyFault.STATE, "no key waits to be activated")
        else:
            keys = [await books.key(text) for text in session.options.key]

        for name in {key.module for key in keys}:
            held[name] = session.place(name).held()

        def all_of_them(connection: Any) -> list[KeyRow]:
            return [
                custody.activate(connection, held[key.module], key, by=books.first, origin=books.origin) for key in keys
            ]

        return await books.write(all_of_them)

    for row in session.in_books(work):
        kcv = row.kcv or "not told by its module"
        say(f"key {row.id}: active, KCV {kcv}; loaded by {row.loaded_by}, activated by {row.activated_by}")
    say("a running gateway uses them within seconds")
    return WELL


def _suspend(session: Session) -> int:
    async def work(books: Books) -> KeyRow:
        key = await books.key(session.options.key)
        return await books.write(
            lambda connection: vendingkeys.suspend(connection, key, by=books.first, origin=books.origin)
        )

    say(f"key {session.in_books(work).id}: out of sale, everywhere, until another person activates it")
    return WELL


def _replace(session: Session) -> int:
    async def work(books: Books) -> KeyRow:
        key, newer = await books.key(session.options.key), await books.key(session.options.by)
        return await books.write(
            lambda connection: vendingkeys.replace(
                connection, key, newer, first=books.first, second=books.second, origin=books.origin
            )
        )

    row = session.in_books(work)
    say(f"key {row.id}: replaced by {row.replaced_by}; from now on it only makes key changes")
    return WELL


def _destroy(session: Session) -> int:
    async def work(books: Books) -> KeyId:
        key = await books.key(session.options.key)
        place = session.place(key.module)
        await books.write(
            lambda connection: custody.destroy(
                connection, place, key, first=books.first, second=books.second, origin=books.origin
            )
        )
        return key

    key = session.in_books(work)
    far = {section.name for section in session.settings.prism}
    also = "take it out of the module by its own tools" if key.module in far else "destroy the copies in backups too"
    say(f"key {key}: destroyed, it makes no token any more; {also}")
    return WELL


def _set_limits(session: Session) -> int:
    options = session.options
    if options.tokens is None and options.units is None:
        raise Unusable("--tokens or --units expected")

    async def work(books: Books) -> KeyRow:
        key = await books.key(options.key)
        old = (await books.read(lambda connection: vendingkeys.find(connection, key))).terms
        tokens = old.token_limit if options.tokens is None else _count(options.tokens)
        units = old.units_limit_tenths if options.units is None else _tenths(options.units)
        return await books.write(
            lambda connection: vendingkeys.set_limits(
                connection, key, tokens, units, first=books.first, second=books.second, origin=books.origin
            )
        )

    _say_totals(session.in_books(work))
    return WELL


def _export(session: Session) -> int:
    options, store = session.options, session.key_store()
    if options.out.exists():
        raise Unusable(f"{options.out}: there is such a file already")
    if not 1 <= options.days <= 366 or not (options.refresh_days is None or 1 <= options.refresh_days <= 3660):
        raise Unusable("--days: 1 to 366 expected; --refresh-days: 1 to 3660")
    salt = None if options.transfer_key_file else session.world.nonce(SALT_BYTES)
    sealing_key = session.sealing_key(salt, new=True)

    async def work(books: Books) -> None:
        order = Order(
            module=options.module,
            keys=tuple([await books.key(text) for text in listed(options.key)]),
            expires_at=books.origin.at + timedelta(days=options.days),
            refresh_by=books.origin.at + timedelta(days=options.refresh_days) if options.refresh_days else None,
            token_limit=_count(options.tokens or "none"),
            units_limit_tenths=_tenths(options.units or "none"),
        )
        raw, header, keys = await books.write(
            lambda connection: custody.export(
                connection,
                store,
                order,
                sealing_key=sealing_key,
                salt=salt,
                file_id=session.world.new_id(),
                first=books.first,
                second=books.second,
                origin=books.origin,
            )
        )
        # After the commit: a file that nobody recorded would be worse than a record without its file.
        write_new(options.out, raw)
        say(f"{options.out}: number {header.serial} for module {header.module}, SHA-256 {hash_of(raw)}")
        say(f"to be loaded before {minute(header.expires_at)}; {len(keys)} keys: {', '.join(map(str, keys))}")

    session.in_books(work)
    return WELL


def _report(session: Session) -> int:
    rows = session.in_books(lambda books: books.read(vendingkeys.report))
    now = session.world.now()
    for row in rows:
        _say_totals(row)
        if row.pending:
            say(f"    a newer file, loaded by {row.pending.loaded_by}, waits for another person")
    told = modulewatch.reports_now(session.settings)
    for report in told:
        if report.trouble:
            say(f"module {report.name} was not asked: {report.trouble}")
    found = custody.warnings(rows, now, modulewatch.endings(told))
    for warning in found:
        say(custody.sentence_of(warning))
    spent = [row for row in rows if row.state is State.ACTIVE and _is_spent(row)]
    for row in spent:
        say(f"key {row.id}: a limit is reached; it makes no more tokens")
    return NO if spent or any(warning.days <= _DUE_DAYS for warning in found) else WELL


def _say_totals(row: KeyRow) -> None:
    terms = row.terms
    parts = [f"{row.id}  {row.state}  module {row.module}  KCV {row.kcv or 'not told'}"]
    if terms.token_limit is not None:
        parts.append(f"tokens {row.tokens_made} of {terms.token_limit}")
    if terms.units_limit_tenths is not None:
        parts.append(f"kWh {kwh(row.units_made_tenths)} of {kwh(terms.units_limit_tenths)}")
    if terms.token_limit is None and terms.units_limit_tenths is None:
        parts.append("no limit")
    say("  ".join(parts))


def _is_spent(row: KeyRow) -> bool:
    terms = row.terms
    return (terms.token_limit is not None and row.tokens_made >= terms.token_limit) or (
        terms.units_limit_tenths is not None and row.units_made_tenths >= terms.units_limit_tenths
    )


def _count(text: str) -> int | None:
    if text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Unusable("--tokens: a whole number or none expected")
    return int(text)


def _tenths(text: str) -> int | None:
    if text == "none":
        return None
    match = re.fullmatch(r"([0-9]{1,14})(?:\.([0-9]))?", text)
    if match is None:
        raise Unusable("--units: kWh with at most one decimal, or none expected")
    return int(match[1]) * 10 + int(match[2] or 0)
