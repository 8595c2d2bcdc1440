"""EA07 tables: two substitutions and one permutation make a table set. Data, and its checks. Pure.

Two sets exist. `SAMPLE` holds the example values printed in the standard: public, complete, and refused by every
real EA07 meter. The operational values are handed out by the STS Association to its members; an operator who holds
them loads them as JSON text (`table_set_from`), and `sts.knownanswer` tells whether they are right.
EA11 and tokens of class 1 need no table.
Source: IEC 62055-41 (STA: substitution and permutation process).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sts.errors import Fault, StsError


class TableSetError(StsError):
    """An operator's EA07 tables are malformed; says which array, never its values."""


def inverse(table: Sequence[int]) -> tuple[int, ...]:
    """The inverse of a permutation of 0 to n-1."""
    result = [0] * len(table)
    for index, value in enumerate(table):
        result[value] = index
    return tuple(result)


@dataclass(frozen=True, slots=True)
class TableSet:
    """The tables of EA07 under a name. Refuses TABLE_SET unless each is a permutation of its length.

    `substitution_1` serves nibbles whose key nibble has top bit 0, `substitution_2` the others (16 entries each); bit
    i moves to bit `permutation[i]` (64 entries), counted from the least significant. The inverses for decryption are
    derived here, never asked for. The repr shows the name only: an operator's tables are confidential.
    """

    name: str
    substitution_1: tuple[int, ...] = field(repr=False)
    substitution_2: tuple[int, ...] = field(repr=False)
    permutation: tuple[int, ...] = field(repr=False)

    def __post_init__(self) -> None:
        for label, table, length in (
            ("enc_sub1", self.substitution_1, 16),
            ("enc_sub2", self.substitution_2, 16),
            ("enc_perm", self.permutation, 64),
        ):
            if len(table) != length:
                raise TableSetError(Fault.TABLE_SET, f"{label}: {length} integers expected, got {len(table)}")
            if any(type(value) is not int for value in table) or sorted(table) != list(range(length)):
                raise TableSetError(Fault.TABLE_SET, f"{label}: each of 0 to {length - 1} once expected")

    @property
    def inverse_substitution_1(self) -> tuple[int, ...]:
        """Undoes `substitution_1`."""
        return inverse(self.substitution_1)

    @property
    def inverse_substitution_2(self) -> tuple[int, ...]:
        """Undoes `substitution_2`."""
        return inverse(self.substitution_2)

    @property
    def inverse_permutation(self) -> tuple[int, ...]:
        """Undoes `permutation`."""
        return inverse(self.permutation)

    @property
    def is_sample(self) -> bool:
        """Are these the printed example values, whatever the name says? Real EA07 meters refuse their tokens."""
        return (self.substitution_1, self.substitution_2, self.permutation) == _SAMPLE_VALUES


def table_set_from(text: str, name: str = "operator") -> TableSet:
    """The table set in an operator's JSON text: an object with exactly `enc_sub1`, `enc_sub2` and `enc_perm`.

    Refuses TABLE_SET for anything else. The text must be kept as a secret is kept; no message repeats any of it.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # `from None`: the decoder's own message would carry the text along.
        raise TableSetError(Fault.TABLE_SET, "table file: a JSON object expected") from None
    if not isinstance(document, dict):
        raise TableSetError(Fault.TABLE_SET, "table file: a JSON object expected")
    if set(document) != {"enc_sub1", "enc_sub2", "enc_perm"}:
        raise TableSetError(Fault.TABLE_SET, "table file: exactly enc_sub1, enc_sub2 and enc_perm expected")
    for label, array in document.items():
        if not isinstance(array, list):
            raise TableSetError(Fault.TABLE_SET, f"{label}: an array expected")
    return TableSet(name, tuple(document["enc_sub1"]), tuple(document["enc_sub2"]), tuple(document["enc_perm"]))


# fmt: off
_SAMPLE_VALUES: Final = (
    (12, 10, 8, 4, 3, 15, 0, 2, 14, 1, 5, 13, 6, 9, 7, 11),
    (6, 9, 7, 4, 3, 10, 12, 14, 2, 13, 1, 15, 0, 11, 8, 5),
    (
        29, 27, 34,  9, 16, 62, 55,  2, 40, 49, 38, 25, 33, 61, 30, 23,
         1, 41, 21, 57, 42, 15,  5, 58, 19, 53, 22, 17, 48, 28, 24, 39,
         3, 60, 36, 14, 11, 52, 54, 12, 31, 51, 10, 26,  0, 45, 37, 43,
        44,  6, 59,  4,  7, 35, 56, 50, 13, 18, 32, 47, 46, 63, 20,  8,
    ),
)
# fmt: on

SAMPLE: Final = TableSet("sample", *_SAMPLE_VALUES)
"""The example values printed in the standard. Public; no real EA07 meter accepts a token made with them."""
