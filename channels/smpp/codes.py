"""The numbers of SMPP 3.4 with their names, and what a command_status means for a message of ours. Data.

Numbers and names of commands (5.1.2.1), statuses (5.1.3) and optional parameters (5.3.2) come from smpplib; the
classes of statuses come from what message centres were seen to do:
throttling arrives as RTHROTTLED, RMSGQFUL, RSYSERR, RSUBMITFAIL or a vendor's own number.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from smpplib import consts
from smpplib.command_codes import commands

HEADER_OCTETS: Final = 16
RESPONSE_BIT: Final = 0x80000000
MAX_SEQUENCE: Final = 0x7FFFFFFF

COMMAND_NAMES: Final[dict[int, str]] = {number: name for name, number in commands.items()}

BIND_RECEIVER: Final[int] = commands["bind_receiver"]
BIND_TRANSMITTER: Final[int] = commands["bind_transmitter"]
BIND_TRANSCEIVER: Final[int] = commands["bind_transceiver"]
BIND_RECEIVER_RESP: Final[int] = commands["bind_receiver_resp"]
BIND_TRANSMITTER_RESP: Final[int] = commands["bind_transmitter_resp"]
BIND_TRANSCEIVER_RESP: Final[int] = commands["bind_transceiver_resp"]
SUBMIT_SM: Final[int] = commands["submit_sm"]
SUBMIT_SM_RESP: Final[int] = commands["submit_sm_resp"]
DELIVER_SM: Final[int] = commands["deliver_sm"]
DELIVER_SM_RESP: Final[int] = commands["deliver_sm_resp"]
DATA_SM: Final[int] = commands["data_sm"]
DATA_SM_RESP: Final[int] = commands["data_sm_resp"]
ENQUIRE_LINK: Final[int] = commands["enquire_link"]
ENQUIRE_LINK_RESP: Final[int] = commands["enquire_link_resp"]
UNBIND: Final[int] = commands["unbind"]
UNBIND_RESP: Final[int] = commands["unbind_resp"]
GENERIC_NACK: Final[int] = commands["generic_nack"]
OUTBIND: Final[int] = commands["outbind"]
ALERT_NOTIFICATION: Final[int] = commands["alert_notification"]

TLV_RECEIPTED_MESSAGE_ID: Final[int] = consts.OPTIONAL_PARAMS["receipted_message_id"]
TLV_MESSAGE_PAYLOAD: Final[int] = consts.OPTIONAL_PARAMS["message_payload"]
TLV_ITS_SESSION_INFO: Final[int] = consts.OPTIONAL_PARAMS["its_session_info"]
TLV_MESSAGE_STATE: Final[int] = consts.OPTIONAL_PARAMS["message_state"]
TLV_NETWORK_ERROR_CODE: Final[int] = consts.OPTIONAL_PARAMS["network_error_code"]
TLV_SAR_MSG_REF_NUM: Final[int] = consts.OPTIONAL_PARAMS["sar_msg_ref_num"]
TLV_SAR_TOTAL_SEGMENTS: Final[int] = consts.OPTIONAL_PARAMS["sar_total_segments"]
TLV_SAR_SEGMENT_SEQNUM: Final[int] = consts.OPTIONAL_PARAMS["sar_segment_seqnum"]
TLV_SC_INTERFACE_VERSION: Final[int] = consts.OPTIONAL_PARAMS["sc_interface_version"]
TLV_USER_MESSAGE_REFERENCE: Final[int] = consts.OPTIONAL_PARAMS["user_message_reference"]
TLV_USSD_SERVICE_OP: Final[int] = consts.OPTIONAL_PARAMS["ussd_service_op"]

UDHI: Final[int] = consts.SMPP_GSMFEAT_UDHI
VERSION_34: Final[int] = consts.SMPP_VERSION_34

ROK: Final[int] = consts.SMPP_ESME_ROK
RINVMSGLEN: Final[int] = consts.SMPP_ESME_RINVMSGLEN
RINVCMDLEN: Final[int] = consts.SMPP_ESME_RINVCMDLEN
RINVCMDID: Final[int] = consts.SMPP_ESME_RINVCMDID
RINVBNDSTS: Final[int] = consts.SMPP_ESME_RINVBNDSTS
RALYBND: Final[int] = consts.SMPP_ESME_RALYBND
RSYSERR: Final[int] = consts.SMPP_ESME_RSYSERR
RINVSRCADR: Final[int] = consts.SMPP_ESME_RINVSRCADR
RINVDSTADR: Final[int] = consts.SMPP_ESME_RINVDSTADR
RBINDFAIL: Final[int] = consts.SMPP_ESME_RBINDFAIL
RINVPASWD: Final[int] = consts.SMPP_ESME_RINVPASWD
RINVSYSID: Final[int] = consts.SMPP_ESME_RINVSYSID
RMSGQFUL: Final[int] = consts.SMPP_ESME_RMSGQFUL
RINVSYSTYP: Final[int] = consts.SMPP_ESME_RINVSYSTYP
RTHROTTLED: Final[int] = consts.SMPP_ESME_RTHROTTLED
RX_T_APPN: Final[int] = consts.SMPP_ESME_RX_T_APPN
RX_P_APPN: Final[int] = consts.SMPP_ESME_RX_P_APPN
RX_R_APPN: Final[int] = consts.SMPP_ESME_RX_R_APPN
RINVOPTPARAMVAL: Final[int] = consts.SMPP_ESME_RINVOPTPARAMVAL
RDELIVERYFAILURE: Final[int] = consts.SMPP_ESME_RDELIVERYFAILURE
RUNKNOWNERR: Final[int] = consts.SMPP_ESME_RUNKNOWNERR

STATUS_NAMES: Final[dict[int, str]] = {
    number: name.removeprefix("SMPP_") for name, number in vars(consts).items() if name.startswith("SMPP_ESME_")
}


def command_name(command_id: int) -> str:
    """Give "deliver_sm" for 5; an unknown number in hexadecimal."""
    return COMMAND_NAMES.get(command_id) or f"0x{command_id:08X}"


def status_name(command_status: int) -> str:
    """Give "ESME_RTHROTTLED" for 0x58; a vendor's number in hexadecimal."""
    return STATUS_NAMES.get(command_status) or f"0x{command_status:08X}"


