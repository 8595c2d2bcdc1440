"""EA07 (STA) and EA11 (MISTY1): a 64-bit block in, a 64-bit block out. Pure, and quick enough to vend with.

Numbers are big-endian: bit 0 is the least significant of a block or key.
Sources: IEC 62055-41 (STA: encryption and decryption algorithm); RFC 2994 (MISTY1, 8 rounds).
"""

from collections.abc import Sequence
from functools import lru_cache
from hmac import compare_digest
from typing import Final, NoReturn

from sts.errors import Fault, KeyRefused
from sts.tables import SAMPLE, TableSet

_MASK_64: Final = (1 << 64) - 1

# --- EA07 -------------------------------------------------------------------------------------------------------------

_Words = list[int]
_Row = tuple[_Words, _Words, _Words, _Words, _Words, _Words, _Words, _Words]
StaSchedule = tuple[_Row, ...]
"""One row of eight tables for each of the 16 rounds: which table, the key says."""


class Sta:
    """EA07 with one table set.

    Substitution and permutation of a round are merged: for each of the 8 bytes of a block, and for each of the 4
    pairs of substitutions its two nibbles may be sent through, 256 words hold the byte substituted and its bits moved
    to their places. A round is then 8 look-ups and 7 ORs. Decryption has the same form once its first inverse
    permutation is pulled out in front, and its last one undone behind.
    """

    def __init__(self, tables: TableSet) -> None:
        self.tables: Final = tables
        sub_1, sub_2 = tables.substitution_1, tables.substitution_2
        self._forward: Final = _merged(sub_1, sub_2, tables.permutation)
        self._backward: Final = _merged(
            tables.inverse_substitution_1, tables.inverse_substitution_2, tables.inverse_permutation
        )
        identity = tuple(range(16))
        self._move: Final = _row(_merged(identity, identity, tables.permutation), 0)
        self._move_back: Final = _row(_merged(identity, identity, tables.inverse_permutation), 0)

    def schedule(self, key: int) -> StaSchedule:
        """The rounds of encryption under a 64-bit key."""
        return _rounds(self._forward, key)

    def inverse_schedule(self, key: int) -> StaSchedule:
        """The rounds of decryption under a 64-bit key."""
        return _rounds(self._backward, key)[::-1]

    def decrypt(self, schedule: StaSchedule, block: int) -> int:
        """The clear block of an enciphered one, under the key of an inverse schedule."""
        return sta_rounds((self._move,), sta_rounds(schedule, sta_rounds((self._move_back,), block)))


def sta_rounds(schedule: StaSchedule, block: int) -> int:
    """A block sent through the rounds of a schedule; with `Sta.schedule(key)` this is EA07 encryption."""
    for t0, t1, t2, t3, t4, t5, t6, t7 in schedule:
        a, b, c, d, e, f, g, h = block.to_bytes(8, "little")
        block = t0[a] | t1[b] | t2[c] | t3[d] | t4[e] | t5[f] | t6[g] | t7[h]
    return block


@lru_cache(maxsize=8)
def sta(tables: TableSet) -> Sta:
    """EA07 with this table set; preparing it takes some milliseconds, once."""
    return Sta(tables)


def _merged(sub_1: Sequence[int], sub_2: Sequence[int], permutation: Sequence[int]) -> list[list[_Words]]:
    """Per byte of a block, per pair of substitutions (bit 0: low nibble, bit 1: high), 256 words."""
    subs = (sub_1, sub_2)
    merged = []
    for byte in range(8):
        moved = [[0] * 16, [0] * 16]
        for half in range(2):
            for nibble in range(16):
                moved[half][nibble] = sum(
                    1 << permutation[8 * byte + 4 * half + bit] for bit in range(4) if nibble >> bit & 1
                )
        low, high = moved
        merged.append(
            [
                [high[subs[pair >> 1][value >> 4]] | low[subs[pair & 1][value & 15]] for value in range(256)]
                for pair in range(4)
            ]
        )
    # The key byte picks the pair by its bits 3 and 7: spread the four over all 256 values, so that it is an index.
    return [[pairs[byte >> 6 & 2 | byte >> 3 & 1] for byte in range(256)] for pairs in merged]


def _row(by_byte: list[list[_Words]], key: int) -> _Row:
    u0, u1, u2, u3, u4, u5, u6, u7 = by_byte
    a, b, c, d, e, f, g, h = key.to_bytes(8, "little")
    return u0[a], u1[b], u2[c], u3[d], u4[e], u5[f], u6[g], u7[h]


