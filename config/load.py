"""TOML and environment variables become `Settings`, or one exception that names every fault. Shell: reads files.

The environment wins over the file, the file over the defaults in `config/settings.py`:

    PREPAID_<SECTION>__<KEY>          PREPAID_DATABASE__URL, PREPAID_LOG__LEVEL
    PREPAID_CHANNELS__<NAME>__<KEY>   PREPAID_CHANNELS__SMS__FEE_MINOR
    PREPAID_SMPP__<LINK>__<KEY>       a link by its name, in capitals, anything but letters and digits as "_"

A secret called `x` is given as `x` itself, as `x_env` (the name of an environment variable) or as `x_file` (a file
whose text, without white space at its ends, is the secret); only one of the three. The STS master key cannot stand
in the settings themselves. No message of this module shows the value of a secret, nor of a key it does not know.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from config import bank_checks, channel_checks, provider_checks
from config.kinds import Secret, hints_of
from config.money import (
    BankSettings,
    CheckoutSettings,
    MomoSettings,
    MpesaSettings,
    OperatorTextSettings,
    PaymentSettings,
    SettlementSettings,
)
from config.settings import (
    AfricasTalkingSettings,
    CallbackSettings,
    ChannelSettings,
    CorrectionSettings,
    CounterSettings,
    CustomerSettings,
    DatabaseSettings,
    DeliverySettings,
    GatewaySettings,
    HttpSettings,
    LinksSettings,
    LogSettings,
    PinSettings,
    Pkcs11Settings,
    PrismSettings,
    PurchaseSettings,
    Settings,
    SmppSettings,
    StsSettings,
    UssdSettings,
    UtilitySettings,
    VoucherSettings,
    WalletSettings,
)
from config.values import Variable, Wrong, convert, describe, kind_of, suggestion

PREFIX: Final = "PREPAID_"

S = TypeVar("S")

PIN_KEY_MIN: Final = 32

_SECTIONS: Final[Mapping[str, type]] = {
    "gateway": GatewaySettings,
    "utility": UtilitySettings,
    "channels": ChannelSettings,  # a table of such tables, by the channel's name
    "database": DatabaseSettings,
    "customers": CustomerSettings,
    "corrections": CorrectionSettings,
    "purchase": PurchaseSettings,
    "delivery": DeliverySettings,
    "counter": CounterSettings,
    "links": LinksSettings,
    "sts": StsSettings,
    "http": HttpSettings,
    "log": LogSettings,
    "callbacks": CallbackSettings,
    "pins": PinSettings,
    "vouchers": VoucherSettings,
    "wallet": WalletSettings,
    "smpp": SmppSettings,  # from here on lists of such tables
    "africastalking": AfricasTalkingSettings,
    "pkcs11": Pkcs11Settings,
    "prism": PrismSettings,
    "ussd": UssdSettings,
    "bank": BankSettings,
    "payment": PaymentSettings,
    "mpesa": MpesaSettings,
    "momo": MomoSettings,
    "checkout": CheckoutSettings,
    "settlement": SettlementSettings,
    "operator_text": OperatorTextSettings,
}
# What the tables of a list are called, in faults and in the names of environment variables.
_CALLED: Final = {
    "smpp": "link",
    "africastalking": "account",
    "pkcs11": "module",
    "prism": "module",
    "ussd": "service",
    "bank": "bank",
    "payment": "source",
    "mpesa": "account",
    "momo": "account",
    "checkout": "account",
    "settlement": "source",
    "operator_text": "source",
}
_LISTS: Final[Mapping[str, type]] = {
    "smpp": SmppSettings,
    "africastalking": AfricasTalkingSettings,
    "pkcs11": Pkcs11Settings,
    "prism": PrismSettings,
    "ussd": UssdSettings,
    "bank": BankSettings,
    "payment": PaymentSettings,
    "mpesa": MpesaSettings,
    "momo": MomoSettings,
    "checkout": CheckoutSettings,
    "settlement": SettlementSettings,
    "operator_text": OperatorTextSettings,
}

# Keys that may not stand in the settings themselves, only beside them in a file or an environment variable.
_NEVER_INLINE: Final = frozenset(
    {
        (StsSettings, "master_key"),
        (StsSettings, "passphrase"),
        (Pkcs11Settings, "pin"),
        (PrismSettings, "password"),
        (AfricasTalkingSettings, "api_key"),
        (AfricasTalkingSettings, "path_secret"),
        (UssdSettings, "path_secret"),
        (UssdSettings, "header_secret"),
        (BankSettings, "zmk"),
        (BankSettings, "zak"),
        (PaymentSettings, "path_secret"),
        (MpesaSettings, "consumer_key"),
        (MpesaSettings, "consumer_secret"),
        (MpesaSettings, "passkey"),
        (MpesaSettings, "security_credential"),
        (MomoSettings, "subscription_key"),
        (MomoSettings, "api_key"),
        (MomoSettings, "disbursement_key"),
        (MomoSettings, "disbursement_api_key"),
        (CheckoutSettings, "api_key"),
        (PinSettings, "key"),
    }
)

# The first may not be greater than the second.
_IN_ORDER: Final[Mapping[type, tuple[tuple[str, str], ...]]] = {
    DatabaseSettings: (("batch_max", "queue_max"),),
    # A reservation must outlive the driver's patience, or money would be free while a token is being made.
    PurchaseSettings: (("give_up_s", "reservation_timeout_s"),),
    DeliverySettings: (("retry_min_s", "retry_max_s"),),
    SmppSettings: (("reconnect_min_s", "reconnect_max_s"),),
    AfricasTalkingSettings: (("rest_first_s", "rest_max_s"),),
    Pkcs11Settings: (("rest_first_s", "rest_max_s"),),
    PrismSettings: (("rest_first_s", "rest_max_s"),),
    PaymentSettings: (("min_minor", "max_minor"),),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: the path of the key or the name of the variable, what was expected, what came."""

    where: str
    expected: str
    came: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}; came {self.came}"


