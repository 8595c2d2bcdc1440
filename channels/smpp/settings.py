"""What a link to a message centre is told by its settings. Data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channels.smpp import codes
from channels.smpp.codes import BIND_TRANSCEIVER, TLV_RECEIPTED_MESSAGE_ID
from channels.smpp.events import Role
from channels.smpp.messageid import IdForms
from channels.smpp.pdu import Bind
from channels.smpp.text import Alphabet

MODES: Final[Mapping[str, tuple[Role, ...]]] = {
    "transceiver": (Role.TRANSCEIVER,),
    "pair": (Role.TRANSMITTER, Role.RECEIVER),
    "transmitter": (Role.TRANSMITTER,),
    "receiver": (Role.RECEIVER,),
}
"""The sessions that a link of each mode has."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One link to a message centre. Times in seconds.

    `centre`: the message centre's name, which links to the same one share; empty: that of the link. `mode`:
    "transceiver", "pair" for a transmitter and a receiver session, or one of these alone: "transmitter" takes no
    messages, "receiver" sends none. `source_addr`: our short code. `window`:
    submit_sm outstanding at most; the guide says 10 unless told otherwise (2.9). `enquire_link_s`: silence after
    which the peer is asked; keep it under the idle limit of a VPN; 0 for never. `inactivity_s`: silence after which
    the session is given up; 0 for never. `reference_tlv`: where this message centre puts its own message id on
    deliver_sm, None for nowhere. `max_unanswered`: messages held while they are stored; further ones are told to
    come later. `max_queued`: replies that wait for the window,
    each for at most `queued_s`. `verdicts`: command_status values that mean
    something else here. `rate_per_s`: submit_sm a second at most, each part of a long text counted; 0 for no limit.
    `validity_s`: for so long the message centre tries to deliver, 0 for as long as it likes. `prefixes`: the beginnings
    of the phone numbers that this link serves; none for all. `message_ids`: how ids in receipts are to those in
    responses (`channels/smpp/messageid.py`). `receipts_by_text`: an old message centre that does not mark its receipts;
    a customer's message of that form is then lost. `country_code`: put before customers' numbers that come without one.
    """

    name: str
    host: str
    port: int
    system_id: str
    password: str = field(repr=False)
    system_type: str = ""
    mode: str = "transceiver"
    source_addr: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    dest_addr_ton: int = 1
    dest_addr_npi: int = 1
    window: int = 10
    enquire_link_s: float = 30.0
    response_timeout_s: float = 60.0
    bind_timeout_s: float = 10.0
    inactivity_s: float = 120.0
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 30.0
    throttle_pause_s: float = 1.0
    throttle_retries: int = 3
    stop_grace_s: float = 5.0
    default_alphabet: Alphabet = Alphabet.GSM
    reference_tlv: int | None = TLV_RECEIPTED_MESSAGE_ID
    max_unanswered: int = 1000
    max_queued: int = 10_000
    queued_s: float = 60.0
    registered_delivery: int = 0
    centre: str = ""
    rate_per_s: float = 0.0
    validity_s: int = 0
    prefixes: tuple[str, ...] = ()
    message_ids: IdForms = IdForms.AUTO
    receipts_by_text: bool = False
    country_code: str = ""
    verdicts: Mapping[int, codes.Verdict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"link {self.name}: mode: one of {', '.join(MODES)} expected, got {self.mode!r}")
        if self.window < 1 or self.max_unanswered < 1:
            raise ValueError(f"link {self.name}: window and max_unanswered: at least 1 expected")
        if self.rate_per_s < 0 or self.validity_s < 0:
            raise ValueError(f"link {self.name}: rate_per_s and validity_s: 0 or more expected")
        try:
            Bind(BIND_TRANSCEIVER, 1, self.system_id, self.password, self.system_type).encode()
        except ValueError as fault:
            raise ValueError(f"link {self.name}: {fault}") from None
