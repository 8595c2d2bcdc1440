"""Vending keys between modules and books: which of them may be used, and deeds that change both. Shell: writes the
key store.

A key is used when three agree: the module holds it (the key store is one), the books know it by the same check value
for this module, and two people have put it into use there. What the two say of its dates differs only while a newer
file waits for approval; the stricter holds.

The key store is a file and no part of the transaction. A deed that adds keys writes the file before it commits: a
crash in between leaves a key that the books do not know, which is not used, and the deed can be done again. Deeds that
change the file queue up for the audit log first, so there is one at a time, on any number of machines that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

from gateway.keptkeys import is_used, name_of, stricter
from gateway.keyfile import write_keystore
from ledger import audit, vendingkeys
from ledger.audit import Origin
from ledger.operators import Operator, Role, require_role
from ledger.vendingkeys import (
    SOFTWARE,
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

WARN_DAYS: Final = (90, 30, 7)
"""How many days before its end a key or an authorisation is warned of."""


class KeyPlace(Protocol):
    """Where a module's vending keys lie: the key store, or a security module."""

    @property
    def module(self) -> str:
        """The module's name."""
        ...

    def held(self) -> list[KeyStatus]:
        """What is there, without the keys. Blocks."""
        ...

    def put(self, records: Sequence[VendingKeyRecord]) -> None:
        """Take these in, all or none, in the place of those of the same name. Blocks."""
        ...

    def take_out(self, key: KeyId) -> None:
        """Drop a key, if it is there. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The sealed key store of this installation. `nonce` draws random octets; `module` is its name in the books."""

    path: Path
    master_key: MasterKey
    nonce: Callable[[int], bytes]
    module: str = SOFTWARE

    def held(self) -> list[KeyStatus]:
        """What it holds, without the keys."""
        return [record.status for record in self.records()]

    def records(self) -> list[VendingKeyRecord]:
        """What it holds; nothing if there is none yet."""
        return list(read_keystore(self.path, self.master_key)) if self.path.exists() else []

    def put(self, records: Sequence[VendingKeyRecord]) -> None:
        """Seal these too, in the place of those of the same name. Refuses OTHER_KEY where one of those differs."""
        held = {record.name: record for record in self.records()}
        for record in records:
            other = held.get(record.name)
            if other is not None and other.status.kcv != record.status.kcv:
                raise CustodyRefused(
                    CustodyFault.OTHER_KEY,
                    f"key {key_id_of(record.status, self.module)} has the check value {other.status.kcv} in the key "
                    f"store, and {record.status.kcv} in what was brought",
                )
            held[record.name] = record
        self.write(list(held.values()))

    def take_out(self, key: KeyId) -> None:
        """Drop a key, if it is there."""
        records = self.records()
        rest = [record for record in records if record.name != key.name]
        if len(rest) != len(records):
            self.write(rest)

    def write(self, records: Sequence[VendingKeyRecord]) -> None:
        """Seal these anew in the place of all others; a crash leaves the old file or the new one."""
        write_keystore(self.path, seal(records, self.master_key, [self.nonce(NONCE_BYTES) for _ in records]))


@dataclass(frozen=True, slots=True)
class Admitted:
    """The keys that a module may be given, and a sentence for every one it may not."""

    records: tuple[VendingKeyRecord, ...]
    left_out: tuple[str, ...]


def admitted(records: Iterable[VendingKeyRecord], rows: Iterable[KeyRow], module: str = SOFTWARE) -> Admitted:
    """Those of the key store's keys that the books say are in use for this module, under the stricter of both dates.

    A replaced key is among them, ending when it was replaced: the module makes no credit under it any more, but still
    enciphers the key changes of meters that have it.
    Without any row nothing is admitted: `prepaid keys register` and `prepaid keys activate` come first.
    """
    known, held = list(rows), list(records)
    by_id = {row.id: row for row in known}
    used = [
        _under_terms(record, row)
        for record in held
        if (row := by_id.get(key_id_of(record.status, module))) and is_used(row.use, record.status)
    ]
    return Admitted(tuple(used), left_out([record.status for record in held], known, module))


def left_out(held: Iterable[KeyStatus], rows: Iterable[KeyRow], module: str) -> tuple[str, ...]:
    """A sentence for every key that a module holds and may not use, and for every active one that it lacks."""
    by_id = {row.id: row for row in rows if row.module == module}
    sentences = []
    for status in held:
        key = key_id_of(status, module)
        row = by_id.pop(key, None)
        if row is None:
            sentences.append(f"key {key}: the module holds it, the books do not know it")
        elif row.state is State.LOADED:
            sentences.append(f"key {key}: loaded, and not activated by a second person yet")
        elif row.state is State.DESTROYED:
            sentences.append(f"key {key}: destroyed, yet the module holds it")
        elif not is_used(row.use, status):
            sentences.append(f"key {key}: check value {status.kcv or 'none'} in the module, {row.kcv} in the books")
    for row in by_id.values():
        if row.state is State.ACTIVE:
            sentences.append(f"key {row.id}: active in the books, and the module does not hold it")
    return tuple(sentences)


