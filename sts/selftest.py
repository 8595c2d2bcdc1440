"""The known-answer test: each row of a vector file computed from its inputs, and compared with what it expects. Pure.

For whoever receives or certifies an installation, and for our own tests: there is one implementation of "compute this
row", this one, over the code that vends. A row is one JSON object a line:

    {"id": "P0001", "kind": "token", "inputs": {...}, "expected": {...}, "sta_tables": "sample" | "operational" | null}

Every field of `expected` is compared, and a field that is not computed for its kind makes the row unreadable, so that
nothing passes unseen. Rows of class 0 and 2 with a TID are made by the codec and, where a security module may make
them, by the software module too. Rows for the operational EA07 tables are checked, without the tables, in everything
but the enciphering itself, and then count as skipped. Of a row that must be refused any refusal by name counts: its
`reasons` are hints.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sts import amounts, bits, crc, tid
from sts.ciphers import DecoderKey
from sts.decode import digits_from, token_from
from sts.derivation import VendingKey
from sts.errors import StsError
from sts.keychange import key_change_set
from sts.meterkey import MeterKey
from sts.modules.contract import CreditRequest, ManagementRequest, TokenRequest, Unsettled
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from sts.numbers import MeterNumber, is_digits
from sts.tables import SAMPLE, TableSet
from sts.tokens import (
    Credit,
    CurrencyCredit,
    KeySection1,
    KeySection2,
    KeySection3,
    KeySection4,
    MeterTest,
    Resource,
    Token,
    block_of,
    management_of,
    token_of,
)
from sts.vectorrows import Differs, Inputs, Unreadable, check_pan, handle_of, named, parsed, vending_key_of

# The values of a row are shown up to this many characters of JSON.
_SHOWN_MAX: Final = 400

_TID_AHEAD_MAX_MINUTES: Final = 30


class Result(StrEnum):
    """What came of one row."""

    PASSED = "passed"
    SKIPPED = "skipped"  # right as far as it could be checked
    DIFFERS = "differs"
    UNREADABLE = "unreadable"  # no row, or one that says something nobody computes here


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one row. `field` is the first field that differs, `also` names the others."""

    result: Result
    id: str | None = None
    line: int | None = None
    field: str | None = None
    expected: object = None
    got: object = None
    also: tuple[str, ...] = ()
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as a JSON object; values beyond a few hundred characters are cut."""
        facts: dict[str, Any] = {"id": _shown(self.id), "line": self.line, "result": self.result.value}
        if self.result is Result.DIFFERS:
            facts |= {"field": self.field, "expected": _shown(self.expected), "got": _shown(self.got)}
            if self.also:
                facts["also"] = list(self.also)
        if self.why is not None:
            facts["why"] = self.why
        return facts


@dataclass(slots=True)
class Tally:
    """How many rows came to what."""

    counts: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))

    def add(self, finding: Finding) -> None:
        """Count one more row."""
        self.counts[finding.result] += 1

    @property
    def rows(self) -> int:
        """All rows seen."""
        return sum(self.counts.values())

    @property
    def is_well(self) -> bool:
        """Was there at least one row, and did none differ or prove unreadable?"""
        return self.rows > 0 and not self.counts[Result.DIFFERS] and not self.counts[Result.UNREADABLE]

    def as_json(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        return {
            "rows": self.rows,
            "passed": self.counts[Result.PASSED],
            "skipped": self.counts[Result.SKIPPED],
            "differ": self.counts[Result.DIFFERS],
            "unreadable": self.counts[Result.UNREADABLE],
        }


def check_lines(lines: Iterable[bytes], tables: TableSet | None = None) -> Iterator[Finding]:
    """A finding for each line that is not blank, in order. `tables`: the operational EA07 tables, if there are any."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield check_line(line, number, tables)


def check_line(line: bytes, number: int, tables: TableSet | None = None) -> Finding:
    """The finding for one line of a file; a line that holds no row is unreadable, whatever bytes it has."""
    try:
        row = parsed(line)
    except Unreadable as fault:
        return Finding(Result.UNREADABLE, line=number, why=fault.why)
    return check_row(row, tables, number)


