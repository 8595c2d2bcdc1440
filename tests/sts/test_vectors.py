"""Every row of the vector file, through the codec and, where a module may make it, through the software module.

Rows for the operational EA07 tables are checked up to the enciphering itself, which is a test of its own that is
skipped, and counted, without the tables.
"""

from collections import Counter
from typing import Final

import pytest

from sts import amounts, bits, crc, tid
from sts.ciphers import DecoderKey
from sts.decode import digits_from, token_from
from sts.errors import Fault, StsError
from sts.modules.contract import CreditRequest, ManagementRequest, Unsettled
from sts.modules.records import VendingKeyRecord
from sts.modules.software import SoftwareModule
from sts.numbers import MeterNumber
from sts.tokens import CurrencyCredit, MeterTest, Token, block_of, register_block, token_of
from tests.sts.rows import (
    ROWS,
    TABLES_VARIABLE,
    Row,
    handle_of,
    moment,
    new_handle_of,
    new_vending_key_of,
    operational_tables,
    pan_matches,
    rows_of,
    token_of_row,
    vending_key_of,
)

TOKEN_ROWS: Final = rows_of("token")
OPERATIONAL_ROWS: Final = [row for row in ROWS if row.get("sta_tables") == "operational"]
MODULE_ROWS: Final = [
    row
    for row in TOKEN_ROWS
    if row["inputs"]["class"] != 1
    and row["inputs"]["subclass"] not in (3, 4, 8, 9)
    and row.get("sta_tables") != "operational"
    and row["inputs"].get("key_type", 1) >= 2
    and "vending_key_hex" in row["inputs"]
]


def _id(row: Row) -> str:
    return str(row["id"])


def _fact(token: Token, name: str) -> object:
    return getattr(token, name)


def _key_of(row: Row) -> DecoderKey | None:
    inputs = row["inputs"]
    if inputs["class"] == 1:
        return None
    if "decoder_key_hex" in inputs:
        return DecoderKey.from_bytes(inputs["ea"], bytes.fromhex(inputs["decoder_key_hex"]))
    return vending_key_of(inputs).derive(handle_of(inputs))


def test_the_file_holds_the_rows_it_should() -> None:
    assert len(ROWS) == 694
    assert len({row["id"] for row in ROWS}) == 694
    assert len(OPERATIONAL_ROWS) == 79
    assert Counter(row["kind"] for row in ROWS) == {
        "token": 511,
        "amount_field": 36,
        "decode_reject": 31,
        "tid": 24,
        "drn": 16,
        "vend_reject": 16,
        "sta_block": 14,
        "key_reject": 13,
        "misty1_block": 13,
        "crc": 12,
        "drn_reject": 5,
        "pan_reject": 2,
        "tid_sequence": 1,
    }


@pytest.mark.parametrize("row", TOKEN_ROWS, ids=_id)
def test_token_row_agrees_in_every_step_that_its_tables_allow(row: Row) -> None:
    inputs, expected = row["inputs"], row["expected"]
    key = _key_of(row)
    if "decoder_key_hex" in expected:
        assert key is not None
        assert pan_matches(inputs)
        assert f"{key.secret_value():0{key.bits // 4}x}" == expected["decoder_key_hex"]
    if "new_decoder_key_hex" in expected:
        new_key = new_vending_key_of(inputs).derive(new_handle_of(inputs))
        assert f"{new_key.secret_value():0{new_key.bits // 4}x}" == expected["new_decoder_key_hex"]

    token = token_of_row(row)
    if "tid" in expected:
        assert _fact(token, "tid") == expected["tid"]
    if "amount_field" in expected:
        field = token.amount.field if isinstance(token, CurrencyCredit) else _fact(token, "amount_field")
        assert field == expected["amount_field"]
    if "field16" in expected:
        assert _fact(token, "limit_field") == expected["field16"]
    if isinstance(token, CurrencyCredit):
        assert token.amount.sign_exponent == expected["sign_exponent_nibble"]
        assert token.amount.exponent == expected["exponent"]

    token_class, block = block_of(token)
    assert (token_class, f"{block:016x}") == (inputs["class"], expected["clear_block_hex"])
    assert token_of(token_class, block) == token
    # Un-transposing the published digits gives the published cipher block, whatever the tables.
    cipher_block = int(expected["cipher_block_hex"], 16)
    assert bits.split(expected["token"]) == (token_class, cipher_block)
    assert bits.digits_of(token_class, cipher_block) == expected["token"]
    if "token66_hex" in expected:
        assert int(expected["token"]) == int(expected["token66_hex"], 16)

    if row.get("sta_tables") != "operational":
        if key is not None:
            assert key.encrypt(block) == cipher_block
        assert digits_from(token, key) == expected["token"]
        assert token_from(expected["token"], key) == token


