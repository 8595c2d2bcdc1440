"""What was dialled behind a service code: `*384*5*6#` of the code `*384#` has typed 5, then 6. Pure."""

from __future__ import annotations


def typed_behind(code: str, dialled: str) -> str:
    """The inputs behind the code, joined by asterisks; empty where only the code, or something else, was dialled."""
    wanted = code.strip("*#")
    found = dialled.strip().removesuffix("#").removeprefix("*")
    if not wanted or found == wanted or not found.startswith(f"{wanted}*"):
        return ""
    return found[len(wanted) + 1 :]
