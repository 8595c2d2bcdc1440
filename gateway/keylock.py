"""`prepaid keys lock`: the key store under another lock: a passphrase, several custodians together, or a master key.

Shell: asks, and writes the key store. Two custodians sign in; whoever will open the key store types a passphrase of
their own, twice, or brings it in a file that only they can read. What is on disk is the old key store or the new one,
whatever crashes: the new one is written beside it, opened again with what was typed, and put in its place.

Before that, the intention is committed to the audit log, so no lock changes without a row; the row `keys.locked`
follows with the change. An older copy of the key store still opens by its old lock: destroy the copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.custody import KeyStore
from gateway.keyfile import write_keystore
from gateway.keysession import WELL, Books, Group, Session, Unusable, bytes_of, listed, say
from ledger import audit, operators
from ledger.audit import Origin
from ledger.operators import Role, require_two
from sts.modules.keystore import (
    MASTER_KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    CustodianLock,
    KeyLock,
    MasterKey,
    Passphrase,
    PassphraseLock,
    ScryptCost,
    custodians_key,
    lock_of,
    master_key_from,
    seal,
    unseal,
)

_FILE_MAX: Final = 4096
_COST: Final = ScryptCost()
_DUTY: Final = "locking the key store anew"


@dataclass(frozen=True, slots=True)
class NewLock:
    """What the key store shall open by, in words for the audit log, and what opens it: never shown."""

    about: dict[str, Any]
    key: MasterKey
    passphrases: dict[str, Passphrase]
    """By custodian; of a lock with one passphrase, under the empty name."""

    def opened(self, text: str) -> MasterKey:
        """The master key of a sealed text, made from what was typed, as the next start will make it."""
        lock = lock_of(text)
        if isinstance(lock, PassphraseLock):
            return lock.open(self.passphrases[""])
        if isinstance(lock, CustodianLock):
            return lock.open(self.passphrases)
        return self.key


def add_lock(keys: Group) -> None:
    """Add `keys lock`."""
    locking = keys.command(
        "lock", _lock, "put the key store under a passphrase, several custodians, or a master key; two people", people=2
    )
    how = locking.add_mutually_exclusive_group(required=True)
    how.add_argument("--passphrase", action="store_true", help="one new passphrase, typed twice")
    how.add_argument("--new-passphrase-file", type=Path, metavar="FILE", help="one new passphrase, from a file")
    how.add_argument(
        "--custodian",
        action="append",
        metavar="LOGIN[=FILE]",
        help="2 to 5 key custodians, all of whom are needed to open it; each types a new passphrase, or brings a file",
    )
    how.add_argument("--new-master-key-file", type=Path, metavar="FILE", help="a master key made by `keys new-master`")


def _lock(session: Session) -> int:
    store = session.key_store()
    records = store.records()  # whatever is wrong with the old lock is said before anybody types a new secret
    if not records:
        raise Unusable("the key store holds no key: `prepaid keys add` first")
    new = _new_lock(session)

    async def work(books: Books) -> None:
        require_two(books.first, books.second, Role.KEY_CUSTODIAN, _DUTY)
        assert books.second is not None
        for login in new.about.get("custodians", ()):
            operators.require_role(await books.read(partial(operators.find, login=login)), Role.KEY_CUSTODIAN)
        about = new.about | {"beside": books.second.login}
        await books.write(lambda connection: _note(connection, books.origin, "keys.lock_asked", store, about))
        await books.write(lambda connection: _relocked(connection, books.origin, store, new, about))

    session.in_books(work)
    say(f"the key store {store.path} opens by {_words(new.about)} from now on; destroy older copies of it")
    say("change [sts] to it before the gateway is started again; one that runs goes on")
    return WELL


def _relocked(connection: Any, origin: Origin, store: KeyStore, new: NewLock, about: dict[str, Any]) -> None:
    _note(connection, origin, "keys.locked", store, about)  # queues up, so nobody else writes the key store now
    records = store.records()
    text = seal(records, new.key, [store.nonce(NONCE_BYTES) for _ in records])
    if [record.status for record in unseal(text, new.opened(text))] != [record.status for record in records]:
        raise Unusable("the new key store does not open with what was typed; the old one is left")
    write_keystore(store.path, text)


def _note(connection: Any, origin: Origin, deed: str, store: KeyStore, about: dict[str, Any]) -> None:
    audit.note(connection, origin, deed, f"module {store.module}", _seen(store.master_key), about)


def _seen(key: MasterKey) -> dict[str, Any]:
    lock = key.lock
    if isinstance(lock, CustodianLock):
        return {"lock": "custodians", "custodians": list(lock.custodians)}
    return {"lock": "passphrase" if isinstance(lock, PassphraseLock) else "master key"}


def _words(about: dict[str, Any]) -> str:
    if about["lock"] == "custodians":
        return f"the passphrases of {', '.join(about['custodians'])} together"
    return "its passphrase" if about["lock"] == "passphrase" else "its master key"


def _new_lock(session: Session) -> NewLock:
    options, world = session.options, session.world
    if options.new_master_key_file is not None:
        key = master_key_from(session.secret("", options.new_master_key_file))
        assert isinstance(key.lock, KeyLock)
        return NewLock({"lock": "master key"}, key, {})
    if options.custodian:
        named = [entry.partition("=") for entry in listed(options.custodian)]
        passphrases = {
            login: _passphrase(session, f"new passphrase of {login}: ", Path(file) if file else None)
            for login, _, file in named
        }
        if len(passphrases) != len(named):
            raise Unusable("--custodian: each login once")
        shares = [world.nonce(MASTER_KEY_BYTES) for _ in passphrases]
        salts = [world.nonce(SALT_BYTES) for _ in passphrases]
        key = custodians_key(passphrases, shares=shares, salts=salts, cost=_COST)
        return NewLock({"lock": "custodians", "custodians": sorted(passphrases)}, key, passphrases)
    passphrase = _passphrase(session, "new passphrase of the key store: ", options.new_passphrase_file)
    return NewLock(
        {"lock": "passphrase"}, PassphraseLock(world.nonce(SALT_BYTES), _COST).open(passphrase), {"": passphrase}
    )


def _passphrase(session: Session, asked: str, path: Path | None) -> Passphrase:
    if path is None:
        return Passphrase(session.secret(asked, twice=True))
    try:
        return Passphrase(bytes_of(path, _FILE_MAX).decode("utf-8"))
    except UnicodeDecodeError:
        raise Unusable(f"{path}: UTF-8 text expected") from None
