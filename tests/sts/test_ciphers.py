"""EA07 and EA11: the published blocks, a trace round by round, a slow reading of the same rules, and secrecy."""

import copy
import pickle
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts.ciphers import S7, S9, DecoderKey, misty1_decrypt, misty1_encrypt, misty1_schedule, sta, sta_rounds
from sts.errors import Fault, KeyRefused
from sts.tables import SAMPLE, TableSet
from tests.sts.strategies import BLOCKS, DECODER_KEYS

RFC_KEY: Final = 0x00112233445566778899AABBCCDDEEFF


@pytest.mark.parametrize(
    ("clear", "enciphered"),
    [(0x0123456789ABCDEF, 0x8B1DA5F56AB3D07C), (0xFEDCBA9876543210, 0x04B68240B13BE95D)],
)
def test_misty1_gives_the_blocks_of_rfc_2994(clear: int, enciphered: int) -> None:
    schedule = misty1_schedule(RFC_KEY)
    assert misty1_encrypt(schedule, clear) == enciphered
    assert misty1_decrypt(schedule, enciphered) == clear


def test_misty1_gives_the_expanded_key_of_rfc_2994() -> None:
    assert misty1_schedule(RFC_KEY)[8:] == (0xCF51, 0x8E7F, 0x5E29, 0x673A, 0xCDBC, 0x07D6, 0xBF35, 0x5E11)


def test_s_boxes_are_permutations_and_begin_as_in_rfc_2994() -> None:
    assert sorted(S7) == list(range(128))
    assert sorted(S9) == list(range(512))
    assert S7[:8] == (0x1B, 0x32, 0x33, 0x5A, 0x3B, 0x10, 0x17, 0x54)
    assert S9[:8] == (0x1C3, 0x0CB, 0x153, 0x19F, 0x1E3, 0x0E9, 0x0FB, 0x035)


def _slow_fi(value: int, key: int) -> int:
    nine, seven = value >> 7, value & 0x7F
    nine = S9[nine] ^ seven
    seven = (S7[seven] ^ nine) & 0x7F
    seven ^= key >> 9
    nine ^= key & 0x1FF
    nine = S9[nine] ^ seven
    return seven << 9 | nine


def _slow_fo(value: int, ek: tuple[int, ...], k: int) -> int:
    left, right = value >> 16, value & 0xFFFF
    left = _slow_fi(left ^ ek[k], ek[(k + 5) % 8 + 8]) ^ right
    right = _slow_fi(right ^ ek[(k + 2) % 8], ek[(k + 1) % 8 + 8]) ^ left
    left = _slow_fi(left ^ ek[(k + 7) % 8], ek[(k + 3) % 8 + 8]) ^ right
    return (right ^ ek[(k + 4) % 8]) << 16 | left