def check_row(row: object, tables: TableSet | None = None, line: int | None = None) -> Finding:
    """The finding for one row as JSON gives it."""
    identity = row.get("id") if isinstance(row, Mapping) else None
    identity = identity if isinstance(identity, str) else None
    try:
        read = _Row(row, tables)
        computed = _KINDS[read.kind](read)
        read.nothing_left()
    except Unreadable as fault:
        return Finding(Result.UNREADABLE, identity, line, why=fault.why)
    except Differs as difference:
        return Finding(
            Result.DIFFERS, identity, line, difference.field, difference.expected, difference.got, why=difference.why
        )
    except StsError as refusal:
        return Finding(Result.DIFFERS, identity, line, "refused", None, refusal.fault.value, why=refusal.sentence)
    return _compared(read, computed, identity, line)


def refusal_of(row: object, tables: TableSet | None = None) -> StsError | None:
    """The refusal that a row of a `..._reject` kind meets, or None if it was accepted (or could not be tried)."""
    read = _Row(row, tables)
    return _refusal(read)


@dataclass(frozen=True, slots=True)
class _Computed:
    """Fields as this program computes them; `skipped` says why some, and which, could not be."""

    fields: Mapping[str, object]
    skipped: str | None = None
    unchecked: frozenset[str] = frozenset()


def _compared(row: "_Row", computed: _Computed, identity: str | None, line: int | None) -> Finding:
    unknown = sorted(set(row.expected) - set(computed.fields) - computed.unchecked)
    if unknown:
        why = f"expected.{named(unknown[0])}: not computed for this kind of row"
        return Finding(Result.UNREADABLE, identity, line, why=why)
    different = [
        name for name, got in computed.fields.items() if name in row.expected and not _same(row.expected[name], got)
    ]
    if different:
        first = different[0]
        return Finding(
            Result.DIFFERS, identity, line, first, row.expected[first], computed.fields[first], tuple(different[1:])
        )
    if computed.skipped is not None:
        return Finding(Result.SKIPPED, identity, line, why=computed.skipped)
    return Finding(Result.PASSED, identity, line)


def _same(expected: object, got: object) -> bool:
    """Equal, and of one JSON type: 1 is neither true nor 1.0. Hex digits are compared in any case."""
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(_same, expected, got))
    if isinstance(expected, str) and isinstance(got, str):
        return expected == got or (isinstance(got, _Hex) and expected.lower() == got)
    return type(expected) is type(got) and expected == got


def _shown(value: object) -> object:
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return "(nested too deeply)"
    # json.loads reads NaN, and 1e999 as infinity, which are no JSON again.
    is_json = not any(word in text for word in ("NaN", "Infinity"))
    return value if len(text) <= _SHOWN_MAX and is_json else text[:_SHOWN_MAX]


# --- rows -------------------------------------------------------------------------------------------------------------


class _Hex(str):
    """Hex digits, as opposed to other texts: their case does not count."""

    __slots__ = ()


class _Row:
    """A row whose outer shape is right."""

    def __init__(self, row: object, tables: TableSet | None) -> None:
        if not isinstance(row, dict):
            raise Unreadable("a JSON object expected")
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise Unreadable("id: a text expected")
        kind = row.get("kind")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise Unreadable(f"kind: {named(kind)} is not known" if isinstance(kind, str) else "kind: a text expected")
        expected = row.get("expected")
        if not isinstance(expected, dict):
            raise Unreadable("expected: an object expected")
        missing = [name for name in _NEEDED[kind] if name not in expected]
        if missing:
            raise Unreadable(f"expected.{missing[0]}: missing")
        table_name = row.get("sta_tables")
        if table_name not in (None, "sample", "operational"):
            raise Unreadable('sta_tables: "sample", "operational" or null expected')
        self.kind: Final[str] = kind
        self.inputs: Final = Inputs(row.get("inputs"), "inputs")
        self.expected: Final[dict[str, Any]] = expected
        self._table_name: Final[str | None] = table_name
        self._operational: Final = tables

    def tables(self, ea: int) -> TableSet | None:
        """The tables this row wants; None for operational ones that are not at hand. EA11 wants none: any will do."""
        if ea != 7:
            return SAMPLE
        if self._table_name is None:
            raise Unreadable('sta_tables: "sample" or "operational" expected with EA07')
        return SAMPLE if self._table_name == "sample" else self._operational

    def nothing_left(self) -> None:
        """Refuse a row with inputs that took no part: what it says was not tested."""
        left = [] if self.kind.endswith("_reject") else self.inputs.left()
        if left:
            raise Unreadable(f"{left[0]}: not an input of this kind of row")