def _rounds(by_byte: list[list[_Words]], key: int) -> StaSchedule:
    u0, u1, u2, u3, u4, u5, u6, u7 = by_byte
    # Complement, rotate right by 12; then one to the left with each round. Twice the key in one number makes each
    # rotation a shift.
    key = ~key & _MASK_64
    key = (key >> 12 | key << 52) & _MASK_64
    twice = key << 64 | key
    rows = []
    for shift in range(64, 48, -1):
        a, b, c, d, e, f, g, h = (twice >> shift & _MASK_64).to_bytes(8, "little")
        rows.append((u0[a], u1[b], u2[c], u3[d], u4[e], u5[f], u6[g], u7[h]))
    return tuple(rows)


# --- EA11 -------------------------------------------------------------------------------------------------------------

# MISTY1's S-boxes in algebraic form: for each output bit its terms, each a string of the input bits multiplied; "" is
# the constant 1. Shorter to read and to check than 640 numbers.
# Source: M. Matsui, "New Block Encryption Algorithm MISTY" (FSE 1997); the tables of RFC 2994 section 2.3 say the same.
# fmt: off
_S7_TERMS: Final = (
    "0 13 034 15 025 45 016 26 056 356 ",
    "02 04 34 15 245 6 06 36 236 146 056 ",
    "12 023 4 14 014 05 045 345 16 36 036 46 246",
    "0 1 012 03 24 145 26 136 046 56 ",
    "23 04 134 5 25 125 035 16 156 456 ",
    "0 1 2 012 03 123 14 024 05 015 35 06 256",
    "01 3 03 234 05 25 35 135 16 126 036 46 256",
)
_S9_TERMS: Final = (
    "04 05 15 16 26 27 37 38 48 ",
    "02 3 13 23 34 45 06 26 7 08 38 58 ",
    "01 13 4 04 24 34 45 06 56 17 37 8",
    "0 12 24 5 15 35 45 56 17 67 28 48",
    "1 03 23 05 35 6 26 46 56 67 28 78",
    "2 03 14 34 16 46 7 37 57 67 08 78",
    "01 3 14 25 45 27 57 8 08 48 68 78 ",
    "1 01 12 23 04 5 16 36 07 47 67 18 ",
    "0 01 12 4 05 25 36 56 07 08 38 68 ",
)
# fmt: on


def _s_box(terms: tuple[str, ...]) -> tuple[int, ...]:
    masks = [[sum(1 << int(bit) for bit in term) for term in line.split(" ")] for line in terms]
    return tuple(
        sum((sum(value & mask == mask for mask in line) & 1) << bit for bit, line in enumerate(masks))
        for value in range(1 << len(terms))
    )


S7: Final = _s_box(_S7_TERMS)
S9: Final = _s_box(_S9_TERMS)


def _fi_tables() -> tuple[list[int], list[int]]:
    # The list of numbers is shared, so that a table costs pointers only.
    numbers = list(range(1 << 16))
    before, after = [], []
    for left in range(512):
        for right in range(128):
            nine = S9[left] ^ right
            before.append(numbers[(S7[right] ^ nine & 0x7F) << 9 | nine])
    for left in range(128):
        for right in range(512):
            after.append(numbers[left << 9 | S9[right] ^ left])
    return before, after


# FI is two table look-ups: what happens before the key is mixed in, and what after. Its key of 7 and 9 bits lies in
# 16 bits just as the half-way value does, so one XOR mixes both parts: FI(x, k) = _B[_A[x] ^ k].
_A, _B = _fi_tables()

MistySchedule = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""The expanded key EK[0..15] of RFC 2994: the key's eight 16-bit words, and the eight made from them."""


def misty1_schedule(key: int) -> MistySchedule:
    """The expanded key of a 128-bit key. Source: RFC 2994 section 2.2."""
    a, b = _A, _B
    k0 = key >> 112
    k1 = key >> 96 & 0xFFFF
    k2 = key >> 80 & 0xFFFF
    k3 = key >> 64 & 0xFFFF
    k4 = key >> 48 & 0xFFFF
    k5 = key >> 32 & 0xFFFF
    k6 = key >> 16 & 0xFFFF
    k7 = key & 0xFFFF
    # fmt: off
    return (
        k0, k1, k2, k3, k4, k5, k6, k7,
        b[a[k0] ^ k1], b[a[k1] ^ k2], b[a[k2] ^ k3], b[a[k3] ^ k4],
        b[a[k4] ^ k5], b[a[k5] ^ k6], b[a[k6] ^ k7], b[a[k7] ^ k0],
    )
    # fmt: on