def _slow_fl(value: int, ek: tuple[int, ...], k: int) -> int:
    left, right = value >> 16, value & 0xFFFF
    if k % 2 == 0:
        right ^= left & ek[k // 2]
        left ^= right | ek[(k // 2 + 6) % 8 + 8]
    else:
        right ^= left & ek[((k - 1) // 2 + 2) % 8 + 8]
        left ^= right | ek[((k - 1) // 2 + 4) % 8]
    return left << 16 | right


def _slow_misty1(key: int, block: int) -> int:
    """RFC 2994 sections 2.2 and 2.3, word by word."""
    words = [key >> shift & 0xFFFF for shift in range(112, -1, -16)]
    ek = tuple(words + [_slow_fi(words[i], words[(i + 1) % 8]) for i in range(8)])
    d0, d1 = block >> 32, block & 0xFFFFFFFF
    for k in range(0, 8, 2):
        d0, d1 = _slow_fl(d0, ek, k), _slow_fl(d1, ek, k + 1)
        d1 ^= _slow_fo(d0, ek, k)
        d0 ^= _slow_fo(d1, ek, k + 1)
    d0, d1 = _slow_fl(d0, ek, 8), _slow_fl(d1, ek, 9)
    return d1 << 32 | d0


@given(st.integers(0, (1 << 128) - 1), BLOCKS)
def test_misty1_agrees_with_a_slow_reading_of_rfc_2994(key: int, block: int) -> None:
    assert misty1_encrypt(misty1_schedule(key), block) == _slow_misty1(key, block)


def _slow_sta(tables: TableSet, key: int, block: int) -> list[int]:
    """The rule of EA07, nibble by nibble and bit by bit: the block after each substitution and permutation."""
    mask = (1 << 64) - 1
    key = ~key & mask
    key = (key >> 12 | key << 52) & mask
    trace = [key]
    for _ in range(16):
        substituted = 0
        for i in range(16):
            table = tables.substitution_2 if key >> 4 * i + 3 & 1 else tables.substitution_1
            substituted |= table[block >> 4 * i & 15] << 4 * i
        block = 0
        for i in range(64):
            block |= (substituted >> i & 1) << tables.permutation[i]
        trace += [substituted, block]
        key = (key << 1 | key >> 63) & mask
    return trace


def test_sta_follows_the_trace_of_the_standards_example() -> None:
    trace = _slow_sta(SAMPLE, 0x0ABC12DEF3456789, 0x0B19EB230100C207)
    assert trace[0] == 0x876F543ED210CBA9
    assert trace[1:5] == [0x6DAD7D846ACC076E, 0xCEA6B17D9D323631, 0x681CF92BD948404A, 0x9A91A8A0CD1A42B9]
    assert trace[-1] == 0xC45ED1619406DF95
    engine = sta(SAMPLE)
    assert sta_rounds(engine.schedule(0x0ABC12DEF3456789), 0x0B19EB230100C207) == 0xC45ED1619406DF95


# In the sample set the second substitution is the inverse of the first, which hides mistakes; so try others.
TABLE_SETS: Final = st.builds(
    lambda one, two, three: TableSet("any", tuple(one), tuple(two), tuple(three)),
    st.permutations(range(16)),
    st.permutations(range(16)),
    st.permutations(range(64)),
)


@settings(max_examples=25, deadline=None)
@given(TABLE_SETS, BLOCKS, BLOCKS)
def test_sta_agrees_with_a_slow_reading_under_any_tables(tables: TableSet, value: int, block: int) -> None:
    key = DecoderKey(7, value, tables)
    enciphered = key.encrypt(block)
    assert enciphered == _slow_sta(tables, value, block)[-1]
    assert key.decrypt(enciphered) == block


@given(DECODER_KEYS, BLOCKS)
def test_decryption_undoes_encryption(key: DecoderKey, block: int) -> None:
    assert key.decrypt(key.encrypt(block)) == block
    assert key.encrypt(key.decrypt(block)) == block


def test_key_of_wrong_length_or_algorithm_is_refused() -> None:
    cases: tuple[tuple[Callable[[], DecoderKey], Fault], ...] = (
        (lambda: DecoderKey(7, 1 << 64), Fault.KEY_LENGTH),
        (lambda: DecoderKey(7, -1), Fault.KEY_LENGTH),
        (lambda: DecoderKey(11, 1 << 128), Fault.KEY_LENGTH),
        (lambda: DecoderKey.from_bytes(7, bytes(16)), Fault.KEY_LENGTH),
        (lambda: DecoderKey.from_bytes(11, bytes(8)), Fault.KEY_LENGTH),
        (lambda: DecoderKey(9, 0), Fault.UNSUPPORTED),
    )
    for make, fault in cases:
        with pytest.raises(KeyRefused) as refusal:
            make()
        assert refusal.value.fault is fault


def test_key_shows_nothing_and_cannot_be_copied_out() -> None:
    key = DecoderKey(11, RFC_KEY)
    key.encrypt(1)
    assert repr(key) == str(key) == "<DecoderKey EA11, hidden>"
    assert not hasattr(key, "__dict__")
    for copy_out in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copy_out(key)


def test_keys_are_the_same_only_with_equal_bits_and_algorithm() -> None:
    assert DecoderKey(7, 5).same_as(DecoderKey(7, 5))
    assert not DecoderKey(7, 5).same_as(DecoderKey(7, 4))
    assert not DecoderKey(7, 5).same_as(DecoderKey(11, 5))
