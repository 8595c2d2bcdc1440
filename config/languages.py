"""What customers read, in every language: key and values to text. Falls back, never fails.

Pure, but for `load` at the end, which reads the files.

For translators. A language is one file, `languages/xx.toml`, where xx is its ISO 639-1 code; copy en.toml to begin.
In a text,

    {drn}                   is replaced by the value of that name; the names are those of the English text
    [, fee {fee_minor}]     square brackets: left out as a whole when a value in it is missing, zero or empty
    {amount_minor}          names that end in _minor are money: "KES 1,000.50"; {amount_minor:plain} leaves out "KES"
    {units_tenths}          names that end in _tenths are energy with one decimal: "44.3"
    {tokens}                a list: an entry a line, in the words of tokens_credit, tokens_free, ... or tokens_other
    {digits}                a token in groups of four
    {languages}             is always there: the words by which a customer chooses a language

and nothing else is special; braces and brackets cannot be written as such. Texts for phones in Latin script use the
characters of the GSM 7-bit alphabet only (no c with cedilla, no tilde, hardly an accent): one other character, and a
message holds 70 characters instead of 160. `differences` lists what a file lacks.

In a language written from right to left, groups of digits would be shown in reversed order: a token's groups are
joined by no-break spaces, and values such as dates stand between left-to-right marks. Put U+200E ("\\u200E" in TOML) on
both sides of an example such as "04012345676 500".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

LAST_RESORT: Final = "en"
UNKNOWN_VALUE: Final = "?"
NO_BREAK_SPACE: Final = "\u00a0"
LEFT_TO_RIGHT_MARK: Final = "\u200e"

_PIECE: Final = re.compile(r"\{([a-z_]+)(:plain)?\}|([\[\]{}])")
_ALWAYS_THERE: Final = frozenset({"languages"})


@dataclass(frozen=True, slots=True)
class Field:
    """The place of a value in a text."""

    name: str
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Optional:
    """A part of a text that goes when one of its values is absent."""

    pieces: tuple[str | Field, ...]


Template = tuple[str | Field | Optional, ...]


class TemplateFault(ValueError):
    """A text that cannot be read: says what is wrong and where."""


@cache
def template(text: str) -> Template:
    """A text in pieces. Raises `TemplateFault`."""
    pieces: list[str | Field | Optional] = []
    inner: list[str | Field] | None = None
    at = 0
    for found in _PIECE.finditer(text):
        target: list[Any] = pieces if inner is None else inner
        if found.start() > at:
            target.append(text[at : found.start()])
        at = found.end()
        if found[1]:
            target.append(Field(found[1], found[2] is not None))
        elif found[3] == "[" and inner is None:
            inner = []
        elif found[3] == "]" and inner is not None:
            if not any(isinstance(piece, Field) for piece in inner):
                raise TemplateFault(f"brackets without a value in them before character {at}")
            pieces.append(Optional(tuple(inner)))
            inner = None
        else:
            raise TemplateFault(f"{found[3]} out of place at character {at}")
    if inner is not None:
        raise TemplateFault("a bracket is not closed")
    if at < len(text):
        pieces.append(text[at:])
    return tuple(pieces)


def fields(pieces: Template) -> frozenset[tuple[str, bool]]:
    """The values a text asks for: name, and whether the text can do without it."""

    def each() -> Iterator[tuple[str, bool]]:
        for piece in pieces:
            if isinstance(piece, Field):
                yield piece.name, False
            elif isinstance(piece, Optional):
                yield from ((inner.name, True) for inner in piece.pieces if isinstance(inner, Field))

    return frozenset(each())


@dataclass(frozen=True, slots=True)
class Language:
    """One language file, read."""

    code: str
    name: str
    choose: str  # the word by which a customer chooses it, in GSM characters
    is_right_to_left: bool
    decimal_sign: str
    thousands_sign: str
    is_currency_first: bool
    keywords: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something a text needed and did not find, for the log and the counters. Holds no values.

    `field` is None when the text itself is missing in this language and another one was used.
    """

    language: str
    key: str
    field: str | None


def _no_one(gap: Gap) -> None:
    """Nobody counts."""


