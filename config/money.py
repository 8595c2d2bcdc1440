"""Settings of whoever brings money: banks, outside sources and their accounts, statements. Data."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from config.kinds import NO_SECRET, Between, FilePath, Name, Networks, Seconds, Secret, Text

Endpoint = Annotated[str, Text(0, 255, r"(\[?[A-Za-z0-9_.:-]+\]?:\d{1,5})?", 'a host and a port, "10.0.0.1:9583"')]
Endpoints = Annotated[
    str,
    Text(
        0,
        4096,
        r"(\[?[A-Za-z0-9_.:-]+\]?:\d{1,5}( \[?[A-Za-z0-9_.:-]+\]?:\d{1,5})*)?",
        'hosts and ports, separated by blanks, as in "10.0.0.1:9583 10.0.0.2:9583"',
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSettings:
    """One bank whose switch sells for its customers, over ISO 8583.

    `profile` is its dialect: the name of one that comes along, or a file. It dials us (`listen`), we dial it (`dial`),
    or both. `currency` is the utility's own, as the bank gives it in its messages: "404" or "KES".

    `zmk` is the key that others travel under: two or more components in hexadecimal, separated by white space, or the
    key itself; `zak` the first key for MACs, under the ZMK, with its check value behind it, as messages carry it.
    `reversals` and `answer_within_s` are the profile's where they are not given.
    """

    name: Name
    profile: Annotated[str, Text(1, 4096)] = "atm87"
    currency: Annotated[str, Text(3, 3, r"[A-Z]{3}|\d{3}", "three capital letters or three digits, ISO 4217")]
    listen: Endpoint = ""
    dial: Endpoints = ""
    addresses: Networks = ""
    tls: bool = False
    tls_certificate_file: FilePath = ""
    tls_key_file: FilePath = ""
    tls_ca_file: FilePath = ""
    tls_server_name: Annotated[str, Text(0, 255)] = ""
    tls_peer_names: Annotated[str, Text(0, 4096)] = ""
    institution: Annotated[str, Text(0, 11, r"\d{0,11}", "up to 11 digits")] = ""
    zmk: Secret = NO_SECRET
    zak: Secret = NO_SECRET
    reversals: Literal["", "accept_and_seal", "refuse"] = ""
    answer_within_s: Annotated[float, Between(0, 600)] = 0.0
    links_max: Annotated[int, Between(1, 64)] = 4
    half_open_max: Annotated[int, Between(1, 1_000)] = 8
    unanswered_max: Annotated[int, Between(1, 100_000)] = 1_000
    connect_timeout_s: Seconds = 10.0
    sign_on_timeout_s: Seconds = 30.0
    write_timeout_s: Seconds = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSettings:
    """One outside source of money; `kind` names what it speaks (`gateway/payments/registry.py`), `account` the table of
    the provider's account, [[mpesa]], [[momo]] or [[checkout]]; empty: the one of the same name.

    Its callbacks come to /payments/<name>/<path_secret>, or /payments/<name> without one; with neither path_secret nor
    addresses no callback is taken from it, it is only asked. `collect`: payers' phones are asked for money, those that
    begin with one of `prefixes` (empty: all), for amounts within the limits that `step_minor` divides. `instructions`
    are told to whoever cannot be asked. An order whose money has not come after `order_s` is closed.
    """

    name: Name
    kind: Name
    account: Annotated[str, Text(0, 40)] = ""
    path_secret: Secret = NO_SECRET
    addresses: Networks = ""
    collect: bool = True
    prefixes: Annotated[
        str, Text(0, 4096, r"([1-9]\d{0,14}( [1-9]\d{0,14})*)?", "beginnings of phone numbers, separated by blanks")
    ] = ""
    min_minor: Annotated[int, Between(1, 1_000_000_000)] = 1
    max_minor: Annotated[int, Between(1, 1_000_000_000)] = 1_000_000_000
    step_minor: Annotated[int, Between(1, 1_000_000)] = 1
    instructions: Annotated[str, Text(0, 160)] = ""
    order_s: Annotated[float, Between(10, 86_400)] = 600.0
    polls_per_s: Annotated[float, Between(0.1, 1_000)] = 10.0
    at_once_max: Annotated[int, Between(1, 1_000)] = 20
    suspense_days: Annotated[int, Between(0, 3_660)] = 30


WebAddress = Annotated[str, Text(8, 1024, r"https?://[^\s?#]+[^\s?#/]", "an address such as https://pay.example")]
Reference = Annotated[str, Text(1, 80, r"[!-~]+", "visible characters without blanks")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MpesaSettings:
    """One shortcode at Safaricom's Daraja, for sources of the kinds mpesa_stk and mpesa_c2b.

    `till` is paid where it is not the shortcode (Buy Goods). A success of more than `confirm_above_minor` counts once
    the query says the same. `account_mark` is put behind the account a prompt shows, where both kinds use the
    shortcode. With `initiator` and `security_credential` payments can be reversed.
    """

    name: Name
    base_url: WebAddress = "https://api.safaricom.co.ke"
    consumer_key: Secret = NO_SECRET
    consumer_secret: Secret = NO_SECRET
    shortcode: Annotated[str, Text(5, 7, r"\d+", "digits")]
    till: Annotated[str, Text(0, 9, r"\d*", "digits")] = ""
    passkey: Secret = NO_SECRET
    confirm_above_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    account_mark: Annotated[str, Text(0, 1, r"[A-Z]?", "a capital letter")] = ""
    initiator: Annotated[str, Text(0, 80)] = ""
    security_credential: Secret = NO_SECRET
    timeout_s: Seconds = 30.0
    connections_max: Annotated[int, Between(1, 1_000)] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MomoSettings:
    """One merchant at MTN MoMo: Collection, and with the keys of Disbursement transfers back to payers."""

    name: Name
    base_url: WebAddress = "https://proxy.momoapi.mtn.com"
    target: Name
    subscription_key: Secret = NO_SECRET
    api_user: Reference
    api_key: Secret = NO_SECRET
    disbursement_key: Secret = NO_SECRET
    disbursement_user: Annotated[str, Text(0, 80)] = ""
    disbursement_api_key: Secret = NO_SECRET
    callbacks: bool = True
    timeout_s: Seconds = 30.0
    connections_max: Annotated[int, Between(1, 1_000)] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSettings:
    """One payment product at Africa's Talking, whose mobile checkout asks payers."""

    name: Name
    base_url: WebAddress = "https://payments.africastalking.com"
    username: Reference
    api_key: Secret = NO_SECRET
    product: Annotated[str, Text(1, 80)]
    provider_channel: Annotated[str, Text(0, 40)] = ""
    confirm_above_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    timeout_s: Seconds = 30.0
    connections_max: Annotated[int, Between(1, 1_000)] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementSettings:
    """How the statements of one payment source are read and booked; `name` is the source's.

    `mapping` names a shipped one, or a .toml file. `provider` is what a file of several providers calls it (empty: the
    name). Without `check_fees` no fee differs; with it, one that is not `fee_percent` (half up) and `fee_minor`.
    """

    name: Name
    mapping: Annotated[str, Text(1, 4096)] = "neutral"
    provider: Annotated[str, Text(0, 80)] = ""
    bank: Name = "main"
    check_fees: bool = False
    fee_percent: Annotated[Decimal, Between(0, 100)] = Decimal("0")
    fee_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    missing_after_days: Annotated[int, Between(0, 1_000)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTextSettings:
    """Texts of an operator about payments, forwarded to us; `name` is the payment source that they are about.

    Only from `senders`, as the wire gives them, separated by blanks, and to `code` (empty: any). They make payments
    pending, no more: the source's statement is what brings the money.
    """

    name: Name
    senders: Annotated[str, Text(1, 4096)]
    code: Annotated[str, Text(0, 20)] = ""
    patterns_file: FilePath
