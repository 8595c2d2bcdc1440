"""Vending keys between key store and books: which of them may be used, and deeds that change both. Shell: writes the
key store.

A key is used when three agree: the key store holds it, the books know it by the same check value for this module, and
two people have put it into use there. What the two say of its dates differs only while a newer file waits for
approval; the stricter holds.

The key store is a file and no part of the transaction. A deed that adds keys writes the file before it commits: a
crash in between leaves a key that the books do not know, which is not used, and the deed can be done again. Deeds that
change the file queue up for the audit log first, so there is one at a time, on any number of machines that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gateway.keyfile import write_keystore
from ledger import audit, vendingkeys
from ledger.audit import Origin
from ledger.operators import Operator, Role, require_role
from ledger.vendingkeys import (
    CustodyFault,
    CustodyRefused,
    Ending,
    KeyFile,
    KeyId,
    KeyRow,
    NewKey,
    Outcome,
    State,
    Terms,
)
from sts.modules.contract import KeyStatus
from sts.modules.keyfile import Header, TransferFile, TransferKey, hash_of, seal_file
from sts.modules.keystore import NONCE_BYTES, MasterKey, read_keystore, seal
from sts.modules.records import VendingKeyRecord

MODULE: Final = "software"
"""The name of the module that has the keys of the key store, unless told otherwise."""

WARN_DAYS: Final = (90, 30, 7)
"""How many days before its end a key or an authorisation is warned of."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The sealed key store of this installation. `nonce` draws random octets."""

    path: Path
    master_key: MasterKey
    nonce: Callable[[int], bytes]

    def held(self) -> list[KeyStatus]:
        """What it holds, without the keys."""
        return [record.status for record in self.records()]

    def records(self) -> list[VendingKeyRecord]:
        """What it holds; nothing if there is none yet."""
        return list(read_keystore(self.path, self.master_key)) if self.path.exists() else []

    def write(self, records: Sequence[VendingKeyRecord]) -> None:
        """Seal these anew in the place of all others; a crash leaves the old file or the new one."""
        write_keystore(self.path, seal(records, self.master_key, [self.nonce(NONCE_BYTES) for _ in records]))


@dataclass(frozen=True, slots=True)
class Admitted:
    """The keys that a module may be given, and a sentence for every one it may not."""

    records: tuple[VendingKeyRecord, ...]
    left_out: tuple[str, ...]


def admitted(records: Iterable[VendingKeyRecord], rows: Iterable[KeyRow], module: str = MODULE) -> Admitted:
    """Those of the key store's keys that the books say are in use for this module, under the stricter of both dates.

    A replaced key is among them, ending when it was replaced: the module makes no credit under it any more, but still
    enciphers the key changes of meters that have it.
    Without any row nothing is admitted: `prepaid keys register` and `prepaid keys activate` come first.
    """
    by_id = {row.id: row for row in rows}
    used, left_out = [], []
    for record in records:
        row = by_id.pop(key_id_of(record.status), None)
        if row is None:
            left_out.append(f"key {key_id_of(record.status)}: the key store holds it, the books do not know it")
        elif row.module != module:
            left_out.append(f"key {row.id}: it belongs to module {row.module}, and this is {module}")
        elif row.kcv != record.status.kcv:
            left_out.append(f"key {row.id}: check value {record.status.kcv} in the key store, {row.kcv} in the books")
        elif row.state is State.LOADED:
            left_out.append(f"key {row.id}: loaded, and not activated by a second person yet")
        elif row.state is State.DESTROYED:
            left_out.append(f"key {row.id}: destroyed, yet the key store holds it")
        else:
            used.append(_under_terms(record, row))
    for row in by_id.values():
        if row.module == module and row.state is State.ACTIVE:
            left_out.append(f"key {row.id}: active in the books, and the key store does not hold it")
    return Admitted(tuple(used), tuple(left_out))


def chooser(
    rows: Iterable[KeyRow], told: Callable[[str], None], module: str = MODULE
) -> Callable[[Iterable[VendingKeyRecord]], Iterable[VendingKeyRecord]]:
    """`admitted` as what loads a module wants it: records in, those that may be used out, the others `told`."""
    known = list(rows)

    def chosen(records: Iterable[VendingKeyRecord]) -> Iterable[VendingKeyRecord]:
        found = admitted(records, known, module)
        for sentence in found.left_out:
            told(sentence)
        return found.records

    return chosen


@dataclass(frozen=True, slots=True)
class KeyWarning:
    """An ending that is near. `days` is the threshold it fell under: 90, 30, 7, or 0 once it is over."""

    ending: Ending
    days: int
    left: timedelta