class Catalogue:
    """All texts in all languages.

    Made from documents by language code, as TOML gives them. What is wrong in them is in `faults`, by place; the
    faulty text counts as missing, so that a slip of one translator stops nobody's token.
    """

    def __init__(
        self,
        documents: Mapping[str, Mapping[str, Any]],
        default: str = LAST_RESORT,
        on_gap: Callable[[Gap], None] = _no_one,
    ) -> None:
        faults: list[str] = []
        self._languages = {code.lower(): _language(code, documents[code], faults) for code in sorted(documents)}
        self._default = default.lower()
        self._on_gap = on_gap
        self._chosen_by = ", ".join(language.choose for language in self._languages.values())
        self.faults: tuple[str, ...] = tuple(faults)

    @property
    def languages(self) -> Mapping[str, Language]:
        """The languages by code."""
        return self._languages

    def keywords(self) -> dict[str, tuple[str, ...]]:
        """The words of all languages by the name of their meaning: {"buy": ("buy", "nunua", ...)}."""
        words: dict[str, tuple[str, ...]] = {}
        for language in self._languages.values():
            for meaning, own in language.keywords.items():
                if meaning != "names":
                    words[meaning] = words.get(meaning, ()) + own
        return words

    def language_words(self) -> dict[str, str]:
        """The words for each language, its code among them, and the code."""
        words: dict[str, str] = {}
        for code, language in self._languages.items():
            for word in (code, *language.keywords.get("names", ())):
                words.setdefault(word, code)
        return words

    def text(self, key: str, values: Mapping[str, Any], language: str) -> str:
        """The text of this key in this language, or the nearest there is: xx-YY, xx, the default, English.

        A value that is missing or of the wrong kind shows as a question mark and is reported; an unknown key shows as
        its own words. Never raises.
        """
        asked = language.lower().replace("_", "-")
        wished = (asked, asked.partition("-")[0])
        for code in (*wished, self._default, self._default.partition("-")[0], LAST_RESORT):
            found = self._languages.get(code)
            if found is not None and key in found.templates:
                if code not in wished:
                    self._on_gap(Gap(asked, key, None))
                return "".join(self._pieces(found, key, found.templates[key], values))
        self._on_gap(Gap(asked, key, None))
        return key.replace("_", " ")

    def _pieces(self, language: Language, key: str, pieces: Template, values: Mapping[str, Any]) -> Iterator[str]:
        for piece in pieces:
            if isinstance(piece, str):
                yield piece
            elif isinstance(piece, Field):
                written = self._value(language, key, piece, values)
                if written is None:
                    self._on_gap(Gap(language.code, key, piece.name))
                yield UNKNOWN_VALUE if written is None else written
            elif all(self._is_there(inner, values) for inner in piece.pieces if isinstance(inner, Field)):
                yield from self._pieces(language, key, piece.pieces, values)

    def _is_there(self, field: Field, values: Mapping[str, Any]) -> bool:
        return field.name in _ALWAYS_THERE or bool(values.get(field.name))

    def _value(self, language: Language, key: str, field: Field, values: Mapping[str, Any]) -> str | None:
        """A value in words; None when it is missing or of the wrong kind."""
        name, value = field.name, values.get(field.name)
        if name in _ALWAYS_THERE and value is None:
            value = self._chosen_by
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, int):
            if abs(value) >= 10**30:
                return None
            if name.endswith("_minor"):
                return self._money(language, key, value, values, field.is_plain)
            return number(language, value, 1, is_short=False) if name.endswith("_tenths") else str(value)
        if isinstance(value, str):
            if name.endswith(("_minor", "_tenths")):
                return None
            if name == "digits":
                return groups_of_four(value, NO_BREAK_SPACE if language.is_right_to_left else " ")
            return _marked(value) if language.is_right_to_left else value
        if isinstance(value, Sequence):
            return "\n".join(self._entry(language, name, entry, values) for entry in value)
        return None

    def _money(self, language: Language, key: str, minor: int, values: Mapping[str, Any], is_plain: bool) -> str | None:
        digits, currency = values.get("minor_digits"), values.get("currency")
        if not isinstance(digits, int) or not 0 <= digits <= 4:
            return None  # without it the amount could be wrong a hundredfold
        amount = number(language, minor, digits, is_short=True)
        if minor < 0 and language.is_right_to_left:
            amount = _marked(amount)
        if is_plain:
            return amount
        if not isinstance(currency, str):
            self._on_gap(Gap(language.code, key, "currency"))
            return amount
        return f"{currency} {amount}" if language.is_currency_first else f"{amount} {currency}"

    def _entry(self, language: Language, name: str, entry: Any, values: Mapping[str, Any]) -> str:
        """One entry of a list: in the words for its kind, or in those for any other."""
        if not isinstance(entry, Mapping):
            self._on_gap(Gap(language.code, name, None))
            return UNKNOWN_VALUE
        kind = entry.get("kind")
        own = f"{name}_{kind.lower()}" if isinstance(kind, str) else ""
        key = own if any(own in other.templates for other in self._languages.values()) else f"{name}_other"
        money = {shared: values.get(shared) for shared in ("currency", "minor_digits")}
        return self.text(key, {**money, **entry}, language.code)


# --- numbers ----------------------------------------------------------------------------------------------------------