class Verdict(Enum):
    """What the answer to submit_sm means for the message and its link."""

    TAKEN = "taken"
    PAUSE = "pause"  # not taken: the link rests a second, then the same message again
    LATER = "later"  # not taken, may be taken later
    REBIND = "rebind"  # the message centre does not hold us for bound: start the session anew
    NEVER = "never"  # refused for good


# fmt: off
_VERDICTS: Final[dict[int, Verdict]] = {
    ROK:                                Verdict.TAKEN,
    RTHROTTLED:                         Verdict.PAUSE,
    RMSGQFUL:                           Verdict.PAUSE,
    RINVBNDSTS:                         Verdict.REBIND,
    RSYSERR:                            Verdict.LATER,
    RX_T_APPN:                          Verdict.LATER,
    RDELIVERYFAILURE:                   Verdict.LATER,
    RUNKNOWNERR:                        Verdict.LATER,
    # A generic_nack for a command we wrote well: the stream was disturbed, not the message refused.
    RINVCMDLEN:                         Verdict.LATER,
    RINVCMDID:                          Verdict.LATER,
    consts.SMPP_ESME_RINVMSGLEN:        Verdict.NEVER,
    RINVSRCADR:                         Verdict.NEVER,
    RINVDSTADR:                         Verdict.NEVER,
    consts.SMPP_ESME_RINVSERTYP:        Verdict.NEVER,
    consts.SMPP_ESME_RINVNUMDESTS:      Verdict.NEVER,
    consts.SMPP_ESME_RINVDLNAME:        Verdict.NEVER,
    consts.SMPP_ESME_RINVESMCLASS:      Verdict.NEVER,
    consts.SMPP_ESME_RSUBMITFAIL:       Verdict.NEVER,
    consts.SMPP_ESME_RINVSRCTON:        Verdict.NEVER,
    consts.SMPP_ESME_RINVSRCNPI:        Verdict.NEVER,
    consts.SMPP_ESME_RINVDSTTON:        Verdict.NEVER,
    consts.SMPP_ESME_RINVDSTNPI:        Verdict.NEVER,
    consts.SMPP_ESME_RINVSCHED:         Verdict.NEVER,
    consts.SMPP_ESME_RINVEXPIRY:        Verdict.NEVER,
    consts.SMPP_ESME_RINVDFTMSGID:      Verdict.NEVER,
    RX_P_APPN:                          Verdict.NEVER,
    RX_R_APPN:                          Verdict.NEVER,
    consts.SMPP_ESME_RINVOPTPARSTREAM:  Verdict.NEVER,
    consts.SMPP_ESME_ROPTPARNOTALLWD:   Verdict.NEVER,
    consts.SMPP_ESME_RINVPARLEN:        Verdict.NEVER,
    consts.SMPP_ESME_RMISSINGOPTPARAM:  Verdict.NEVER,
    consts.SMPP_ESME_RINVOPTPARAMVAL:   Verdict.NEVER,
}
# fmt: on

# A bind refused with one of these is refused until somebody changes a setting: try slowly, and raise an alarm.
# RBINDFAIL is among them although a message centre also says it for some 30 s after a dropped session.
BIND_NEEDS_A_PERSON: Final[frozenset[int]] = frozenset((RBINDFAIL, RINVPASWD, RINVSYSID, RINVSYSTYP))


def verdict(command_status: int) -> Verdict:
    """Give the class of an answer to submit_sm. Unknown and vendors' numbers are LATER: the outbox counts attempts."""
    return _VERDICTS.get(command_status, Verdict.LATER)