def misty1_encrypt(schedule: MistySchedule, block: int) -> int:
    """A 64-bit block enciphered. Source: RFC 2994 section 2.3, unrolled.

    p, q and r, s are the halves of D0 and D1; j stands for EK[8..15]. Two FL, then two rounds of FO, four times, and
    two FL at the end.
    """
    a, b = _A, _B
    k0, k1, k2, k3, k4, k5, k6, k7, j0, j1, j2, j3, j4, j5, j6, j7 = schedule
    p = block >> 48
    q = block >> 32 & 0xFFFF
    r = block >> 16 & 0xFFFF
    s = block & 0xFFFF
    q ^= p & k0
    p ^= q | j6
    s ^= r & j2
    r ^= s | k4
    t = b[a[p ^ k0] ^ j5] ^ q
    u = b[a[q ^ k2] ^ j1] ^ t
    r ^= u ^ k4
    s ^= b[a[t ^ k7] ^ j3] ^ u
    t = b[a[r ^ k1] ^ j6] ^ s
    u = b[a[s ^ k3] ^ j2] ^ t
    p ^= u ^ k5
    q ^= b[a[t ^ k0] ^ j4] ^ u
    q ^= p & k1
    p ^= q | j7
    s ^= r & j3
    r ^= s | k5
    t = b[a[p ^ k2] ^ j7] ^ q
    u = b[a[q ^ k4] ^ j3] ^ t
    r ^= u ^ k6
    s ^= b[a[t ^ k1] ^ j5] ^ u
    t = b[a[r ^ k3] ^ j0] ^ s
    u = b[a[s ^ k5] ^ j4] ^ t
    p ^= u ^ k7
    q ^= b[a[t ^ k2] ^ j6] ^ u
    q ^= p & k2
    p ^= q | j0
    s ^= r & j4
    r ^= s | k6
    t = b[a[p ^ k4] ^ j1] ^ q
    u = b[a[q ^ k6] ^ j5] ^ t
    r ^= u ^ k0
    s ^= b[a[t ^ k3] ^ j7] ^ u
    t = b[a[r ^ k5] ^ j2] ^ s
    u = b[a[s ^ k7] ^ j6] ^ t
    p ^= u ^ k1
    q ^= b[a[t ^ k4] ^ j0] ^ u
    q ^= p & k3
    p ^= q | j1
    s ^= r & j5
    r ^= s | k7
    t = b[a[p ^ k6] ^ j3] ^ q
    u = b[a[q ^ k0] ^ j7] ^ t
    r ^= u ^ k2
    s ^= b[a[t ^ k5] ^ j1] ^ u
    t = b[a[r ^ k7] ^ j4] ^ s
    u = b[a[s ^ k1] ^ j0] ^ t
    p ^= u ^ k3
    q ^= b[a[t ^ k6] ^ j2] ^ u
    q ^= p & k4
    p ^= q | j2
    s ^= r & j6
    r ^= s | k0
    return r << 48 | s << 32 | p << 16 | q


def misty1_decrypt(schedule: MistySchedule, block: int) -> int:
    """A 64-bit block deciphered: the steps of `misty1_encrypt` backwards."""
    a, b = _A, _B
    k0, k1, k2, k3, k4, k5, k6, k7, j0, j1, j2, j3, j4, j5, j6, j7 = schedule
    r = block >> 48
    s = block >> 32 & 0xFFFF
    p = block >> 16 & 0xFFFF
    q = block & 0xFFFF
    p ^= q | j2
    q ^= p & k4
    r ^= s | k0
    s ^= r & j6
    t = b[a[r ^ k7] ^ j4] ^ s
    u = b[a[s ^ k1] ^ j0] ^ t
    p ^= u ^ k3
    q ^= b[a[t ^ k6] ^ j2] ^ u
    t = b[a[p ^ k6] ^ j3] ^ q
    u = b[a[q ^ k0] ^ j7] ^ t
    r ^= u ^ k2
    s ^= b[a[t ^ k5] ^ j1] ^ u
    p ^= q | j1
    q ^= p & k3
    r ^= s | k7
    s ^= r & j5
    t = b[a[r ^ k5] ^ j2] ^ s
    u = b[a[s ^ k7] ^ j6] ^ t
    p ^= u ^ k1
    q ^= b[a[t ^ k4] ^ j0] ^ u
    t = b[a[p ^ k4] ^ j1] ^ q
    u = b[a[q ^ k6] ^ j5] ^ t
    r ^= u ^ k0
    s ^= b[a[t ^ k3] ^ j7] ^ u
    p ^= q | j0
    q ^= p & k2
    r ^= s | k6
    s ^= r & j4
    t = b[a[r ^ k3] ^ j0] ^ s
    u = b[a[s ^ k5] ^ j4] ^ t
    p ^= u ^ k7
    q ^= b[a[t ^ k2] ^ j6] ^ u
    t = b[a[p ^ k2] ^ j7] ^ q
    u = b[a[q ^ k4] ^ j3] ^ t
    r ^= u ^ k6
    s ^= b[a[t ^ k1] ^ j5] ^ u
    p ^= q | j7
    q ^= p & k1
    r ^= s | k5
    s ^= r & j3
    t = b[a[r ^ k1] ^ j6] ^ s
    u = b[a[s ^ k3] ^ j2] ^ t
    p ^= u ^ k5
    q ^= b[a[t ^ k0] ^ j4] ^ u
    t = b[a[p ^ k0] ^ j5] ^ q
    u = b[a[q ^ k2] ^ j1] ^ t
    r ^= u ^ k4
    s ^= b[a[t ^ k7] ^ j3] ^ u
    p ^= q | j6
    q ^= p & k0
    r ^= s | k4
    s ^= r & j2
    return p << 48 | q << 32 | r << 16 | s