@pytest.mark.parametrize("row", OPERATIONAL_ROWS, ids=_id)
def test_operational_row_gives_the_published_token(row: Row) -> None:
    tables = operational_tables()
    if tables is None:
        pytest.skip(f"needs the operational EA07 tables, in the file that {TABLES_VARIABLE} names")
    key = vending_key_of(row["inputs"]).derive(handle_of(row["inputs"]), tables)
    token = token_of_row(row)
    assert digits_from(token, key) == row["expected"]["token"]
    assert token_from(row["expected"]["token"], key) == token


@pytest.mark.parametrize("row", MODULE_ROWS, ids=_id)
def test_software_module_makes_the_token_of_the_row(row: Row) -> None:
    inputs, expected = row["inputs"], row["expected"]
    handle = handle_of(inputs)
    record = VendingKeyRecord(
        inputs["sgc"], inputs["krn"], inputs["key_type"], handle.base_date, 255, vending_key_of(inputs)
    )
    module = SoftwareModule([record], allowed=frozenset(Unsettled))
    request: CreditRequest | ManagementRequest
    if inputs["class"] == 0:
        nibble = expected.get("sign_exponent_nibble", inputs.get("rnd"))
        request = CreditRequest(handle, inputs["subclass"], expected["tid"], nibble, expected["amount_field"])
    else:
        value = int(expected["clear_block_hex"], 16) >> 16 & 0xFFFF
        request = ManagementRequest(handle, inputs["subclass"], expected["tid"], inputs["rnd"], value)
    assert module.make(request) == expected["token"]
    assert module.verify(expected["token"], handle) == token_of_row(row)


@pytest.mark.parametrize("row", rows_of("tid_sequence"), ids=_id)
def test_several_tokens_in_one_minute_take_the_following_minutes(row: Row) -> None:
    inputs, expected = row["inputs"], row["expected"]
    key = _key_of(row)
    assert key is not None
    assert f"{key.secret_value():032x}" == expected["decoder_key_hex"]
    last = None
    for at, want_tid, want_token in zip(inputs["requests_at"], expected["tids"], expected["tokens"], strict=True):
        last = tid.next_tid(moment(at), inputs["base_date"], last, max_ahead_minutes=30)
        assert last == want_tid
        assert digits_from(token_of_row(row, last), key) == want_token


@pytest.mark.parametrize("row", rows_of("sta_block", "misty1_block"), ids=_id)
def test_block_row_agrees_both_ways(row: Row) -> None:
    inputs = row["inputs"]
    key = DecoderKey.from_bytes(7 if row["kind"] == "sta_block" else 11, bytes.fromhex(inputs["key_hex"]))
    clear, enciphered = int(inputs["plaintext_hex"], 16), int(row["expected"]["ciphertext_hex"], 16)
    assert key.encrypt(clear) == enciphered
    assert key.decrypt(enciphered) == clear


@pytest.mark.parametrize("row", rows_of("crc"), ids=_id)
def test_checksum_row_agrees(row: Row) -> None:
    message = bytes.fromhex(row["inputs"]["bytes7_hex"])
    wanted = int(row["expected"]["crc_hex"], 16)
    quick = crc.currency_crc_of_50_bits if row["inputs"]["currency"] else crc.crc_of_50_bits
    assert quick(int.from_bytes(message, "big")) == wanted
    assert crc.crc_of(message + (b"\x01" if row["inputs"]["currency"] else b"")) == wanted