_NO_TABLES: Final = "needs the operational EA07 tables: everything but the enciphering was checked"
_NO_TABLES_AT_ALL: Final = "needs the operational EA07 tables"


# --- what a row's inputs name -----------------------------------------------------------------------------------------


def _hex_of(key: DecoderKey) -> str:
    return _Hex(f"{key.secret_value():0{key.bits // 4}x}")


# Subclasses of class 2 with a TID: the input that holds their value, and whether it is watts, coded as an amount.
_VALUES: Final[Mapping[int, tuple[str, bool]]] = {
    0: ("maximum_power_limit_w", True),
    1: ("register", False),
    2: ("rate", False),
    5: ("pad", False),
    6: ("unbalance_limit_w", True),
    7: ("water_meter_factor", False),
}
_SECTIONS: Final[Mapping[int, int]] = {3: 0, 4: 1, 8: 2, 9: 3}


def _nibble_and_field(inputs: Inputs, token_class: int, subclass: int) -> tuple[int, int]:
    """RND (for currency S&E) and the 16-bit field of a token with a TID."""
    if token_class == 0:
        if 4 <= subclass <= 7:
            amount = amounts.currency_up(inputs.number("amount_1e-5_currency"))
            return amount.sign_exponent, amount.field
        return inputs.number("rnd"), amounts.field_up(inputs.number("amount_tenths"))
    name, watts = _VALUES[subclass]
    value = inputs.number(name, 0 if name == "pad" else None)
    return inputs.number("rnd"), amounts.field_up(value) if watts else value


def _register_token(inputs: Inputs, token_class: int, subclass: int, at: int) -> Token:
    """The token with this TID that a row asks for."""
    nibble, value = _nibble_and_field(inputs, token_class, subclass)
    if token_class == 2:
        return management_of(subclass, at, nibble, value)
    if subclass >= 4:
        return CurrencyCredit(Resource(subclass), at, amounts.CurrencyAmount(value, nibble))
    return Credit(Resource(subclass), at, nibble, value)


def _class_and_subclass(inputs: Inputs) -> tuple[int, int]:
    token_class, subclass = inputs.number("class"), inputs.number("subclass")
    known = {0: range(8), 1: range(2), 2: (*_VALUES, *_SECTIONS)}.get(token_class, ())
    if subclass not in known:
        raise Unreadable("inputs.subclass: no such token")
    return token_class, subclass


# --- kinds of rows ----------------------------------------------------------------------------------------------------


def _token(row: _Row) -> _Computed:
    """A token in all its steps: keys, TID, fields, clear block, enciphered block, digits, and back again."""
    inputs = row.inputs
    token_class, subclass = _class_and_subclass(inputs)
    fields: dict[str, object] = {}
    tables: TableSet | None = SAMPLE
    key: DecoderKey | None = None
    vending: tuple[VendingKey, MeterKey] | None = None
    if token_class != 1:
        tables = row.tables(inputs.number("ea"))
        key, vending = _decoder_key(inputs, tables or SAMPLE)
        if vending is not None:
            fields["decoder_key_hex"] = _hex_of(key)

    if token_class == 1:
        token: Token = MeterTest(inputs.text("mfr_code"), inputs.number("control"))
    elif subclass in _SECTIONS and token_class == 2:
        new = inputs.inner("new")
        token = _section(new, subclass, fields)
    else:
        at = tid.tid_at(inputs.moment("issued_at"), inputs.number("base_date"))
        token = _register_token(inputs, token_class, subclass, at)
        fields["tid"] = at
    made_class, block = block_of(token)
    if (made_class, block >> 60) != (token_class, subclass):
        raise Differs("inputs.subclass", subclass, block >> 60)
    _add_register_fields(fields, token, block)
    fields["clear_block_hex"] = _Hex(f"{block:016x}")
    if token_of(token_class, block) != token:
        raise Differs("clear_block_hex", fields["clear_block_hex"], None, "the clear block reads as another token")

    if tables is None:
        return _up_to_the_cipher(row, token_class, fields)
    cipher_block = block if key is None else key.encrypt(block)
    digits = digits_from(token, key)
    fields["cipher_block_hex"] = _Hex(f"{cipher_block:016x}")
    fields["token66_hex"] = _Hex(f"{int(digits):017x}")
    fields["token"] = digits
    if bits.split(digits) != (token_class, cipher_block):
        raise Differs("cipher_block_hex", fields["cipher_block_hex"], None, "the digits hold another block")
    if token_from(digits, key) != token:
        raise Differs("token", digits, None, "the digits read as another token")
    if vending is not None and "tid" in fields:
        _check_module(vending, token, block, digits, tables)
    return _Computed(fields)


