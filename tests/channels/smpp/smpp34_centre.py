"""An independent message centre in a process of its own: smpp34's Server, told by arguments, telling by lines.

In a process of its own because that library may abort when the interpreter ends. Arguments: the port, then the texts
to deliver to the first receiver. Each line of output is a JSON list: what happened, and its values.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import smpp34

_keep: set[asyncio.Task[None]] = set()


def tell(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def deliver(esme: smpp34.Esme, texts: list[str]) -> None:
    for text in texts:
        answer = await esme.deliver_sm(
            "1234",
            text.encode("ascii"),
            source_addr="256772123456",
            source_addr_ton=1,
            tlvs=[smpp34.Tlv(0x1400, text.encode("ascii")), smpp34.Tlv(0x0501, b"\1")],
        )
        tell("answered", text, answer.command_status)


async def main(port: int, texts: list[str]) -> None:
    server = smpp34.Server("127.0.0.1", port)
    await server.start()
    tell("listening")
    accepted = 0
    while True:
        event = await server.next()
        if isinstance(event, smpp34.Esme):
            tell("bound", event.system_id, event.can_receive)
            if event.can_receive:
                task = asyncio.create_task(deliver(event, texts))
                _keep.add(task)
        elif isinstance(event, smpp34.SubmitSmEvent):
            text = event.short_message.decode("latin-1")
            if text.startswith("reject "):
                event.reject(int(text.removeprefix("reject ")))
            else:
                accepted += 1
                event.accept(f"id-{accepted}")
            tell("submitted", event.destination_addr, text)
        else:
            tell("unbound")
            os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