# --- the key ----------------------------------------------------------------------------------------------------------


class DecoderKey:
    """A decoder key ready to encipher blocks: 64 bits for EA07, 128 for EA11. Its repr shows no bit of it.

    Refuses KEY_LENGTH for a number that does not fit, UNSUPPORTED for another algorithm. It cannot be copied into a
    pickle, and two are compared with `same_as`, in constant time.
    """

    __slots__ = ("__back", "__misty", "__sta", "__there", "__value", "ea")

    def __init__(self, ea: int, value: int, tables: TableSet = SAMPLE) -> None:
        if ea not in (7, 11):
            raise KeyRefused(Fault.UNSUPPORTED, f"encryption algorithm: 7 or 11 expected, got {ea}")
        if not 0 <= value < 1 << (64 if ea == 7 else 128):
            raise KeyRefused(Fault.KEY_LENGTH, f"decoder key: {64 if ea == 7 else 128} bits expected for EA{ea:02d}")
        self.ea: Final = ea
        self.__value = value
        # Schedules are made on first use: most keys encipher one token and decipher none.
        self.__misty: MistySchedule | None = None
        self.__there: StaSchedule | None = None
        self.__back: StaSchedule | None = None
        self.__sta = sta(tables) if ea == 7 else None

    @classmethod
    def from_bytes(cls, ea: int, raw: bytes, tables: TableSet = SAMPLE) -> "DecoderKey":
        """The key of 8 (EA07) or 16 (EA11) bytes, most significant first; refuses KEY_LENGTH."""
        if len(raw) != (8 if ea == 7 else 16):
            raise KeyRefused(Fault.KEY_LENGTH, f"decoder key of {len(raw)} bytes for EA{ea:02d}")
        return cls(ea, int.from_bytes(raw, "big"), tables)

    def encrypt(self, block: int) -> int:
        """A 64-bit clear block, enciphered."""
        if self.__sta is None:
            if self.__misty is None:
                self.__misty = misty1_schedule(self.__value)
            return misty1_encrypt(self.__misty, block)
        if self.__there is None:
            self.__there = self.__sta.schedule(self.__value)
        return sta_rounds(self.__there, block)

    def decrypt(self, block: int) -> int:
        """A 64-bit enciphered block, in clear."""
        if self.__sta is None:
            if self.__misty is None:
                self.__misty = misty1_schedule(self.__value)
            return misty1_decrypt(self.__misty, block)
        if self.__back is None:
            self.__back = self.__sta.inverse_schedule(self.__value)
        return self.__sta.decrypt(self.__back, block)

    def same_as(self, other: "DecoderKey") -> bool:
        """Is this the same key for the same algorithm? Takes the same time either way."""
        same = compare_digest(self.__value.to_bytes(16, "big"), other.__value.to_bytes(16, "big"))
        return same and self.ea == other.ea

    @property
    def bits(self) -> int:
        """64 or 128."""
        return 64 if self.ea == 7 else 128

    def secret_value(self) -> int:
        """The key itself. For key-change tokens, which carry it to the meter, and for tests; for nothing else."""
        return self.__value

    def __repr__(self) -> str:
        return f"<DecoderKey EA{self.ea:02d}, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a decoder key cannot be pickled or copied")