def _decoder_key(inputs: Inputs, tables: TableSet) -> tuple[DecoderKey, tuple[VendingKey, MeterKey] | None]:
    """The decoder key as given, or derived; then with what it derives from."""
    if inputs.has("decoder_key_hex"):
        return DecoderKey.from_bytes(inputs.number("ea"), inputs.octets("decoder_key_hex"), tables), None
    check_pan(inputs)
    handle, vending_key = handle_of(inputs), vending_key_of(inputs)
    return vending_key.derive(handle, tables), (vending_key, handle)


def _section(new: Inputs, subclass: int, fields: dict[str, object]) -> Token:
    """One section of the key-change set to the state `new`."""
    handle = handle_of(new)
    new_key = vending_key_of(new).derive(handle)
    fields["new_decoder_key_hex"] = _hex_of(new_key)
    if new.bit("three_kct"):
        raise Unreadable("inputs.new.three_kct: sets of three tokens are not made here")
    sections = key_change_set(new_key, handle, rollover=new.bit("ro"))
    place = _SECTIONS[subclass]
    if place >= len(sections):
        raise Unreadable("inputs.subclass: a set for EA07 has two sections")
    return sections[place]


def _add_register_fields(fields: dict[str, object], token: Token, block: int) -> None:
    if isinstance(token, MeterTest | KeySection1 | KeySection2 | KeySection3 | KeySection4):
        return
    value = block >> 16 & 0xFFFF
    fields["field16"] = value
    if isinstance(token, Credit | CurrencyCredit):
        fields["amount_field"] = value
    if isinstance(token, CurrencyCredit):
        fields["sign_exponent_nibble"] = token.amount.sign_exponent
        fields["exponent"] = token.amount.exponent


def _up_to_the_cipher(row: _Row, token_class: int, fields: dict[str, object]) -> _Computed:
    """Without the tables: the row's digits and its enciphered block say the same, and the class."""
    expected = Inputs(row.expected, "expected")
    cipher_block = expected.block("cipher_block_hex")
    published_class, published_block = bits.split(expected.text("token"))
    if published_class != token_class:
        raise Differs("token", f"class {published_class}", f"class {token_class}")
    fields["cipher_block_hex"] = _Hex(f"{published_block:016x}")
    digits = bits.digits_of(token_class, cipher_block)
    fields["token66_hex"] = _Hex(f"{int(digits):017x}")
    fields["token"] = digits
    return _Computed(fields, _NO_TABLES)


def _check_module(
    vending: tuple[VendingKey, MeterKey], token: Token, block: int, digits: str, tables: TableSet
) -> None:
    """The software module, which has a shorter way to a token, makes the same one and reads it the same."""
    vending_key, handle = vending
    at, subclass, nibble, value = block >> 32 & 0xFFFFFF, block >> 60, block >> 56 & 15, block >> 16 & 0xFFFF
    if handle.key_type < 2 or at >> 16 > handle.key_expiry:
        return  # a vector of the algorithm: no module makes this token
    request: TokenRequest
    if isinstance(token, Credit | CurrencyCredit):
        request = CreditRequest(handle, subclass, at, nibble, value)
    else:
        request = ManagementRequest(handle, subclass, at, nibble, value)
    module = SoftwareModule([_record(vending_key, handle)], tables=tables, allowed=frozenset(Unsettled))
    made = module.make(request)
    if made != digits:
        raise Differs("token", digits, made, "the security module makes another token than the codec")
    if module.verify(made, handle) != token:
        raise Differs("token", digits, None, "the security module reads another token than the codec")


