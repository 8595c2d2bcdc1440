"""`prepaid iso check | explain | selftest`: banks' dialects and their messages by hand, for integrators. Shell.

Each command ends with an exit code: 0 well, 1 the answer is no (a profile or message is wrong, a record differs), 2
what was given cannot be used. Answers go to standard output, complaints to standard error. Messages are shown masked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from channels.iso8583 import codes, recognise, shipped
from channels.iso8583.answers import has_one_token
from channels.iso8583.describe import described
from channels.iso8583.message import Message
from channels.iso8583.profile import Profile
from channels.iso8583.reading import ProfileFaults
from channels.iso8583.selftest import check_lines
from gateway.keysession import NO, UNUSABLE, WELL, Unusable, bytes_of, say
from sts.selftest import Result, Tally

VECTORS_BYTES_MAX: Final = 64 * 1024 * 1024
# Separators that people and tools put between hexadecimal digits.
_BETWEEN: Final = str.maketrans("", "", " \t\r\n:-_")


def add_commands(subparsers: Any) -> argparse.ArgumentParser:
    """Add `iso` with its sub-commands to an argparse sub-parsers object; each sets `run`, options to exit code."""
    about = "check a bank's ISO 8583 dialect and read its messages"
    iso: argparse.ArgumentParser = subparsers.add_parser("iso", help=about, description=about)
    what = iso.add_subparsers(dest="iso_command", required=True, metavar="WHAT")

    about = "check a profile whole, and say what it does"
    checking = what.add_parser(
        "check", help=about, description=about + ". Ends with 0, or 1 with every fault and its path."
    )
    checking.add_argument("profile", metavar="PROFILE", help=f"a file, or one of {', '.join(shipped.names())}")
    checking.set_defaults(run=_answering(_check))

    about = "say what a message says, masked"
    explaining = what.add_parser(
        "explain",
        help=about,
        description=about
        + ". Ends with 0, or 1 if the bytes are no message of a profile. A message may hold a card number: prefer "
        "standard input to the command line, which others can see.",
    )
    explaining.add_argument(
        "hex", nargs="*", metavar="HEX", help="hexadecimal digits in any groups; by default standard input"
    )
    explaining.add_argument(
        "--profile", metavar="PROFILE", help="a file or a shipped profile; by default every shipped one is tried"
    )
    explaining.add_argument(
        "--framing",
        default="",
        choices=[recognise.NONE, *recognise.framings()],
        metavar="FRAMING",
        help=f"{recognise.NONE}, or {', '.join(recognise.framings())}; by default every one is tried",
    )
    explaining.add_argument("--json", action="store_true", help="JSON lines, one for each message")
    explaining.set_defaults(run=_answering(_explain))

    about = "known-answer test: try every record of a vector file and compare"
    testing = what.add_parser(
        "selftest",
        help=about,
        description=about
        + ". One JSON line for each record that differs or is unreadable, then a summary. Ends with 0 if none does, 1 "
        "otherwise, 2 if the file cannot be read or has no record.",
    )
    testing.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="JSON lines, a record each")
    testing.set_defaults(run=_answering(_selftest))
    return iso


def _answering(work: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        try:
            return work(options)
        except (Unusable, OSError) as error:
            sys.stderr.write(f"prepaid iso {options.iso_command}: {error}\n")
            return UNUSABLE

    return run


# --- check ------------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    try:
        profile = shipped.profile(options.profile)
    except ProfileFaults as faults:
        sys.stderr.write(f"{faults}\n")
        return NO
    for line in _summary(profile):
        say(line)
    return WELL


def _summary(profile: Profile) -> Iterable[str]:
    """A profile in words, for the integrator who compares it with the bank's paper."""
    packager, framing, link = profile.packager, profile.framing, profile.link
    yield f"profile    {profile.name}: {profile.about}"
    frame = [framing.kind, "inclusive" if framing.inclusive else "", "TPDU" if framing.tpdu else ""]
    frame.append(f"trailer {framing.trailer.hex().upper()}" if framing.trailer else "")
    yield f"frames     {', '.join(filter(None, frame))}; at most {framing.max_frame} bytes"
    yield (f"link       {link.role}, sign-on {link.sign_on}, echo every {link.echo_every_s} s")
    encoding = packager.encoding
    yield (
        f"written    type {packager.mti}, bitmap {packager.fields.bitmap.kind}, text {encoding.text}, "
        f"numbers {encoding.num}, lengths {encoding.len}, bytes {encoding.bin}"
    )
    yield f"fields     {len(packager.fields.codecs)}, with parts: {_listed(packager.fields.structures) or 'none'}"
    mac = profile.mac
    if mac is None:
        yield "MAC        none"
    else:
        over = "all" if not mac.covers else f"fields {_listed(mac.covers)}"
        yield f"MAC        {mac.algorithm}, padding {mac.padding}, over {over}, not for {_listed(mac.skip) or 'none'}"
    for rule in profile.messages:
        repeats = f", repeats {_listed(rule.repeats)}" if rule.repeats else ""
        yield f"{rule.asked:<10} {_listed(rule.mtis)}{repeats}; must have {_listed(rule.require)}"
    yield f"key        {_listed(profile.key)}; fingerprint {_listed(profile.fingerprint)}"
    yield f"reversal   {profile.reversal.policy}; an advice of one that is refused: {profile.reversal.advice_refusal}"
    if has_one_token(profile):
        yield f"tokens     a place for one; a sale that comes to more: {profile.several_tokens}"
    differing = [f"{name} {code}" for name, code in profile.codes.items() if code != _standard(profile)[name]]
    yield f"codes      as {profile.style}{', but ' + ', '.join(differing) if differing else ''}"
    yield "well"