def warnings(rows: Iterable[KeyRow], now: datetime, modules: Iterable[Ending] = ()) -> list[KeyWarning]:
    """What ends within 90, 30 or 7 days, or is over, of keys that are loaded or active; the nearest first. Pure.

    `modules`: the ends of modules' authorisations as the modules tell them, of the kind AUTHORISATION.
    """
    found = []
    for ending in [*vendingkeys.endings(rows), *modules]:
        left = ending.ends_at - now
        under = [days for days in (*WARN_DAYS, 0) if left <= timedelta(days=days)]
        if under:
            found.append(KeyWarning(ending, under[-1], left))
    return sorted(found, key=lambda warning: (warning.ending.ends_at, warning.ending.subject, warning.ending.kind))


# --- deeds: functions of the transaction they are handed --------------------------------------------------------------


def sentence_of(warning: KeyWarning) -> str:
    """A warning in words."""
    ending = warning.ending
    ends = f"{ending.subject}: {ending.kind.replace('_', ' ')} {ending.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"{ends}, in {warning.left.days} days" if warning.days else f"{ends}, which is over"


def add(
    connection: Any, store: KeyStore, key: TransferKey, *, module: str, by: Operator | None, origin: Origin
) -> None:
    """Seal one more key and register it as LOADED. Refuses as `vendingkeys.register`, and DUPLICATE if it is held."""
    vendingkeys.register(connection, [new_key(key)], module=module, by=by, origin=origin)
    records = store.records()
    if any(record.name == key.record.name for record in records):
        raise CustodyRefused(
            CustodyFault.DUPLICATE, f"the key store holds a key {key_id_of(key.record.status)} already"
        )
    store.write([*records, key.record])


def load_file(
    connection: Any, store: KeyStore, file: TransferFile, *, by: Operator, origin: Origin
) -> dict[KeyId, Outcome]:
    """Register the keys of an opened transfer file and seal them into the key store, all or none.

    Refuses as `vendingkeys.register`, and OTHER_KEY where the key store holds another key of the same name.
    """
    known = KeyFile(
        file_id=file.header.file_id,
        module=file.header.module,
        serial=file.header.serial,
        file_hash=file.file_hash,
        key_count=len(file.keys),
        created_at=file.header.created_at,
        expires_at=file.header.expires_at,
    )
    outcomes = vendingkeys.register(
        connection,
        [new_key(key) for key in file.keys],
        module=file.header.module,
        by=by,
        origin=origin,
        file=known,
    )
    held = {record.name: record for record in store.records()}
    for key in file.keys:
        other = held.get(key.record.name)
        if other is not None and other.status.kcv != key.record.status.kcv:
            raise CustodyRefused(
                CustodyFault.OTHER_KEY,
                f"key {key_id_of(key.record.status)} has the check value {other.status.kcv} in the key store, and "
                f"{key.record.status.kcv} in the file",
            )
        held[key.record.name] = key.record
    store.write(list(held.values()))
    return outcomes


def register_held(
    connection: Any, held: Iterable[KeyStatus], *, module: str, by: Operator | None, origin: Origin
) -> list[KeyId]:
    """Register, as LOADED, the keys that a key store or a module holds and the books do not know; which they were.

    For installations from before the books knew of keys, and for modules that keep their keys inside. Keys whose dates
    are over are passed by.
    """
    if by is not None:
        require_role(by, Role.KEY_CUSTODIAN)
    known = {row.id for row in vendingkeys.report(connection)}
    new = [
        NewKey(key_id_of(status), status.kcv, _terms_of(status)) for status in held if key_id_of(status) not in known
    ]
    new = [key for key in new if not vendingkeys.is_over(key.id, key.terms, origin.at)]
    if new:
        vendingkeys.register(connection, new, module=module, by=by, origin=origin)
    return [key.id for key in new]


def activate(connection: Any, held: Iterable[KeyStatus], key: KeyId, *, by: Operator, origin: Origin) -> KeyRow:
    """Put a key into use, if the key store or module really holds it under the check value that was loaded.

    `held`: what it holds. Refuses as `vendingkeys.activate`, and NOT_HELD.
    """
    vendingkeys.find(connection, key)
    kcvs = [status.kcv for status in held if key_id_of(status) == key]
    if not kcvs:
        raise CustodyRefused(CustodyFault.NOT_HELD, f"key {key}: the key store does not hold it")
    return vendingkeys.activate(connection, key, kcv=kcvs[0], by=by, origin=origin)


def destroy(
    connection: Any, store: KeyStore, key: KeyId, *, first: Operator, second: Operator | None, origin: Origin
) -> None:
    """Record a key's destruction and take it out of the key store. Refuses as `vendingkeys.destroy`.

    What remains outside of this program's reach are copies: backups of the key store, and the memory of a running
    gateway until it starts anew.
    """
    vendingkeys.destroy(connection, key, first=first, second=second, origin=origin)
    records = store.records()
    rest = [record for record in records if key_id_of(record.status) != key]
    if len(rest) != len(records):
        store.write(rest)