def _record(vending_key: VendingKey, handle: MeterKey) -> VendingKeyRecord:
    return VendingKeyRecord(
        handle.supply_group, handle.key_revision, handle.key_type, handle.base_date, 255, vending_key
    )


def _tid_sequence(row: _Row) -> _Computed:
    """Several tokens of one meter, asked for at given times."""
    inputs = row.inputs
    token_class, subclass = _class_and_subclass(inputs)
    if token_class == 1 or (token_class == 2 and subclass in _SECTIONS):
        raise Unreadable("inputs.subclass: a token with a TID expected")
    tables = row.tables(inputs.number("ea"))
    key, vending = _decoder_key(inputs, tables or SAMPLE)
    last = None
    tids, tokens = [], []
    for at in inputs.moments("requests_at"):
        last = tid.next_tid(at, inputs.number("base_date"), last, max_ahead_minutes=_TID_AHEAD_MAX_MINUTES)
        tids.append(last)
        tokens.append(digits_from(_register_token(inputs, token_class, subclass, last), key))
    fields: dict[str, object] = {"decoder_key_hex": _hex_of(key)} if vending is not None else {}
    fields["tids"] = tids
    if tables is None:
        return _Computed(fields, _NO_TABLES, frozenset({"tokens"}))
    return _Computed(fields | {"tokens": tokens})


def _cipher_block(row: _Row) -> _Computed:
    """One block there and back."""
    ea = 7 if row.kind == "sta_block" else 11
    tables = row.tables(ea)
    raw, clear = row.inputs.octets("key_hex"), row.inputs.block("plaintext_hex")
    if tables is None:
        return _Computed({}, _NO_TABLES_AT_ALL, frozenset({"ciphertext_hex"}))
    key = DecoderKey.from_bytes(ea, raw, tables)
    enciphered = key.encrypt(clear)
    if key.decrypt(enciphered) != clear:
        raise Differs("inputs.plaintext_hex", f"{clear:016x}", f"{key.decrypt(enciphered):016x}", "deciphered again")
    return _Computed({"ciphertext_hex": _Hex(f"{enciphered:016x}")})


def _crc(row: _Row) -> _Computed:
    """A checksum of 7 bytes, by the plain way and by the one that tokens take."""
    message, currency = row.inputs.octets("bytes7_hex", 7), row.inputs.truth("currency")
    number = int.from_bytes(message, "big")
    slow = crc.crc_of(message + b"\x01" if currency else message)
    quick = crc.currency_crc_of_50_bits(number) if currency else crc.crc_of_50_bits(number)
    if slow != quick:
        raise Differs("crc_hex", f"{slow:04x}", f"{quick:04x}", "two ways to the checksum disagree")
    return _Computed({"crc_hex": _Hex(f"{slow:04x}")})


def _drn(row: _Row) -> _Computed:
    """A meter number completed by its check digit, with its PAN."""
    number = MeterNumber.from_body(row.inputs.text("drn_without_check_digit"))
    if MeterNumber.from_pan(number.pan) != number:
        raise Differs("pan", number.pan, None, "the PAN reads as another meter number")
    return _Computed({"drn": number.drn, "iin": number.iin, "pan": number.pan})


def _amount_field(row: _Row) -> _Computed:
    """An amount in units, its field, and what the meter credits."""
    value = amounts.field_up(row.inputs.number("units"))
    return _Computed({"field": value, "decoded_units": amounts.units_of(value)})


def _tid(row: _Row) -> _Computed:
    """The TID of a first token at a time."""
    now, base_date = row.inputs.moment("issued_at"), row.inputs.number("base_date")
    first = tid.next_tid(now, base_date, None, max_ahead_minutes=_TID_AHEAD_MAX_MINUTES)
    if first != tid.tid_at(now, base_date):
        raise Differs("tid", tid.tid_at(now, base_date), first, "two ways to the first TID disagree")
    return _Computed({"tid": first})


def _reject(row: _Row) -> _Computed:
    """A row that must be refused."""
    reasons = row.expected["reasons"]
    if row.expected["reject"] is not True:
        raise Unreadable("expected.reject: true expected")
    if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
        raise Unreadable("expected.reasons: an array of texts expected")
    shown = {"reject": True, "reasons": reasons}
    if row.kind == "decode_reject" and row.tables(row.inputs.number("ea")) is None and _is_well_formed(row.inputs):
        return _Computed(shown, _NO_TABLES_AT_ALL)
    refusal = _refusal(row)
    return _Computed(shown if refusal is not None else {**shown, "reject": False})