def _standard(profile: Profile) -> dict[str, str]:
    return codes.table(profile.style)


def _listed(items: Iterable[object]) -> str:
    return " ".join(map(str, items))


# --- explain ----------------------------------------------------------------------------------------------------------


def _explain(options: argparse.Namespace) -> int:
    data = _data(options.hex)
    if options.profile:
        try:
            profiles = [shipped.profile(options.profile)]
        except ProfileFaults as faults:
            raise Unusable(str(faults)) from None
    else:
        profiles = [shipped.shipped(name) for name in shipped.names()]
    # A profile that reads the bytes but does not know such a type comes last.
    found = sorted(recognise.readings(data, profiles, options.framing), key=lambda reading: not reading.is_likely)
    if not found:
        for name, sentence in recognise.faults(data, profiles).items():
            sys.stderr.write(f"prepaid iso explain: as {name}: {sentence}\n")
        if options.framing != recognise.NONE:
            sys.stderr.write("prepaid iso explain: and in no frame of a known kind\n")
        return NO
    best = found[0]
    for message in best.messages:
        _say(message, best, options.json)
    if len(found) > 1:
        others = ", ".join(f"{each.profile.name} ({each.framing})" for each in found[1:])
        sys.stderr.write(f"prepaid iso explain: also read by: {others}\n")
    return WELL


def _say(message: Message, reading: recognise.Reading, as_json: bool) -> None:
    profile = reading.profile
    rule = profile.rule_of(message)
    lines = described(message, profile.names, profile.show)
    if as_json:
        facts: dict[str, Any] = {"profile": profile.name, "framing": reading.framing, "mti": message.mti}
        facts["asked"] = rule.asked.value if rule else None
        facts["fields"] = {line.path: line.shown for line in lines if line.path != "MTI"}
        say(json.dumps(facts))
        return
    say(f"profile {profile.name}, framing {reading.framing}, {rule.asked.value if rule else 'an answer or unknown'}")
    for line in lines:
        say(f"  {line.path:<24} {line.name:<34} {line.shown}")


def _data(given: list[str]) -> bytes:
    if given and given != ["-"]:
        text = " ".join(given)
    else:
        text = sys.stdin.read(recognise.BYTES_MAX * 4)
    digits = text.translate(_BETWEEN).removeprefix("0x").removeprefix("0X")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise Unusable("an even number of hexadecimal digits expected") from None
    if not 0 < len(data) <= recognise.BYTES_MAX:
        raise Unusable(f"1 to {recognise.BYTES_MAX} bytes expected, got {len(data)}")
    return data


# --- selftest ---------------------------------------------------------------------------------------------------------


def _selftest(options: argparse.Namespace) -> int:
    raw = bytes_of(options.vectors, VECTORS_BYTES_MAX)
    known = {name: shipped.shipped(name).packager for name in shipped.names()}
    tally = Tally()
    for finding in check_lines(raw.split(b"\n"), known):
        tally.add(finding)
        if finding.result is not Result.PASSED:
            say(json.dumps(finding.as_json()))
    say(json.dumps(tally.as_json()))
    if not tally.rows:
        raise Unusable("vector file: at least one record expected")
    return WELL if tally.is_well else NO
