"""Our request as a call of TokenApi, and its answer held against what was asked. Pure.

The message id is made from every input of the token, so a request has one id however often and from wherever it is
asked, and `fetchTokenResult` finds what an earlier attempt made. The answer tells meter, key, class, TID and amount
beside the token; each is compared, because a token for another meter or amount looks as good as any.
Source: TokenApi 1.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sts import amounts, bits
from sts.amounts import CurrencyAmount
from sts.errors import Fault, NumberError, TokenError
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest, KeyChangeRequest, KeyMissing, ModuleRefused, TokenRequest
from sts.modules.prism.settings import CurrencyUnit, PrismKey, PrismSettings, TidBy
from sts.modules.prism.tokenapi import (
    EXTERNAL_CLOCK,
    TID_ADJUST_BDT,
    IssueCreditToken,
    IssueKeyChangeTokens,
    IssueMseToken,
    MeterConfigAmendment,
    MeterConfigIn,
    SignedCall,
    Token,
)
from sts.tid import base_start
from sts.tokens import Credit, CurrencyCredit, Resource, management_of
from sts.tokens import Token as StsToken

UNITS_IN_ONE: Final = 100_000
"""Units of 1e-5 in one of the base currency."""


class Mismatch(Exception):
    """An answer that is not what was asked. `part` names what differs; `expected` and `got` are no secrets."""

    def __init__(self, part: str, expected: object = None, got: object = None) -> None:
        super().__init__(part)
        self.part: Final = part
        self.expected: Final = expected
        self.got: Final = got


@dataclass(frozen=True, slots=True)
class Order:
    """A request ready to be asked.

    `call(access_token)` is the call; `digits(tokens)` are the 20 digits of each token of the answer, in our order, or
    it raises Mismatch.
    """

    key: MeterKey
    message_id: str
    call: Callable[[str], SignedCall]
    digits: Callable[[Sequence[Token]], tuple[str, ...]]


def token_order(request: TokenRequest, settings: PrismSettings) -> Order:
    """The order of one credit or engineering token.

    Refuses, without asking, KeyMissing, DEFAULT_KEY_CREDIT and KEY_TYPE as any module does, KEY_EXPIRED beyond the
    meter's expiry number, and UNSETTLED for currency as long as no setting says what the module counts it in.
    """
    key = request.key
    vending = settings.key_for(key)
    if vending is None:
        raise KeyMissing(key)
    credit = isinstance(request, CreditRequest)
    if key.key_type == 1 and credit:
        raise ModuleRefused(Fault.DEFAULT_KEY_CREDIT, "no credit under a default key (type 1): change the key first")
    if key.key_type < 2:
        raise ModuleRefused(Fault.KEY_TYPE, f"key type {key.key_type} makes key-change tokens only")
    if request.tid >> 16 > key.key_expiry:
        raise ModuleRefused(Fault.KEY_EXPIRED, f"the key expired: TID beyond expiry number {key.key_expiry}")
    token_class = 0 if credit else 2
    amount = _amount_of(request, settings)
    config = meter_config(key, settings)
    flags, token_time = _time_of(request.tid, key, vending, settings)
    name = message_id("c" if credit else "m", request)

    def call(access_token: str) -> SignedCall:
        kind = IssueCreditToken if credit else IssueMseToken
        return kind(
            messageId=name,
            accessToken=access_token,
            meterConfig=config,
            subclass=request.subclass,
            transferAmount=amount,
            tokenTime=token_time,
            flags=flags,
        )

    def digits(tokens: Sequence[Token]) -> tuple[str, ...]:
        if len(tokens) != 1:
            raise Mismatch("number of tokens", 1, len(tokens))
        token = tokens[0]
        _check(token, key, vending, config)
        for part, expected, got in (
            ("class", token_class, token.tokenClass),
            ("subclass", request.subclass, token.subclass),
            ("TID", request.tid, token.tid),
            ("reserved TID", False, token.isReservedTid),
            ("amount", amount, token.transferAmount),
        ):
            if expected != got:
                raise Mismatch(part, expected, got)
        return (_digits_of(token, token_class),)

    return Order(key, name, call, digits)


def key_change_order(request: KeyChangeRequest, settings: PrismSettings) -> Order:
    """The order of a key-change set: 2 tokens for EA07, 4 for EA11, in the order 1st, 2nd, 3rd, 4th section.

    Refuses, without asking, KeyMissing for either key, KEY_MISMATCH for another meter or algorithm, a base date that
    goes back or an expiry number that is not the new vending key's, which the module would use.
    """
    key, new = request.key, request.new
    vending, following = settings.key_for(key), settings.key_for(new)
    if vending is None or following is None:
        raise KeyMissing(key if vending is None else new)
    if (key.drn, key.iin, key.ea) != (new.drn, new.iin, new.ea):
        raise ModuleRefused(Fault.KEY_MISMATCH, "key change: the same meter and algorithm expected before and after")
    if new.base_date < key.base_date:
        raise ModuleRefused(Fault.KEY_MISMATCH, "key change: a base date does not go back")
    if new.key_expiry != following.key_expiry:
        raise ModuleRefused(
            Fault.KEY_MISMATCH, f"key change: the module gives the vending key's own expiry {following.key_expiry}"
        )
    config = meter_config(key, settings)
    amendment = MeterConfigAmendment(toSgc=int(new.supply_group), toKrn=new.key_revision, toTi=int(new.tariff_index))
    sections = (3, 4) if key.ea == 7 else (3, 4, 8, 9)
    name = message_id("k", request)

    def call(access_token: str) -> SignedCall:
        return IssueKeyChangeTokens(messageId=name, accessToken=access_token, meterConfig=config, newConfig=amendment)

    def digits(tokens: Sequence[Token]) -> tuple[str, ...]:
        by_section = {token.subclass: token for token in tokens}
        if len(tokens) != len(sections) or sorted(by_section) != sorted(sections):
            raise Mismatch("sections", sections, tuple(token.subclass for token in tokens))
        for token in tokens:
            _check(token, key, vending, config)
            if token.tokenClass != 2:
                raise Mismatch("class", 2, token.tokenClass)
        advices = [token.newConfig for token in tokens if token.newConfig is not None]
        if not advices:
            raise Mismatch("new configuration", "one", "none")
        for advice in advices:
            for part, expected, got in (
                ("new supply group", amendment.toSgc, advice.toSgc),
                ("new key revision", amendment.toKrn, advice.toKrn),
                ("new tariff index", amendment.toTi, advice.toTi),
                ("new expiry number", new.key_expiry, advice.toKen),
                ("rollover", key.base_date != new.base_date, advice.rollover),
                ("new check value", following.kcv.lower(), advice.toVkKcv.lower() if following.kcv else ""),
            ):
                if expected != got:
                    raise Mismatch(part, expected, got)
        found = tuple(_digits_of(by_section[section], 2) for section in sections)
        if len(set(found)) != len(found):
            raise Mismatch("sections that are the same token")
        return found

    return Order(key, name, call, digits)


def message_id(kind: str, request: TokenRequest | KeyChangeRequest) -> str:
    """The one name of a request, 39 characters: a letter and 152 bits of SHA-256 over all of its inputs."""
    inputs: list[object] = []
    for key in (request.key, request.new) if isinstance(request, KeyChangeRequest) else (request.key,):
        inputs += [key.pan, key.supply_group, key.key_type, key.tariff_index, key.key_revision, key.key_expiry]
        inputs += [key.base_date, key.ea, key.dkga]
    if isinstance(request, CreditRequest):
        inputs += [request.subclass, request.tid, request.rnd, request.amount_field]
    elif not isinstance(request, KeyChangeRequest):
        inputs += [request.subclass, request.tid, request.rnd, request.value]
    text = " ".join(str(part) for part in (kind, *inputs))
    return kind + sha256(text.encode("ascii")).hexdigest()[:38]


def meter_config(key: MeterKey, settings: PrismSettings) -> MeterConfigIn:
    """A meter's key in the interface's words.

    Updates of key revision and expiry number are forbidden by name: a module may take them for allowed otherwise, and
    then its answer begins with a key change that nobody stored.
    """
    return MeterConfigIn(
        drn=key.drn,
        ea=key.ea,
        tct=settings.token_carrier_type,
        sgc=int(key.supply_group),
        krn=key.key_revision,
        ti=int(key.tariff_index),
        ken=key.key_expiry,
        allowKrnUpdate=False,
        allowKenUpdate=False,
        allow3Kct=False,
    )


def verified(token: Token, digits: str, key: MeterKey, settings: PrismSettings) -> StsToken:
    """The token that a module says these digits are.

    The interface does not tell the random nibble: it is 0 here. Raises Mismatch for an answer about another meter or
    token, or with an amount that no token can carry; TokenError UNSUPPORTED for a key-change section, whose content
    no module tells, and UNSETTLED for currency without the setting.
    """
    vending = settings.key_for(key)
    assert vending is not None
    _check(token, key, vending, meter_config(key, settings))
    if token.tokenDec != digits:
        raise Mismatch("token")
    token_class, _ = bits.split(digits)
    if token.tokenClass != token_class:
        raise Mismatch("class", token_class, token.tokenClass)
    subclass, units = token.subclass, token.transferAmount
    try:
        if token_class == 2:
            if subclass in (3, 4, 8, 9):
                raise TokenError(Fault.UNSUPPORTED, "a section of a key change: a module does not tell its content")
            field = amounts.field_up(_whole(units)) if subclass in (0, 6) else _whole(units)
            token_2 = management_of(subclass, token.tid, 0, field)
            if subclass in (0, 6) and amounts.units_of(field) != units:
                raise Mismatch("amount that no token can carry")
            return token_2
        if subclass <= 3:
            credit = Credit(Resource(subclass), token.tid, 0, amounts.field_up(_whole(units)))
            if credit.units != units:
                raise Mismatch("amount that no token can carry")
            return credit
        if settings.currency_unit is None:
            raise TokenError(Fault.UNSETTLED, "currency: the setting that says what the module counts it in expected")
        scale = UNITS_IN_ONE if settings.currency_unit is CurrencyUnit.WHOLE else 1
        return CurrencyCredit(Resource(subclass), token.tid, amounts.currency_up(round(units * scale)))
    except (NumberError, ValueError, OverflowError):
        raise Mismatch("content that no token can have") from None


def _amount_of(request: TokenRequest, settings: PrismSettings) -> float:
    """The amount as the module takes it: not coded, in the unit of the subclass."""
    if not isinstance(request, CreditRequest):
        # Power limits are amounts in watts; every other field of class 2 goes as it is.
        return float(amounts.units_of(request.value) if request.subclass in (0, 6) else request.value)
    if request.subclass <= 3:
        return float(amounts.units_of(request.amount_field))
    if settings.currency_unit is None:
        raise ModuleRefused(
            Fault.UNSETTLED, "credit in currency: public sources disagree on the unit; a setting must say it"
        )
    units = CurrencyAmount(request.amount_field, request.rnd).units
    return units / UNITS_IN_ONE if settings.currency_unit is CurrencyUnit.WHOLE else float(units)


def _time_of(tid: int, key: MeterKey, vending: PrismKey, settings: PrismSettings) -> tuple[int, int]:
    """Flags and `tokenTime` that make the module use this TID."""
    if settings.tid_by is TidBy.MINUTES:
        minutes = (base_start(key.base_date) - base_start(1993)).total_seconds() / 60
        return TID_ADJUST_BDT, int(minutes) + tid
    start = base_start(key.base_date, vending.counts_from_minutes_east)
    return EXTERNAL_CLOCK, int(start.timestamp()) + tid * 60


def _check(token: Token, key: MeterKey, vending: PrismKey, config: MeterConfigIn) -> None:
    for part, expected, got in (
        ("meter number", key.drn, token.drn),
        ("issuer number", key.pan, token.pan),
        ("encryption algorithm", key.ea, token.ea),
        ("token carrier type", config.tct, token.tct),
        ("supply group", config.sgc, token.sgc),
        ("key revision", key.key_revision, token.krn),
        ("tariff index", config.ti, token.ti),
        ("check value of the key", vending.kcv.lower(), token.vkKcv.lower() if vending.kcv else ""),
    ):
        if expected != got:
            raise Mismatch(part, expected, got if len(str(got)) < 18 else "another")


def _digits_of(token: Token, token_class: int) -> str:
    digits = token.tokenDec
    if len(digits) != bits.DIGITS or not (digits.isascii() and digits.isdigit()):
        raise Mismatch("digits", f"{bits.DIGITS} digits", f"{len(digits)} characters")
    try:
        found, _ = bits.split(digits)
    except TokenError:
        raise Mismatch("digits", "a number below 2^66", "a greater one") from None
    if found != token_class:
        raise Mismatch("class in the digits", token_class, found)
    return digits


def _whole(number: Any) -> int:
    whole = int(number)
    if whole != number:
        raise Mismatch("amount that is not whole")
    return whole