def _is_well_formed(inputs: Inputs) -> bool:
    """Does only the enciphering tell whether this is a token?"""
    try:
        return bits.split(inputs.text("token"))[0] in (0, 2)
    except StsError:
        return False


def _refusal(row: _Row) -> StsError | None:
    """What the step under test says to a reject row. A row whose other inputs are wrong is unreadable."""
    inputs = row.inputs
    decoder_key: DecoderKey | None = None
    if row.kind == "decode_reject":
        # The digits are under test, not the key.
        try:
            tables = SAMPLE if not _is_well_formed(inputs) else row.tables(inputs.number("ea")) or SAMPLE
            decoder_key = DecoderKey.from_bytes(inputs.number("ea"), inputs.octets("decoder_key_hex"), tables)
        except StsError as refusal:
            raise Unreadable(f"inputs.decoder_key_hex: {refusal.sentence}") from None
    try:
        match row.kind:
            case "decode_reject":
                token_from(inputs.text("token"), decoder_key)
            case "drn_reject":
                MeterNumber(inputs.text("drn"))
            case "pan_reject":
                MeterNumber.from_pan(inputs.text("pan"))
            case "key_reject":
                vending_key_of(inputs).derive(handle_of(inputs))
            case _:
                _vend(inputs)
    except StsError as refusal:
        return refusal
    return None


def _vend(inputs: Inputs) -> None:
    """All that a sale does with a row's inputs, in the gateway's order."""
    token_class, subclass = inputs.number("class"), inputs.number("subclass")
    if not 0 <= token_class <= 3 or not 0 <= subclass <= 15:
        raise Unreadable("inputs.class: 0 to 3, and a subclass of 0 to 15 expected")
    if token_class == 1:
        # The row names the form by its subclass; the dataclass knows it by the length of the code.
        code = inputs.text("mfr_code")
        token = MeterTest(code, inputs.number("control"))
        if subclass != (0 if is_digits(code, 2) else 1):
            raise Unreadable("inputs.mfr_code: 2 digits for subclass 0, 4 for subclass 1 expected")
        digits_from(token, None)
        return
    if token_class == 3:
        token_of(3, 0)
        return
    handle = handle_of(inputs)
    at = tid.next_tid(
        inputs.moment("issued_at"), inputs.number("base_date"), None, max_ahead_minutes=_TID_AHEAD_MAX_MINUTES
    )
    if token_class == 0 or subclass in _VALUES:
        nibble, value = _nibble_and_field(inputs, token_class, subclass)
    else:
        nibble, value = inputs.number("rnd"), 0
    request: TokenRequest
    if token_class == 0:
        request = CreditRequest(handle, subclass, at, nibble, value)
    else:
        request = ManagementRequest(handle, subclass, at, nibble, value)
    SoftwareModule([_record(vending_key_of(inputs), handle)]).make(request)


_KINDS: Final[Mapping[str, Callable[[_Row], _Computed]]] = {
    "token": _token,
    "tid_sequence": _tid_sequence,
    "sta_block": _cipher_block,
    "misty1_block": _cipher_block,
    "crc": _crc,
    "drn": _drn,
    "amount_field": _amount_field,
    "tid": _tid,
    "decode_reject": _reject,
    "drn_reject": _reject,
    "pan_reject": _reject,
    "key_reject": _reject,
    "vend_reject": _reject,
}

# Without these a row would pass having tested next to nothing.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("clear_block_hex", "cipher_block_hex", "token"),
    "tid_sequence": ("tids", "tokens"),
    "sta_block": ("ciphertext_hex",),
    "misty1_block": ("ciphertext_hex",),
    "crc": ("crc_hex",),
    "drn": ("drn",),
    "amount_field": ("field",),
    "tid": ("tid",),
    **dict.fromkeys(("decode_reject", "drn_reject", "pan_reject", "key_reject", "vend_reject"), ("reject", "reasons")),
}
KINDS: Final = tuple(_KINDS)
"""Every kind of row that is computed."""