@dataclass(frozen=True, slots=True)
class Order:
    """What an export shall hold: keys (none named: all that are active), for whom, until when, and their limits."""

    module: str
    keys: tuple[KeyId, ...]
    expires_at: datetime
    refresh_by: datetime | None = None
    token_limit: int | None = None
    units_limit_tenths: int | None = None


def export(
    connection: Any,
    store: KeyStore,
    order: Order,
    *,
    sealing_key: MasterKey,
    salt: bytes | None,
    file_id: UUID,
    first: Operator,
    second: Operator | None,
    origin: Origin,
) -> tuple[bytes, Header, list[KeyId]]:
    """A transfer file of active keys for another module, recorded; write it only after the commit.

    Refuses ROLE_MISSING, SECOND, SAME_PERSON, UNKNOWN, STATE, NOT_HELD.
    """
    audit.queue_up(connection)
    rows = {row.id: row for row in vendingkeys.report(connection)}
    wanted = order.keys or tuple(row.id for row in rows.values() if row.state is State.ACTIVE)
    held = {key_id_of(record.status): record for record in store.records()}
    keys = []
    for key in wanted:
        row = rows.get(key) or vendingkeys.find(connection, key)
        if row.state is not State.ACTIVE:
            raise CustodyRefused(CustodyFault.STATE, f"key {key} is {row.state}: only active keys are exported")
        if key not in held or held[key].status.kcv != row.kcv:
            raise CustodyRefused(CustodyFault.NOT_HELD, f"key {key}: the key store does not hold it")
        keys.append(
            TransferKey(_under_terms(held[key], row), order.refresh_by, order.token_limit, order.units_limit_tenths)
        )
    if not keys:
        raise CustodyRefused(CustodyFault.UNKNOWN, "no key is active, so there is nothing to export")
    header = Header(
        module=order.module,
        file_id=file_id,
        serial=vendingkeys.next_serial(connection, order.module),
        created_at=origin.at,
        expires_at=order.expires_at,
        salt=salt,
    )
    raw = seal_file(header, keys, sealing_key, store.nonce(NONCE_BYTES))
    known = KeyFile(
        file_id=file_id,
        module=order.module,
        serial=header.serial,
        file_hash=hash_of(raw),
        key_count=len(keys),
        created_at=header.created_at,
        expires_at=header.expires_at,
    )
    vendingkeys.record_export(connection, known, wanted, first=first, second=second, origin=origin)
    return raw, header, list(wanted)


def refused(connection: Any, deed: str, subject: str, origin: Origin, fault: str, file_hash: str | None = None) -> None:
    """Note in the audit log that a deed was refused; in a transaction of its own, since the deed's was rolled back."""
    audit.note(connection, origin, f"{deed}_refused", subject, None, {"fault": fault, "file_hash": file_hash})


def approve_sample_keys(
    connection: Any, records: Iterable[VendingKeyRecord], now: datetime, module: str = MODULE
) -> None:
    """Register and activate made-up keys by two made-up custodians; for demonstrations and tests alone."""
    tom, ida = (
        Operator(login, name, frozenset({Role.KEY_CUSTODIAN}), "en", None)
        for login, name in (("sec.tom", "Tom Key custodian"), ("sec.ida", "Ida Key custodian"))
    )
    by_tom, by_ida = (Origin(one.login, now, "demonstration", "sample keys") for one in (tom, ida))
    for key in (new_key(TransferKey(record)) for record in records):
        vendingkeys.register(connection, [key], module=module, by=tom, origin=by_tom)
        vendingkeys.activate(connection, key.id, kcv=key.kcv, by=ida, origin=by_ida)


# --- one thing in the words of the other ------------------------------------------------------------------------------


def key_id_of(status: KeyStatus) -> KeyId:
    """A key's name in the books."""
    return KeyId(status.supply_group, status.key_revision, status.key_type, status.dkga, status.base_date)


def new_key(key: TransferKey) -> NewKey:
    """A key as the books take it in: everything but the key."""
    status = key.record.status
    terms = replace(
        _terms_of(status),
        refresh_by=key.refresh_by,
        token_limit=key.token_limit,
        units_limit_tenths=key.units_limit_tenths,
    )
    return NewKey(key_id_of(status), status.kcv, terms)


def _terms_of(status: KeyStatus) -> Terms:
    return Terms(status.key_expiry, status.active_from, status.issued_until)


def _under_terms(record: VendingKeyRecord, row: KeyRow) -> VendingKeyRecord:
    """The record under the stricter of its own dates and the books'."""
    starts = [moment for moment in (record.active_from, row.terms.active_from) if moment is not None]
    ends = (record.issued_until, row.terms.issued_until, row.terms.refresh_by, row.replaced_at)
    return replace(
        record,
        key_expiry=min(record.key_expiry, row.terms.key_expiry),
        active_from=max(starts, default=None),
        issued_until=min((moment for moment in ends if moment is not None), default=None),
    )
