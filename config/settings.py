"""Every setting of the product, a section per part, with its default and its range. Data: no I/O, no clock.

Units stand in the names: `_s` seconds, `_minor` minor units of the currency, `_percent` exact decimals.
The type of a field says what may stand in it: `Annotated[int, Between(1, 65535)]` is a number in that range.
`config/load.py` reads these types; `config/sample.toml` explains every field and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from config.kinds import NO_SECRET, Between, Count, FilePath, Name, Networks, Seconds, Secret, Text, hints_of
from config.money import (
    BankSettings,
    CheckoutSettings,
    MomoSettings,
    MpesaSettings,
    OperatorTextSettings,
    PaymentSettings,
    SettlementSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """This process among its like."""

    node: Name = "node-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilitySettings:
    """Whose electricity is sold, and in which money."""

    code: Name = "DEMO"
    name: Annotated[str, Text(1, 80)] = "Demo Electricity"
    sms_name: Annotated[str, Text(0, 11)] = ""
    currency: Annotated[str, Text(3, 3, r"[A-Z]{3}", "three capital letters, ISO 4217")] = "USD"
    minor_digits: Annotated[int, Between(0, 4)] = 2
    timezone: Annotated[str, Text(1, 64)] = "UTC"
    default_language: Annotated[str, Text(2, 16, r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", 'a language tag such as "en"')] = (
        "en"
    )
    debt_cap_percent: Annotated[Decimal, Between(0, 100)] = Decimal("50")
    iin: Annotated[str, Text(4, 6, r"\d{4}|\d{6}", "4 or 6 digits")] = "600727"

    @property
    def zone(self) -> ZoneInfo:
        """The utility's own time."""
        return ZoneInfo(self.timezone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """What one channel costs the customer, tax included, and how it may take a sale back."""

    fee_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    reversals: Literal["accept_and_seal", "refuse"] = "accept_and_seal"
    reversal_window_minutes: Annotated[int, Between(0, 100_000)] = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the books are. `url` never holds the password: the loader moves it to `password`."""

    url: Annotated[str, Text(1, 1024)] = "sqlite:///var/prepaid.db"
    password: Secret = NO_SECRET
    batch_max: Annotated[int, Between(1, 10_000)] = 256
    queue_max: Count = 10_000
    statement_timeout_s: Seconds = 30.0

    def url_with_password(self) -> str:
        """The address as a driver wants it. A secret from here on: never log it."""
        if not self.password:
            return self.url
        parts = urlsplit(self.url)
        user, _, place = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}:{quote(self.password.reveal(), safe='')}@{place}").geturl()


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseSettings:
    """How long a purchase may take, and what counts as the same purchase again.

    `paid_patience_s`: so long a module is asked for the token of a purchase that outside money came in for.
    """

    reservation_timeout_s: Seconds = 600.0
    give_up_s: Seconds = 60.0
    just_bought_window_s: Annotated[float, Between(0, 86_400)] = 120.0
    resume_every_s: Seconds = 15.0
    paid_patience_s: Annotated[float, Between(60, 604_800)] = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSettings:
    """How much one phone may ask, and one meter may be bought for, in a short time; 0 is no limit.

    `requests_per_sender_max` in `sender_window_s`, by each node for itself; stations' phones are exempt.
    `purchases_per_meter_max` in [purchase] just_bought_window_s. `copies_per_hour_max`: of the token of one purchase,
    and to one phone.
    """

    requests_per_sender_max: Annotated[int, Between(0, 1_000_000)] = 60
    sender_window_s: Seconds = 60.0
    purchases_per_meter_max: Annotated[int, Between(0, 1_000_000)] = 10
    copies_per_hour_max: Annotated[int, Between(0, 1_000_000)] = 3


PinRule = Literal["off", "above", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinSettings:
    """PINs of phones: when a purchase by SMS or USSD takes one, and how many wrong ones lock it.

    `key` goes into every stored PIN and voucher, and never into the database: its text comes from `key_file` or
    `key_env`. Without it there are neither PINs nor vouchers. A station may have a rule of its own.
    """

    key: Secret = NO_SECRET
    customers: PinRule = "off"
    customers_above_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    stations: PinRule = "off"
    stations_above_minor: Annotated[int, Between(0, 1_000_000_000)] = 0
    tries_max: Annotated[int, Between(1, 100)] = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherSettings:
    """Vouchers: whether they are taken, and the most that a batch may hold. Money in minor units."""

    taken: bool = False
    wrong_per_day_max: Annotated[int, Between(1, 1_000)] = 5
    value_max_minor: Annotated[int, Between(1, 1_000_000_000)] = 1_000_000
    batch_max: Annotated[int, Between(1, 100_000)] = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletSettings:
    """The most that may be paid from one wallet by SMS and USSD, in minor units; 0 is no limit.

    `top_up_word` stands beside money for a wallet where a meter number would stand: payers see and write it.
    """

    per_payment_max_minor: Annotated[int, Between(0, 1_000_000_000_000)] = 0
    per_day_max_minor: Annotated[int, Between(0, 1_000_000_000_000)] = 0
    top_up_word: Annotated[str, Text(2, 11, r"[A-Z]+", "capital letters")] = "WALLET"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionSettings:
    """What two people of the back office may correct."""

    refund_days: Annotated[int, Between(0, 3_660)] = 30
    units_max_tenths: Annotated[int, Between(1, 18_201_624)] = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How replies owed are sent, and sent again."""

    # Longer than a message centre may take to answer, else another node sends the same reply meanwhile.
    lease_s: Seconds = 180.0
    poll_every_s: Seconds = 5.0
    attempts_max: Annotated[int, Between(1, 10_000)] = 30
    in_flight_max: Annotated[int, Between(1, 100_000)] = 200
    retry_min_s: Seconds = 5.0
    retry_max_s: Seconds = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSettings:
    """Sales at a station's terminal, and the cash that is counted there.

    `denominations` are notes and coins in currency units, separated by blanks; empty: any.
    """

    wait_s: Seconds = 30.0
    denominations: Annotated[
        str, Text(0, 400, r"(\d+(\.\d+)?( \d+(\.\d+)?)*)?", 'amounts separated by blanks, as in "1000 500 0.50"')
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksSettings:
    """What holds for all links to message centres: who holds them, and what is kept of messages.

    `lease_s`: a node that dies is replaced on its links after this time and `clock_skew_s`, by which the clocks of two
    nodes may differ. `part_timeout_s`: so long the missing part of a long message is waited for.
    `second_route_after_s`: a reply without a good receipt after this time goes out by another link, once; 0 for never.
    """

    lease_s: Annotated[float, Between(1, 3_600)] = 30.0
    clock_skew_s: Annotated[float, Between(0, 600)] = 2.0
    part_timeout_s: Annotated[float, Between(1, 86_400)] = 300.0
    second_route_after_s: Annotated[float, Between(0, 86_400)] = 120.0
    sent_kept_days: Annotated[int, Between(1, 3_650)] = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class StsSettings:
    """Meter tokens: where the vending keys are, and how far token identifiers may run ahead of the clock.

    `master_key` seals the key store; its text comes from `master_key_file` or `master_key_env`, never from the
    settings file itself. A key store may be locked by a passphrase instead, or by those of several custodians; what is
    not given here is asked for at the terminal.
    """

    keystore: FilePath = ""
    module: Name = "software"
    master_key: Secret = NO_SECRET
    passphrase: Secret = NO_SECRET
    custodian_files: Annotated[str, Text(0, 4096)] = ""
    ea07_tables: FilePath = ""
    tid_ahead_max_minutes: Annotated[int, Between(1, 525_600)] = 30
    # Token identifiers count minutes of this zone, east of Greenwich positive: 0 (UTC) since edition 3 of the standard,
    # local time in older installations.
    base_date_offset_minutes: Annotated[int, Between(-840, 840)] = 0
    key_change: Literal["with_sale", "separate"] = "with_sale"
    key_change_confirmed_by: Literal["operator", "next_sale"] = "operator"
    engineering_tokens: Literal["two_people", "one_person"] = "two_people"
    decoder_key_cache: Annotated[int, Between(0, 10_000_000)] = 10_000
    sell_unseen_again: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Where health and metrics are served. Port 0 takes any free one, for tests."""

    host: Annotated[str, Text(1, 255)] = "127.0.0.1"
    port: Annotated[int, Between(0, 65_535)] = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How much is logged, and for whom."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppSettings:
    """One link to a message centre.

    Lengths of the texts are those of the SMPP 3.4 fields without their closing NUL (paragraph 5.2); passwords
    may be longer than its 8 octets, because some message centres take 16. `centre` is the message centre behind the
    link, whose message ids all links to it share; empty: this link alone leads to it, and it has the link's name.
    """

    name: Name
    centre: Annotated[
        str, Text(0, 40, r"([A-Za-z0-9][A-Za-z0-9_.-]*)?", "letters, digits, dots, dashes and underscores")
    ] = ""
    host: Annotated[str, Text(1, 255)]
    port: Annotated[int, Between(1, 65_535)] = 2775
    system_id: Annotated[str, Text(1, 15)]
    password: Secret = NO_SECRET
    system_type: Annotated[str, Text(0, 12)] = ""
    mode: Literal["transceiver", "pair", "transmitter", "receiver"] = "transceiver"
    source_addr: Annotated[str, Text(0, 20)] = ""
    source_ton: Annotated[int, Between(0, 6)] = 0
    source_npi: Annotated[int, Between(0, 18)] = 0
    dest_ton: Annotated[int, Between(0, 6)] = 1
    dest_npi: Annotated[int, Between(0, 18)] = 1
    window: Annotated[int, Between(1, 1_000)] = 10
    enquire_link_s: Seconds = 30.0
    response_timeout_s: Seconds = 60.0
    bind_timeout_s: Seconds = 10.0
    reconnect_min_s: Seconds = 1.0
    reconnect_max_s: Seconds = 30.0
    binds_max: Annotated[int, Between(1, 100)] = 1
    rate_per_s: Annotated[float, Between(0, 100_000)] = 0.0
    validity_s: Annotated[int, Between(0, 8_640_000)] = 0
    prefixes: Annotated[
        str, Text(0, 4096, r"([1-9]\d{0,14}( [1-9]\d{0,14})*)?", "beginnings of phone numbers, separated by blanks")
    ] = ""
    throttle_pause_s: Seconds = 1.0
    throttle_retries: Annotated[int, Between(0, 1_000)] = 3
    statuses: Annotated[
        str,
        Text(
            0,
            4096,
            r"(0x[0-9A-Fa-f]{1,8}=(pause|later|rebind|never)( 0x[0-9A-Fa-f]{1,8}=(pause|later|rebind|never))*)?",
            'as in "0x45=pause 0x401=never"',
        ),
    ] = ""
    receipts: bool = True
    receipts_by_text: bool = False
    country_code: Annotated[str, Text(0, 3, "[0-9]*", "digits")] = ""
    message_ids: Literal["auto", "same", "hex_decimal", "decimal_hex"] = "auto"
    default_alphabet: Literal["gsm", "latin1", "ascii", "utf8", "gsm_packed"] = "gsm"
    reference_tlv: Annotated[int, Between(0, 0xFFFF)] = 0
    max_unanswered: Annotated[int, Between(1, 1_000_000)] = 1_000
    tls: bool = False
    tls_ca_file: FilePath = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfricasTalkingSettings:
    """An account at Africa's Talking, by which SMS go out and come in.

    `username` "sandbox" is their sandbox. `base_url` replaces their address, for the simulator. `sender_id` is what
    goes into `from`; empty: what the account has. A reply comes from the number that the customer wrote to where that
    is one of `short_codes`. Messages, reports and opt-outs come to /sms/<name>/<path_secret>, or /sms/<name> where only
    the addresses of the callers are known; without either nothing comes in.
    """

    name: Name
    username: Annotated[str, Text(1, 100)]
    api_key: Secret = NO_SECRET
    base_url: Annotated[str, Text(0, 255, r"(https?://[^\s/?#@]+)?", "https://HOST or http://127.0.0.1:PORT")] = ""
    sender_id: Annotated[str, Text(0, 20, r"[A-Za-z0-9 ._-]*", "a short code or a name")] = ""
    short_codes: Annotated[str, Text(0, 1024, r"(\d{3,15}( \d{3,15})*)?", "short codes, separated by blanks")] = ""
    prefixes: Annotated[
        str, Text(0, 4096, r"([1-9]\d{0,14}( [1-9]\d{0,14})*)?", "beginnings of phone numbers, separated by blanks")
    ] = ""
    receipts: bool = True
    path_secret: Secret = NO_SECRET
    addresses: Networks = ""
    connections_max: Annotated[int, Between(1, 32)] = 4
    rate_per_s: Annotated[float, Between(0, 100_000)] = 0.0
    connect_timeout_s: Seconds = 3.0
    answer_timeout_s: Seconds = 15.0
    rest_first_s: Seconds = 5.0
    rest_max_s: Seconds = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Settings:
    """A security module behind a PKCS#11 library, for vending keys of DKGA04."""

    name: Name
    library: Annotated[str, Text(1, 4096)]
    token_label: Annotated[str, Text(1, 32)]
    pin: Secret = NO_SECRET
    answers_at_once: bool = False
    timeout_s: Seconds = 10.0
    waiting_max: Annotated[int, Between(1, 10_000)] = 64
    rate_per_s: Annotated[float, Between(0, 1_000_000)] = 0.0
    rest_first_s: Seconds = 1.0
    rest_max_s: Seconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrismSettings:
    """A security module that speaks the TokenApi of Prism's modules over TLS."""

    name: Name
    host: Annotated[str, Text(1, 255)]
    port: Annotated[int, Between(1, 65_535)]
    realm: Annotated[str, Text(0, 80)] = ""
    username: Annotated[str, Text(1, 80)]
    password: Secret = NO_SECRET
    keys: Annotated[str, Text(1, 65_536)]
    ca_file: FilePath = ""
    server_name: Annotated[str, Text(0, 255)] = ""
    client_certificate_file: FilePath = ""
    client_key_file: FilePath = ""
    plain_on_loopback: bool = False
    connections_max: Annotated[int, Between(1, 100)] = 1
    waiting_max: Annotated[int, Between(0, 10_000)] = 64
    connect_timeout_s: Seconds = 5.0
    answer_timeout_s: Seconds = 10.0
    doubt_s: Seconds = 10.0
    tid_by: Literal["clock", "minutes"] = "clock"
    repeats_exactly: bool = False
    rate_per_s: Annotated[float, Between(0, 1_000_000)] = 0.0
    rest_first_s: Seconds = 1.0
    rest_max_s: Seconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSettings:
    """Where providers' callbacks come in: an HTTP server of its own, apart from health and metrics.

    It is served only where some channel wants callbacks. `trusted_proxies` are the networks of reverse proxies whose
    X-Forwarded-For is believed. Port 0 takes any free one, for tests. `public_url` is where providers reach it, as they
    are told in requests that name a callback.
    """

    host: Annotated[str, Text(1, 255)] = "127.0.0.1"
    port: Annotated[int, Between(0, 65_535)] = 8081
    tls_certificate_file: FilePath = ""
    tls_key_file: FilePath = ""
    trusted_proxies: Networks = ""
    public_url: Annotated[
        str, Text(0, 1024, r"(https?://[^\s?#]+[^\s?#/])?", "an address such as https://pay.example")
    ] = ""
    body_octets_max: Annotated[int, Between(1_024, 10_000_000)] = 65_536
    read_timeout_s: Seconds = 10.0
    at_once_max: Annotated[int, Between(1, 100_000)] = 1_000


UssdKind = Literal["africastalking", "hubtel", "xmlrpc", "smpp"]
UssdOperation = Annotated[int, Between(0, 255)]  # a value of ussd_service_op


@dataclass(frozen=True, slots=True, kw_only=True)
class UssdSettings:
    """One USSD service: the provider that calls, how it proves itself, and what its screens hold.

    The callback's address is /ussd/<name>/<path_secret>, or /ussd/<name> without one. At least one of path_secret,
    header_secret and addresses must be there, for nobody signs these calls.

    Of kind "smpp" are messages with ussd_service_op on `links`, the names of [[smpp]] tables, each in one service at
    most. `session_from` is where a session's id is, `mark_from` what tells a step from its repeat: without either
    nothing can be sold safely. The operations are values of ussd_service_op.
    """

    name: Name
    kind: UssdKind
    path_secret: Secret = NO_SECRET
    header_name: Annotated[str, Text(1, 80, "[A-Za-z0-9-]+", "the name of an HTTP header")] = "X-Api-Key"
    header_secret: Secret = NO_SECRET
    addresses: Networks = ""
    country_code: Annotated[str, Text(0, 3, "[0-9]*", "digits")] = ""
    gsm_septets_max: Annotated[int, Between(60, 182)] = 160
    ucs2_characters_max: Annotated[int, Between(60, 80)] = 70
    answer_within_s: Seconds = 8.0
    session_s: Seconds = 300.0
    resume_s: Seconds = 900.0
    bought_shown_s: Annotated[float, Between(0, 86_400)] = 300.0
    links: Annotated[str, Text(0, 4096)] = ""
    code: Annotated[str, Text(0, 40, r"[*#0-9]*", "a service code such as *384#")] = ""
    session_from: Literal["session_and_sequence", "session_id", "user_message_reference"] = "session_and_sequence"
    mark_from: Literal["sequence", "user_message_reference", "message_id"] = "sequence"
    begin_operation: UssdOperation = 1
    answer_operation: UssdOperation = 18
    abort_operation: UssdOperation = 129
    ask_operation: UssdOperation = 2
    end_operation: UssdOperation = 17
    resend_s: Seconds = 5.0


def _no_channels() -> Mapping[str, ChannelSettings]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. `Settings()` is a working demonstration without any link."""

    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    utility: UtilitySettings = field(default_factory=UtilitySettings)
    channels: Mapping[str, ChannelSettings] = field(default_factory=_no_channels)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    purchase: PurchaseSettings = field(default_factory=PurchaseSettings)
    customers: CustomerSettings = field(default_factory=CustomerSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    counter: CounterSettings = field(default_factory=CounterSettings)
    links: LinksSettings = field(default_factory=LinksSettings)
    sts: StsSettings = field(default_factory=StsSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)
    smpp: tuple[SmppSettings, ...] = ()
    africastalking: tuple[AfricasTalkingSettings, ...] = ()
    pkcs11: tuple[Pkcs11Settings, ...] = ()
    prism: tuple[PrismSettings, ...] = ()
    callbacks: CallbackSettings = field(default_factory=CallbackSettings)
    ussd: tuple[UssdSettings, ...] = ()
    bank: tuple[BankSettings, ...] = ()
    payment: tuple[PaymentSettings, ...] = ()
    mpesa: tuple[MpesaSettings, ...] = ()
    momo: tuple[MomoSettings, ...] = ()
    checkout: tuple[CheckoutSettings, ...] = ()
    pins: PinSettings = field(default_factory=PinSettings)
    vouchers: VoucherSettings = field(default_factory=VoucherSettings)
    wallet: WalletSettings = field(default_factory=WalletSettings)
    settlement: tuple[SettlementSettings, ...] = ()
    operator_text: tuple[OperatorTextSettings, ...] = ()

    def files(self) -> list[tuple[str, str]]:
        """Every file that is named, with the place that names it: ("[sts] keystore", "keys.json")."""
        found: list[tuple[str, str]] = []
        for section in fields(self):
            value = getattr(self, section.name)
            for table in value if isinstance(value, tuple) else (value,):
                where = f"[[{section.name}]] {table.name}" if isinstance(value, tuple) else f"[{section.name}]"
                for name, hint in hints_of(type(table)).items():
                    if hint == FilePath and getattr(table, name):
                        found.append((f"{where} {name}", getattr(table, name)))
        return found

    def settlement_of(self, source: str) -> SettlementSettings:
        """How a source's statements are read; the defaults if it has no table."""
        return next((one for one in self.settlement if one.name == source), SettlementSettings(name=source))

    def channel(self, name: str) -> ChannelSettings:
        """The settings of a channel by its name in any case; the defaults if it has no section."""
        return self.channels.get(name.upper(), ChannelSettings())