@pytest.mark.parametrize("row", rows_of("drn"), ids=_id)
def test_meter_number_row_agrees(row: Row) -> None:
    number = MeterNumber.from_body(row["inputs"]["drn_without_check_digit"])
    assert {"drn": number.drn, "iin": number.iin, "pan": number.pan} == row["expected"]
    assert MeterNumber.from_pan(number.pan) == number


@pytest.mark.parametrize("row", rows_of("amount_field"), ids=_id)
def test_amount_row_agrees(row: Row) -> None:
    field = amounts.field_up(row["inputs"]["units"])
    assert {"field": field, "decoded_units": amounts.units_of(field)} == row["expected"]


@pytest.mark.parametrize("row", rows_of("tid"), ids=_id)
def test_tid_row_agrees(row: Row) -> None:
    now, base_date = moment(row["inputs"]["issued_at"]), row["inputs"]["base_date"]
    assert tid.tid_at(now, base_date) == row["expected"]["tid"]
    assert tid.next_tid(now, base_date, None, max_ahead_minutes=30) == row["expected"]["tid"]


# What each hint of a reject row may be called here.
HINTS: Final = {
    "crc": {Fault.CRC},
    "format": {Fault.FORMAT},
    "class": {Fault.TOKEN_CLASS},
    "check_digit": {Fault.CHECK_DIGIT},
    "length": {Fault.FORMAT},
    "range": {Fault.OUT_OF_RANGE, Fault.BEFORE_BASE_DATE, Fault.UNSETTLED},
    "key_length": {Fault.KEY_LENGTH},
    "unsupported": {Fault.UNSUPPORTED, Fault.TOKEN_CLASS},
    "key_expired": {Fault.KEY_EXPIRED},
    "ddtk_credit": {Fault.DEFAULT_KEY_CREDIT},
    "key_type": {Fault.KEY_TYPE},
    "vk_before_base_date": {Fault.BEFORE_BASE_DATE},
}


def _vend(inputs: Row) -> None:
    """All that a sale does with a row's inputs, in the gateway's order."""
    token_class, subclass = inputs["class"], inputs["subclass"]
    if token_class == 1:
        # The row names the form by its subclass; the dataclass knows it by the length of the code.
        token = MeterTest(inputs["mfr_code"], inputs["control"])
        assert len(token.manufacturer) == (2 if subclass == 0 else 4)
        digits_from(token, None)
        return
    if token_class == 3:
        token_of(3, register_block(3, subclass, inputs["rnd"], 1, 1))
        return
    handle = handle_of(inputs)
    at = tid.next_tid(moment(inputs["issued_at"]), inputs["base_date"], None, max_ahead_minutes=30)
    request: CreditRequest | ManagementRequest
    if token_class == 0:
        request = CreditRequest(handle, subclass, at, inputs["rnd"], amounts.field_up(inputs["amount_tenths"]))
    else:
        value = amounts.field_up(inputs.get("maximum_power_limit_w", 0))
        request = ManagementRequest(handle, subclass, at, inputs["rnd"], value)
    record = VendingKeyRecord(
        inputs["sgc"], inputs["krn"], inputs["key_type"], inputs["base_date"], 255, vending_key_of(inputs)
    )
    SoftwareModule([record]).make(request)


def _refuse(row: Row) -> None:
    inputs = row["inputs"]
    match row["kind"]:
        case "decode_reject":
            token_from(inputs["token"], DecoderKey.from_bytes(inputs["ea"], bytes.fromhex(inputs["decoder_key_hex"])))
        case "drn_reject":
            MeterNumber(inputs["drn"])
        case "pan_reject":
            MeterNumber.from_pan(inputs["pan"])
        case "key_reject":
            vending_key_of(inputs).derive(handle_of(inputs))
        case "vend_reject":
            _vend(inputs)


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"].endswith("_reject")], ids=_id)
def test_reject_row_is_refused_by_name(row: Row) -> None:
    with pytest.raises(StsError) as refusal:
        _refuse(row)
    allowed = set().union(*(HINTS[hint] for hint in row["expected"]["reasons"]))
    assert refusal.value.fault in allowed
    if "token" in row["inputs"]:
        assert row["inputs"]["token"] not in str(refusal.value)