def number(language: Language, value: int, digits: int, *, is_short: bool) -> str:
    """An integer of 10**-digits as a decimal number: 123405, 2 -> "1,234.05". Short: no decimals that are all zero."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, rest = divmod(value, 10**digits)
    written = f"{whole:,}".replace(",", language.thousands_sign)
    if digits == 0 or (is_short and rest == 0):
        return sign + written
    return f"{sign}{written}{language.decimal_sign}{rest:0{digits}d}"


def groups_of_four(digits: str, between: str) -> str:
    """A token for reading and typing: "1234 5678 9012 3456 7890"."""
    return between.join(digits[at : at + 4] for at in range(0, len(digits), 4))


def _marked(value: str) -> str:
    """A value between left-to-right marks where a right-to-left text would show its parts in another order."""
    return value if value.isalnum() else f"{LEFT_TO_RIGHT_MARK}{value}{LEFT_TO_RIGHT_MARK}"


# --- reading ----------------------------------------------------------------------------------------------------------


def _table(code: str, document: Mapping[str, Any], name: str, faults: list[str]) -> Mapping[str, Any]:
    value = document.get(name)
    if isinstance(value, Mapping):
        return value
    faults.append(f"{code}: {name}: a table expected")
    return {}


def _word(code: str, table: Mapping[str, Any], name: str, otherwise: str, faults: list[str]) -> str:
    value = table.get(name.rpartition(".")[2])
    if isinstance(value, str):
        return value
    faults.append(f"{code}: {name}: a text expected")
    return otherwise


def _language(code: str, document: Mapping[str, Any], faults: list[str]) -> Language:
    for name in document:
        if name not in ("meta", "numbers", "keywords", "texts"):
            faults.append(f"{code}: {name}: not known here")
    meta, numbers = _table(code, document, "meta", faults), _table(code, document, "numbers", faults)
    direction = _word(code, meta, "meta.direction", "ltr", faults)
    if direction not in ("ltr", "rtl"):
        faults.append(f"{code}: meta.direction: ltr or rtl expected")
    is_currency_first = numbers.get("currency_first")
    if not isinstance(is_currency_first, bool):
        faults.append(f"{code}: numbers.currency_first: true or false expected")
    keywords: dict[str, tuple[str, ...]] = {}
    for meaning, words in _table(code, document, "keywords", faults).items():
        if isinstance(words, list) and all(isinstance(word, str) and word.split() == [word] for word in words):
            keywords[meaning] = tuple(words)
        else:
            faults.append(f"{code}: keywords.{meaning}: a list of single words expected")
    templates: dict[str, Template] = {}
    for key, text in _table(code, document, "texts", faults).items():
        try:
            if not isinstance(text, str) or not text.strip():
                raise TemplateFault("a text expected")
            templates[key] = template(text)
        except TemplateFault as fault:
            faults.append(f"{code}: texts.{key}: {fault}")
    return Language(
        code=code,
        name=_word(code, meta, "meta.name", code, faults),
        choose=_word(code, meta, "meta.choose", code.upper(), faults),
        is_right_to_left=direction == "rtl",
        decimal_sign=_word(code, numbers, "numbers.decimal", ".", faults),
        thousands_sign=_word(code, numbers, "numbers.thousands", "", faults),
        is_currency_first=is_currency_first is not False,
        keywords=keywords,
        templates=templates,
    )


def differences(catalogue: Catalogue, reference: str = LAST_RESORT) -> tuple[str, ...]:
    """What each language lacks or has too much of, measured by the reference: texts, their values, keywords."""
    found: list[str] = []
    model = catalogue.languages[reference]
    for code, language in catalogue.languages.items():
        for what, own, model_own in (
            ("texts", language.templates.keys(), model.templates.keys()),
            ("keywords", language.keywords.keys(), model.keywords.keys()),
        ):
            found += [f"{code}: {what}.{key}: missing" for key in sorted(model_own - own)]
            found += [f"{code}: {what}.{key}: not in {reference}" for key in sorted(own - model_own)]
        for key in sorted(language.templates.keys() & model.templates.keys()):
            # The words for choosing a language are there for every text, and a short message may have no room for them.
            odd = {
                field
                for field in fields(language.templates[key]) ^ fields(model.templates[key])
                if field[0] not in _ALWAYS_THERE
            }
            found += [
                f"{code}: texts.{key}: {name} is not as in {reference}" for name in sorted({name for name, _ in odd})
            ]
    return tuple(found)


def load(default: str = LAST_RESORT, folder: Path | None = None, on_gap: Callable[[Gap], None] = _no_one) -> Catalogue:
    """The catalogue of the language files that come with the product, and of those in `folder`, which win.

    A file that is not TOML is left out and named in the catalogue's `faults`. OSError when a file cannot be read.
    """
    documents, faults = _shipped()
    if folder is not None:
        own, own_faults = _documents(folder)
        documents, faults = documents | own, faults + own_faults
    catalogue = Catalogue(documents, default, on_gap)
    catalogue.faults = (*faults, *catalogue.faults)
    return catalogue


@cache
def _shipped() -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    return _documents(files("config").joinpath("languages"))


def _documents(source: Traversable) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """The language files of a folder by code, and what is wrong with those that cannot be read."""
    documents: dict[str, Mapping[str, Any]] = {}
    faults: list[str] = []
    for file in sorted(source.iterdir(), key=lambda entry: entry.name):
        code, _, ending = file.name.rpartition(".")
        if ending != "toml":
            continue
        try:
            documents[code] = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:  # not TOML, or not UTF-8
            faults.append(f"{code}: {error}")
    return documents, tuple(faults)
