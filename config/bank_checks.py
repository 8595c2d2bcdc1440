"""What the settings of a bank must have together. Pure; `config/load.py` calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Fault = Callable[[str, object, str, str], None]


def check(fault: Fault, table: Mapping[str, Any], where: str, values: Mapping[str, Any]) -> None:
    """Note every fault between the values of one [[bank]] table; a value that is wrong by itself is left out of it."""
    if values.get("name") == "bank":  # clearing:bank is where deposits of stations come in
        fault(f"{where}.name", table.get("name"), 'another name than "bank"', '"bank"')
    if values.get("listen") == "" and values.get("dial") == "":
        fault(where, None, "listen or dial: where its links are", "neither")
    for name in ("listen", "dial"):
        for endpoint in values.get(name, "").split():
            if int(endpoint.rpartition(":")[2]) > 65_535:
                fault(f"{where}.{name}", table.get(name), "ports up to 65535", repr(endpoint))
    certificate, key = values.get("tls_certificate_file"), values.get("tls_key_file")
    if bool(certificate) != bool(key):
        missing = "tls_key_file" if certificate else "tls_certificate_file"
        fault(f"{where}.{missing}", None, "a path, since the other file of the pair is set", "none")
    if values.get("tls") and values.get("listen") and not certificate and not key:
        fault(f"{where}.tls_certificate_file", None, "a path, since links come in by TLS", "none")
    if values.get("tls") is False:
        for name in ("tls_certificate_file", "tls_ca_file", "tls_server_name", "tls_peer_names"):
            if values.get(name):
                fault(f"{where}.tls", table.get("tls"), f"true, since {name} is set", "false")
    if values.get("tls_peer_names") and values.get("tls_ca_file") == "" and values.get("listen"):
        fault(f"{where}.tls_ca_file", None, "a path, since tls_peer_names is set", "none")
    if values.get("listen") and values.get("addresses") == "" and values.get("tls_ca_file") == "":
        expected = "addresses or tls_ca_file: whoever dials must prove to be the bank"
        fault(where, None, expected, "neither")
    if values.get("zak") and not values.get("zmk") and "zmk" in values:
        fault(f"{where}.zmk", None, "the key that zak travels under", "none")
