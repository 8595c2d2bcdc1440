"""Tokens a second of one process: each way of making them, and beside each the bare cipher steps it needs."""

from __future__ import annotations

import hmac
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from Crypto.Cipher import DES

from sts.derivation import VendingKey, with_odd_parity
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from sts.numbers import MeterNumber
from sts.tid import TID_MAX
from tests.sts.softhsm import PIN, find_softhsm, softhsm

METERS = 4000
ROUNDS = 5
_DES = with_odd_parity(bytes(range(8)))
_HMAC = bytes(range(20))


def _records() -> list[VendingKeyRecord]:
    return [
        VendingKeyRecord("123456", 1, 2, 2014, 255, VendingKey(2, _DES)),
        VendingKeyRecord("123457", 1, 2, 2014, 255, VendingKey(4, _HMAC)),
    ]


def _requests(ea: int, dkga: int) -> list[CreditRequest]:
    group = "123456" if dkga == 2 else "123457"
    drns = [str(MeterNumber.from_body(f"{number:010d}").drn) for number in range(METERS)]
    keys = [MeterKey(drn, "600727", group, 2, "01", 1, 255, 2014, ea, dkga) for drn in drns]
    return [CreditRequest(key, 0, TID_MAX // 2, 5, 226) for key in keys]


def _best(run: Callable[[], object]) -> float:
    """Runs a second for METERS of them, the best of some rounds: the others were disturbed."""
    rates = []
    for _ in range(ROUNDS):
        began = perf_counter()
        run()
        rates.append(METERS / (perf_counter() - began))
    return max(rates)


def figures() -> Iterator[dict[str, object]]:
    """One line of figures for each way."""
    cipher, block, message = DES.new(_DES, DES.MODE_ECB), bytes(8), bytes(49)
    bare_des = _best(lambda: [cipher.encrypt(block) for _ in range(METERS)])
    bare_hmac = _best(lambda: [hmac.digest(_HMAC, message, "sha256") for _ in range(METERS)])
    for name, ea, dkga, bare, what in (
        ("EA07 with DKGA02", 7, 2, bare_des, "one DES block"),
        ("EA07 with DKGA04", 7, 4, bare_hmac, "one HMAC-SHA-256"),
        ("EA11 with DKGA04", 11, 4, bare_hmac, "one HMAC-SHA-256"),
    ):
        requests = _requests(ea, dkga)
        fresh = SoftwareModule(_records(), cache_size=0)
        ready = SoftwareModule(_records(), cache_size=METERS)
        ready.make_many(requests)
        yield {
            "name": f"tokens {name}",
            "derived_and_made_per_s": _best(lambda module=fresh, wanted=requests: module.make_many(wanted)),  # type: ignore[misc]
            "made_key_at_hand_per_s": _best(lambda module=ready, wanted=requests: module.make_many(wanted)),  # type: ignore[misc]
            "bare_per_s": bare,
            "bare": what,
        }
    if find_softhsm() is None:
        yield {"name": "tokens PKCS#11", "left_out": "SoftHSM2 is not installed"}
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield _pkcs11(Path(folder), _requests(7, 4))


def _pkcs11(folder: Path, requests: Sequence[CreditRequest]) -> dict[str, object]:
    import pkcs11 as library

    from sts.modules.pkcs11 import Pin, Pkcs11Module
    from sts.modules.pkcs11_token import import_vending_key, opened

    with softhsm(folder) as hsm:
        label = hsm.new_token()
        with opened(hsm.library, label, Pin(PIN)) as session:
            import_vending_key(session, _records()[1])
            key: Any = next(iter(session.get_objects({library.Attribute.CLASS: library.ObjectClass.SECRET_KEY})))
            message = bytes(49)
            bare = _best(lambda: [key.sign(message, mechanism=library.Mechanism.SHA256_HMAC) for _ in range(METERS)])
        module = Pkcs11Module(hsm.library, label, Pin(PIN), cache_size=0, answers_at_once=True)
        derived = _best(lambda: [module._derive(request.key) for request in requests])
        made = _best(lambda: module.make_many(requests))
        module.close()
    return {
        "name": "tokens PKCS#11, EA07 with DKGA04",
        "derived_per_s": derived,
        "derived_and_made_per_s": made,
        "bare_per_s": bare,
        "bare": "one HMAC of the library",
    }