class SettingsFaults(Exception):
    """The settings cannot be used. `faults` holds every fault found, in the order of the settings."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{count} fault{'' if count == 1 else 's'} in the settings:\n{lines}")


def load(toml_text_or_path: str | Path, environ: Mapping[str, str]) -> Settings:
    """Settings from a TOML text (`str`) or file (`Path`), with the environment's overrides.

    An empty text gives the defaults. Raises SettingsFaults with everything that is wrong.
    """
    reader = _Reader(environ)
    document = reader.document(toml_text_or_path)
    reader.overlay(document)
    settings = reader.settings(document)
    if reader.faults or settings is None:
        raise SettingsFaults(reader.faults)
    return settings


class _Reader:
    """One reading of the settings; collects faults instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[Fault] = []

    def fault(self, where: str, value: object, expected: str, came: str) -> None:
        """Note a fault under the variable's name if the value came from one, else under the key's path."""
        self.faults.append(Fault(value.name if isinstance(value, Variable) else where, expected, came))

    def document(self, source: str | Path) -> dict[str, Any]:
        """The TOML as a tree of plain values; empty if it cannot be read."""
        text, where = source, "settings"
        if isinstance(source, Path):
            where = str(source)
            try:
                text = source.read_text(encoding="utf-8")
            except OSError as error:
                self.fault(where, None, "a readable file", error.strerror or "an error")
                return {}
            except UnicodeDecodeError as error:
                self.fault(where, None, "text in UTF-8", f"another octet at position {error.start}")
                return {}
        try:
            return tomllib.loads(str(text))
        except tomllib.TOMLDecodeError as error:
            # Only the place: the parser's own words may quote the line, and the line may hold a secret.
            place = re.search(r"at line \d+, column \d+|at end of document", str(error))
            self.fault(where, None, "TOML", f"something else {place.group() if place else 'at an unknown place'}")
            return {}

    # --- the environment ------------------------------------------------------------------------------------

    def overlay(self, document: dict[str, Any]) -> None:
        """Put the environment's overrides into the tree."""
        overrides = {
            name: tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
            for name in sorted(self.environ)
            if name.startswith(PREFIX) and "__" in name.removeprefix(PREFIX)
        }
        for name, path in overrides.items():
            if self.is_named_as_secret(document, name) or self.is_named_by_override(overrides, name):
                continue
            variable = Variable(name, self.environ[name])
            table, known = self.table_for(document, variable, path)
            if table is None:
                continue
            key = path[-1]
            if key not in known:
                self.unknown_variable(variable, key, known)
                continue
            # One way of giving a secret replaces the others: the environment wins as a whole.
            base = re.sub(r"_(env|file)$", "", key)
            if f"{base}_env" in known:
                for other in (base, f"{base}_env", f"{base}_file"):
                    if not isinstance(table.get(other), Variable):
                        table.pop(other, None)
            table[key] = variable

    def table_for(
        self, document: dict[str, Any], variable: Variable, path: tuple[str, ...]
    ) -> tuple[dict[str, Any] | None, list[str]]:
        """The table of the tree that an override goes into, with the keys known there; None after a fault."""
        section, deeper = path[0], len(path) == 3
        if section in _LISTS and deeper:
            links = document.get(section)
            named = {
                _as_variable(link["name"]): link
                for link in (links if isinstance(links, list) else [])
                if isinstance(link, dict) and isinstance(link.get("name"), str)
            }
            link = named.get(path[1].upper())
            if link is None:
                expected = f"the name of a {_CALLED[section]} in [[{section}]]" + suggestion(path[1].upper(), named)
                self.fault(variable.name, None, expected, path[1].upper())
            return link, _keys(_LISTS[section])
        if section == "channels" and deeper:
            return self.child(self.child(document, "channels"), path[1].upper()), _keys(ChannelSettings)
        kind = _SECTIONS.get(section)
        if kind is None or len(path) != 2 or section in ("channels", *_LISTS):
            shape = {
                **{name: f"__<{called.upper()}>__<KEY>" for name, called in _CALLED.items()},
                "channels": "__<NAME>__<KEY>",
            }.get(section)
            known = [name.upper() for name in _SECTIONS]
            expected = (
                f"{PREFIX}{section.upper()}{shape}"
                if shape
                else f"{PREFIX}<SECTION>__<KEY>" + suggestion(section.upper(), known)
            )
            self.fault(variable.name, None, expected, "a name of another form" if kind else "an unknown section")
            return None, []
        return self.child(document, section), _keys(kind)

    @staticmethod
    def child(table: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
        """The table under a key, made if missing; None where the file has something else there (faulted later)."""
        if table is None:
            return None
        below = table.setdefault(key, {})
        return below if isinstance(below, dict) else None

    def unknown_variable(self, variable: Variable, key: str, known: list[str]) -> None:
        expected = "a known key" + suggestion(key.upper(), [name.upper() for name in known])
        self.fault(variable.name, None, expected, "an unknown one")

    def is_named_by_override(self, overrides: Mapping[str, tuple[str, ...]], name: str) -> bool:
        """Whether another override of the form ..._ENV points at this variable: then it holds a secret, no setting."""
        return any(path[-1].endswith("_env") and self.environ[other] == name for other, path in overrides.items())

    def is_named_as_secret(self, node: object, name: str) -> bool:
        """Whether some `..._env` of the file points at this variable."""
        if isinstance(node, dict):
            return any(
                (str(key).endswith("_env") and value == name) or self.is_named_as_secret(value, name)
                for key, value in node.items()
            )
        return isinstance(node, list) and any(self.is_named_as_secret(item, name) for item in node)

    # --- the tree -------------------------------------------------------------------------------------------

    def settings(self, document: dict[str, Any]) -> Settings | None:
        """The whole, or None if anything was wrong."""
        known = [*_SECTIONS]
        for name in document:
            if name not in known:
                self.fault(name, None, "a known section" + suggestion(name, known), "an unknown one")
        built: dict[str, Any] = {}
        for name, kind in _SECTIONS.items():
            if name in _LISTS:
                built[name] = self.named_tables(name, kind, document.get(name, []))
            elif name == "channels":
                built[name] = self.channels(document.get(name, {}))
            else:
                built[name] = self.section(kind, document.get(name, {}), name)
        channel_checks.lease(self, document, built["delivery"], built["smpp"], built["africastalking"])
        channel_checks.way_names(self, built["smpp"], built["africastalking"])
        self.check_module_names(built["sts"], built["pkcs11"], built["prism"])
        channel_checks.ussd_links(self, built["ussd"] or (), built["smpp"] or ())
        self.check_pin_key(built["pins"], built["vouchers"])
        if not self.faults:  # what is wrong by itself would be told twice
            accounts = {name: built[name] for name in ("mpesa", "momo", "checkout")}
            provider_checks.sources(self, built["payment"], accounts, built["utility"], built["callbacks"])
        return None if self.faults else Settings(**built)

    def named_tables(self, section: str, kind: type[S], found: object) -> tuple[S, ...]:
        """The tables of a list such as [[smpp]], each with a name of its own."""
        if not isinstance(found, list):
            self.fault(section, found, f"a list of tables, [[{section}]]", describe(found))
            return ()
        built: list[S] = []
        names: dict[str, str] = {}
        taken: set[str] = set()
        for position, table in enumerate(found, start=1):
            name = table.get("name") if isinstance(table, dict) else None
            where = f"{section}[{name}]" if isinstance(name, str) and name else f"{section}[{position}]"
            one = self.section(kind, table, where)
            if isinstance(name, str):
                # Compared as the environment spells them, else one override would mean two of them.
                earlier = names.setdefault(_as_variable(name), where)
                if earlier != where or name in taken:
                    expected = f"a name unlike those of the other {_CALLED[section]}s"
                    self.fault(f"{where}.name", None, expected, f"one like {earlier}")
                if one is not None:
                    taken.add(name)
            if one is not None:
                built.append(one)
        return tuple(built)

    def channels(self, found: object) -> Mapping[str, ChannelSettings]:
        if not isinstance(found, dict):
            self.fault("channels", found, "tables, [channels.<NAME>]", describe(found))
            return {}
        channels: dict[str, ChannelSettings] = {}
        for name, table in found.items():
            where = f"channels.{name}"
            if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,19}", name):
                self.fault(where, None, "a channel's name in capitals, digits and underscores", "another name")
            built = self.section(ChannelSettings, table, where)
            if built is not None:
                channels[name] = built
        return types.MappingProxyType(channels)

    def section(self, kind: type[S], table: object, where: str) -> S | None:
        """One section, or None if anything in it was wrong."""
        before = len(self.faults)
        if not isinstance(table, dict):
            self.fault(where, table, "a table", describe(table))
            return None
        known = _keys(kind)
        for key in table:
            if key not in known:
                self.fault(f"{where}.{key}", None, "a known key" + suggestion(key, known), "an unknown one")
        hints = hints_of(kind)
        values: dict[str, Any] = {}
        for entry in fields(kind):  # type: ignore[arg-type]
            path = f"{where}.{entry.name}"
            if hints[entry.name] is Secret:
                self.secret(kind, entry.name, table, path, values)
            elif entry.name in table:
                value = table[entry.name]
                try:
                    values[entry.name] = convert(hints[entry.name], value)
                except Wrong as wrong:
                    self.fault(path, value, wrong.expected, wrong.came)
            elif entry.default is MISSING and entry.default_factory is MISSING:
                self.fault(path, None, "a value", "none")
            else:
                values[entry.name] = entry.default
        self.together(kind, table, where, values)
        return kind(**values) if len(self.faults) == before else None

    def secret(self, kind: type, name: str, table: Mapping[str, Any], path: str, values: dict[str, Any]) -> None:
        """A secret from whichever of its ways is used. Nothing given in any of them is ever shown."""
        may_be_inline = (kind, name) not in _NEVER_INLINE
        ways = [way for way in (name, f"{name}_env", f"{name}_file") if way in table]
        values[name] = Secret("")
        if not ways:
            return
        if len(ways) > 1:
            self.fault(path, None, "one way of giving it", " and ".join(ways))
            return
        way = ways[0]
        where, given = f"{path}{way.removeprefix(name)}", table[way]
        text = given.text if isinstance(given, Variable) else given
        if way == name and not may_be_inline:
            self.fault(where, given, f"{name}_file or {name}_env", "the secret itself (not shown)")
        elif not isinstance(text, str):
            self.fault(where, given, "text in quotes", f"{kind_of(text)} (not shown)")
        elif way == name:
            values[name] = Secret(text)
        elif way.endswith("_env"):
            found = self.environ.get(text)
            if found:
                values[name] = Secret(found.strip())
            else:
                # Its name is not shown: people put the secret itself here by mistake.
                came = "one that is not set" if found is None else "an empty one"
                self.fault(where, given, "the name of an environment variable that is set", came)
        else:
            try:
                content = Path(text).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                came = error.strerror or "an error" if isinstance(error, OSError) else "other content"
                self.fault(where, given, "a readable file with the secret as text", came)
                return
            if content:
                values[name] = Secret(content)
            else:
                self.fault(where, given, "a readable file with the secret as text", "an empty file")

    # --- values that must fit each other ----------------------------------------------------------------------

    def together(self, kind: type, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
        """Faults between the values of one section; a value that is wrong by itself is left out of it."""
        for low, high in _IN_ORDER.get(kind, ()):
            if low in values and high in values and values[low] > values[high]:
                given = table.get(low) if isinstance(table.get(low), Variable) else table.get(high)
                self.fault(f"{where}.{low}", given, f"at most {high} ({values[high]})", str(values[low]))
        check = _CHECKS.get(kind)
        if check is not None:
            check(self, table, where, values)

    def check_database(self, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
        """The form of the address; a password in it is moved to where it cannot be logged."""
        url = values.get("url")
        if url is None:
            return
        path = f"{where}.url"
        expected = '"sqlite:///FILE" or "postgresql://USER@HOST[:PORT]/DATABASE"'
        given = table.get("url")
        try:
            parts = urlsplit(url)
            wrong_port = parts.port == 0
        except ValueError:
            self.fault(path, given, expected, "an address that cannot be read (not shown)")
            return
        if parts.scheme == "sqlite":
            # In memory is no place for books: they would be gone with the process, and readers would see others.
            if parts.netloc or not parts.path.startswith("/") or parts.path in ("/", "/:memory:"):
                self.fault(path, given, expected, "sqlite with a host or without a file (not shown)")
            if values.get("password"):
                self.fault(f"{where}.password", None, "no password for sqlite", "one (not shown)")
            return
        if parts.scheme != "postgresql":
            came = "no scheme" if not re.fullmatch(r"[a-z0-9+]{1,20}", parts.scheme) else f"scheme {parts.scheme}"
            self.fault(path, given, expected, came)
            return
        missing = [
            name
            for name, there in (
                ("user", parts.username),
                ("host", parts.hostname),
                ("database", parts.path.strip("/")),
            )
            if not there
        ]
        if missing or wrong_port:
            self.fault(path, given, expected, "one without " + " and ".join(missing or ["a usable port"]))
            return
        if parts.password is not None:
            if any(way in table for way in ("password", "password_env", "password_file")):
                self.fault(path, given, "the password in one place", "one in the address and one beside it (not shown)")
                return
            user, _, _ = parts.netloc.rpartition("@")[0].partition(":")
            values["password"] = Secret(unquote(parts.password))
            values["url"] = parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}").geturl()

    def check_utility(self, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
        zone = values.get("timezone")
        if zone is None:
            return
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):  # unknown, of a forbidden form, or the name of a folder of zones
            expected = 'a time zone of the IANA list, such as "Africa/Nairobi"'
            self.fault(f"{where}.timezone", table.get("timezone"), expected, repr(zone))

    def check_sts(self, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
        ways = [way for way in ("master_key", "master_key_env", "master_key_file") if way in table]
        if ways and not values.get("keystore") and "keystore" in values:
            self.fault(f"{where}.keystore", None, f"a path, since {ways[0]} is set", "none")

    def check_pin_key(self, pins: PinSettings | None, vouchers: VoucherSettings | None) -> None:
        """Neither a PIN nor a voucher is worth anything without the key."""
        if pins is None or vouchers is None:
            return
        if 0 < len(pins.key.reveal()) < PIN_KEY_MIN:
            self.fault("pins.key", None, f"at least {PIN_KEY_MIN} characters", "fewer (not shown)")
        if pins.key:
            return
        if vouchers.taken:
            self.fault("vouchers.taken", None, "a key in [pins], or false", "true without a key")
        for name in ("customers", "stations"):
            if getattr(pins, name) != "off":
                self.fault(f"pins.{name}", None, 'a key in [pins], or "off"', f'"{getattr(pins, name)}" without a key')

    def check_module_names(
        self, sts: StsSettings | None, pkcs11: tuple[Pkcs11Settings, ...], prism: tuple[PrismSettings, ...]
    ) -> None:
        """The books know keys by the name of their module: two modules of one name would share limits and approvals."""
        seen = {sts.module: "sts.module"} if sts is not None else {}
        for part, names in (("pkcs11", [one.name for one in pkcs11]), ("prism", [one.name for one in prism])):
            for name in names:
                if name in seen:
                    self.fault(
                        f"{part}[{name}].name", name, f"another name than that of {seen[name]}", f"{name!r} again"
                    )
            seen |= {name: f"{part}[{name}]" for name in names}

    def check_bank(self, table: Mapping[str, Any], where: str, values: dict[str, Any]) -> None:
        channel_checks.networks(self, table, where, values, "addresses")
        bank_checks.check(self.fault, table, where, values)


_Check = Callable[[_Reader, Mapping[str, Any], str, dict[str, Any]], None]

_CHECKS: Final[Mapping[type, _Check]] = {
    DatabaseSettings: _Reader.check_database,
    UtilitySettings: _Reader.check_utility,
    StsSettings: _Reader.check_sts,
    SmppSettings: channel_checks.smpp,
    AfricasTalkingSettings: channel_checks.africastalking,
    CallbackSettings: channel_checks.callbacks,
    UssdSettings: channel_checks.ussd,
    BankSettings: _Reader.check_bank,
    PaymentSettings: channel_checks.payment,
    MpesaSettings: provider_checks.mpesa,
    MomoSettings: provider_checks.momo,
    CheckoutSettings: provider_checks.checkout,
}


def _keys(kind: type) -> list[str]:
    """The keys that a section may have; a secret has three, or two if it may not be inline."""
    hints = hints_of(kind)
    keys: list[str] = []
    for entry in fields(kind):
        keys.append(entry.name)
        if hints[entry.name] is Secret:
            keys += [f"{entry.name}_env", f"{entry.name}_file"]
    return keys


def _as_variable(name: str) -> str:
    """A link's name as it stands in the name of an environment variable."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