def is_in_use(status: KeyStatus, rows: Iterable[KeyRow], module: str) -> bool:
    """Whether the books have this key of a module in use."""
    key = key_id_of(status, module)
    return any(row.id == key and is_used(row.use, status) for row in rows)


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


def add(connection: Any, place: KeyPlace, key: TransferKey, *, by: Operator | None, origin: Origin) -> None:
    """Take in one more key, registered as LOADED. Refuses as `vendingkeys.register`, and DUPLICATE if it is held."""
    new = new_key(key, place.module)
    vendingkeys.register(connection, [new], by=by, origin=origin)
    if any(name_of(status) == new.id.name for status in place.held()):
        raise CustodyRefused(CustodyFault.DUPLICATE, f"module {place.module} holds a key {new.id} already")
    place.put([key.record])


def load_file(
    connection: Any, place: KeyPlace, file: TransferFile, *, by: Operator, origin: Origin
) -> dict[KeyId, Outcome]:
    """Register the keys of an opened transfer file and put them into their module, all or none.

    Refuses as `vendingkeys.register`, and OTHER_KEY where the module holds another key of the same name.
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
        [new_key(key, place.module) for key in file.keys],
        by=by,
        origin=origin,
        file=known,
    )
    place.put([key.record for key in file.keys])
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
    audit.queue_up(connection)
    known = {row.id for row in vendingkeys.report(connection)}
    found = [NewKey(key_id_of(status, module), status.kcv, _terms_of(status)) for status in held]
    new = [key for key in found if key.id not in known and not vendingkeys.is_over(key.terms, origin.at)]
    if new:
        vendingkeys.register(connection, new, by=by, origin=origin)
    return [key.id for key in new]


def activate(connection: Any, held: Iterable[KeyStatus], key: KeyId, *, by: Operator, origin: Origin) -> KeyRow:
    """Put a key into use, if its module (the key store is one) really holds it under the check value that was loaded.

    `held`: what the module holds. Refuses as `vendingkeys.activate`, and NOT_HELD.
    """
    audit.queue_up(connection)
    vendingkeys.find(connection, key)
    kcvs = [status.kcv for status in held if name_of(status) == key.name]
    if not kcvs:
        raise CustodyRefused(CustodyFault.NOT_HELD, f"key {key}: module {key.module} does not hold it")
    return vendingkeys.activate(connection, key, kcv=kcvs[0], by=by, origin=origin)


def destroy(
    connection: Any,
    place: KeyPlace,
    key: KeyId,
    *,
    first: Operator,
    second: Operator | None,
    origin: Origin,
) -> None:
    """Record a key's destruction and take it out of its module. Refuses as `vendingkeys.destroy`.

    What remains outside of this program's reach are copies: backups of the key store.
    """
    vendingkeys.destroy(connection, key, first=first, second=second, origin=origin)
    place.take_out(key)


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
    own = [row for row in rows.values() if row.module == store.module]
    wanted = order.keys or tuple(row.id for row in own if row.state is State.ACTIVE)
    held = {key_id_of(record.status, store.module): record for record in store.records()}
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
    connection: Any, records: Iterable[VendingKeyRecord], now: datetime, module: str = SOFTWARE
) -> None:
    """Register and activate made-up keys by two made-up custodians; for demonstrations and tests alone."""
    tom, ida = (
        Operator(login, name, frozenset({Role.KEY_CUSTODIAN}), "en", None)
        for login, name in (("sec.tom", "Tom Key custodian"), ("sec.ida", "Ida Key custodian"))
    )
    by_tom, by_ida = (Origin(one.login, now, "demonstration", "sample keys") for one in (tom, ida))
    for key in (new_key(TransferKey(record), module) for record in records):
        vendingkeys.register(connection, [key], by=tom, origin=by_tom)
        vendingkeys.activate(connection, key.id, kcv=key.kcv, by=ida, origin=by_ida)


# --- one thing in the words of the other ------------------------------------------------------------------------------


def key_id_of(status: KeyStatus, module: str = SOFTWARE) -> KeyId:
    """A key's name in the books."""
    return KeyId(*name_of(status), module)


def new_key(key: TransferKey, module: str = SOFTWARE) -> NewKey:
    """A key as the books take it in: everything but the key."""
    status = key.record.status
    terms = replace(
        _terms_of(status),
        refresh_by=key.refresh_by,
        token_limit=key.token_limit,
        units_limit_tenths=key.units_limit_tenths,
    )
    return NewKey(key_id_of(status, module), status.kcv, terms)


def _terms_of(status: KeyStatus) -> Terms:
    return Terms(status.key_expiry, status.active_from, status.issued_until)


def _under_terms(record: VendingKeyRecord, row: KeyRow) -> VendingKeyRecord:
    """The record under the stricter of its own dates and the books'."""
    terms = stricter(record.status, row.use)
    return replace(record, key_expiry=terms.key_expiry, active_from=terms.active_from, issued_until=terms.issued_until)
