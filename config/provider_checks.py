"""What must fit together in the settings of accounts at providers of money. Pure.

Each check is told a section's values, and gives its faults to the reader of the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from config.faults import Reader
from config.money import CheckoutSettings, MomoSettings, MpesaSettings, PaymentSettings
from config.settings import CallbackSettings, UtilitySettings

# Safaricom filters callback addresses that hold its names, and words of attackers; known, not re-checked.
FILTERED: Final = re.compile(r"m-?pesa|safaricom|\bexec?\b|\bcmd\b|\bsql\b|\bquery\b", re.IGNORECASE)
SHILLING_MINOR: Final = 100
_MPESA: Final = ("mpesa_stk", "mpesa_c2b")
_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


def mpesa(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """An account at Daraja."""
    _address(reader, table, where, values)
    _whole(reader, where, values, ("consumer_key", "consumer_secret"), ("initiator", "security_credential"))


def momo(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """An account at MTN MoMo."""
    _address(reader, table, where, values)
    transferring = ("disbursement_key", "disbursement_user", "disbursement_api_key")
    _whole(reader, where, values, ("subscription_key", "api_key"), transferring)


def checkout(reader: Reader, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
    """A payment product at Africa's Talking."""
    _address(reader, table, where, values)
    _whole(reader, where, values, ("api_key",), ())


def _address(reader: Reader, table: Mapping[str, Any], where: str, values: Mapping[str, Any]) -> None:
    """Credentials travel in the clear to this machine only, and never stand in the address."""
    try:
        url = urlsplit(values.get("base_url", "https://"))
        host, has_password = url.hostname, "@" in url.netloc
        _ = url.port
    except ValueError:
        reader.fault(f"{where}.base_url", table.get("base_url"), "an address", "one that cannot be read (not shown)")
        return
    if url.scheme == "http" and host not in _THIS_MACHINE:
        reader.fault(f"{where}.base_url", table.get("base_url"), "https, but for this machine", "http")
    if has_password:
        reader.fault(f"{where}.base_url", table.get("base_url"), "an address without a user", "one with (not shown)")


def _whole(
    reader: Reader, where: str, values: Mapping[str, Any], needed: Iterable[str], together: Iterable[str]
) -> None:
    """Credentials that must be there, and others of which all are or none."""
    for name in needed:
        if name in values and not values[name]:
            reader.fault(f"{where}.{name}", None, f"{name}_file or {name}_env", "none")
    given = {name: bool(values.get(name)) for name in together}
    for name, is_there in given.items():
        if any(given.values()) and not is_there:
            others = " and ".join(other for other in given if given[other])
            reader.fault(f"{where}.{name}", None, f"a value, since there is {others}", "none")


def callback_url(callbacks: CallbackSettings, source: PaymentSettings) -> str:
    """Where a provider reaches a source; empty where it cannot. A secret from here on: never log it."""
    path = path_of(source)
    return f"{callbacks.public_url}{path}" if callbacks.public_url and path else ""


def path_of(source: PaymentSettings) -> str:
    """Where the callbacks of a source come in; empty where none are taken, for nothing would prove whose they are."""
    secret = source.path_secret.reveal()
    if not secret and not source.addresses:
        return ""
    return f"/payments/{source.name}/{secret}" if secret else f"/payments/{source.name}"


def sources(
    reader: Reader,
    payments: Sequence[PaymentSettings],
    accounts: Mapping[str, Sequence[MpesaSettings | MomoSettings | CheckoutSettings]],
    utility: UtilitySettings,
    callbacks: CallbackSettings,
) -> None:
    """Each source of money and the account it names; `accounts` by their section."""
    for source in payments:
        section = {**dict.fromkeys(_MPESA, "mpesa"), "momo": "momo", "africastalking": "checkout"}.get(source.kind)
        if section is None:
            continue  # of another kind, without an account at a provider
        where, name = f"payment[{source.name}]", source.account or source.name
        account = next((one for one in accounts[section] if one.name == name), None)
        if account is None:
            reader.fault(f"{where}.account", source.account, f"the name of a [[{section}]] table", repr(name))
            continue
        if isinstance(account, MpesaSettings):
            _mpesa_source(reader, where, source, account, utility, callbacks)
        elif not (source.path_secret or source.addresses) and section == "checkout":
            reader.fault(where, None, "path_secret or addresses: notifications must prove whose they are", "neither")
    _shared(reader, payments, accounts["mpesa"])


def _mpesa_source(
    reader: Reader,
    where: str,
    source: PaymentSettings,
    account: MpesaSettings,
    utility: UtilitySettings,
    callbacks: CallbackSettings,
) -> None:
    if (utility.currency, utility.minor_digits) != ("KES", 2):
        came = f"{utility.currency} with {utility.minor_digits}"
        reader.fault("utility.currency", None, f"KES with 2 minor_digits, since {where} is M-Pesa's", came)
    if source.kind == "mpesa_stk":
        if source.collect and source.step_minor % SHILLING_MINOR:
            expected = f"a multiple of {SHILLING_MINOR}: M-Pesa takes whole shillings"
            reader.fault(f"{where}.step_minor", source.step_minor, expected, str(source.step_minor))
        if not account.passkey:
            expected = f"passkey_file or passkey_env, since {where} prompts"
            reader.fault(f"mpesa[{account.name}].passkey", None, expected, "none")
    url = callback_url(callbacks, source)
    if not url:
        expected = "path_secret or addresses, and [callbacks] public_url: what M-Pesa tells comes by callback"
        reader.fault(where, None, expected, "none")
    elif FILTERED.search(url):
        expected = "a name, a public_url and a path_secret that make an address without M-Pesa's and Safaricom's names"
        reader.fault(where, None, expected, "one that Safaricom filters (not shown)")


def _shared(
    reader: Reader,
    payments: Sequence[PaymentSettings],
    accounts: Sequence[MpesaSettings | MomoSettings | CheckoutSettings],
) -> None:
    """Both kinds on one shortcode: a prompt's payment is confirmed as C2B too, and would count twice without a mark."""
    shortcodes: dict[tuple[str, str], list[MpesaSettings]] = {}
    for source in payments:
        for account in accounts:
            if (
                source.kind in _MPESA
                and isinstance(account, MpesaSettings)
                and account.name == (source.account or source.name)
            ):
                for number in {account.shortcode, account.till} - {""}:
                    shortcodes.setdefault((number, source.kind), []).append(account)
    for (number, kind), mine in shortcodes.items():
        if len(mine) > 1:
            reader.fault(f"mpesa[{mine[1].name}].shortcode", number, f"one source of kind {kind} on it", "two")
        for other in shortcodes.get((number, "mpesa_c2b"), []) if kind == "mpesa_stk" else []:
            if not other.account_mark or other.account_mark != mine[0].account_mark:
                expected = "a letter, the same wherever mpesa_stk and mpesa_c2b share a shortcode"
                reader.fault(f"mpesa[{other.name}].account_mark", None, expected, repr(other.account_mark))
