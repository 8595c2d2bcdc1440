"""The callback server over real sockets: methods, secrets, addresses, proxies, size, slowness, too many at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from channels.http.callback import Answer, Callback, is_within, networks
from channels.http.server import CallbackServer, Limits, Route

FORM = "application/x-www-form-urlencoded"


async def _echo(callback: Callback) -> Answer:
    return Answer(f"{callback.method} {len(callback.body)} {callback.address}")


@asynccontextmanager
async def _server(
    limits: Limits | None = None,
    refused: Callable[[str, str], None] = lambda name, why: None,
    handler: Callable[[Callback], object] = _echo,
    proxies: str = "",
    **changes: object,
) -> AsyncIterator[str]:
    route = Route("echo", "/ussd/menu/s3cret", frozenset({"POST"}), handler, **changes)  # type: ignore[arg-type]
    server = CallbackServer("127.0.0.1", 0, [route], limits or Limits(), proxies, on_refused=refused)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/ussd/menu/s3cret", {}, 200),
        ("GET", "/ussd/menu/s3cret", {}, 405),
        ("PUT", "/ussd/menu/s3cret", {}, 405),
        ("POST", "/ussd/menu/wrong", {}, 404),
        ("POST", "/ussd/menu", {}, 404),
        ("POST", "/", {}, 404),
        ("POST", "/ussd/menu/s3cret/../s3cret", {}, 200),  # the client itself folds the dots
    ],
)
async def test_only_the_route_and_its_method_are_served(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with _server() as base, aiohttp.ClientSession() as client:
        async with client.request(method, base + path, headers=headers, data=b"a=1") as response:
            assert response.status == status
            assert (response.headers.get("Allow") == "POST") is (status == 405)


async def test_a_header_secret_must_be_right() -> None:
    seen: list[tuple[str, str]] = []
    async with _server(
        refused=lambda name, why: seen.append((name, why)), header_name="X-Key", header_secret="abc"
    ) as base:
        async with aiohttp.ClientSession() as client:
            for given, status in ((None, 404), ("abd", 404), ("äbc", 404), ("abc", 200)):
                headers = {"X-Key": given} if given is not None else {}
                async with client.post(f"{base}/ussd/menu/s3cret", headers=headers) as response:
                    assert response.status == status
    assert seen == [("echo", "secret")] * 3


@pytest.mark.parametrize(
    ("allowed", "proxies", "forwarded", "status"),
    [
        ("127.0.0.0/8", "", None, 200),
        ("10.0.0.0/8", "", None, 404),
        ("10.0.0.0/8", "", "10.1.2.3", 404),  # nobody vouches for that header
        ("10.0.0.0/8", "127.0.0.1", "10.1.2.3", 200),
        ("10.0.0.0/8", "127.0.0.1", "10.1.2.3, 9.9.9.9", 404),  # the proxy saw 9.9.9.9, which said it was another
        ("10.0.0.0/8", "127.0.0.1 9.9.9.9", "10.1.2.3, 9.9.9.9", 200),
        ("10.0.0.0/8", "127.0.0.1", "nonsense", 404),
    ],
)
async def test_addresses_and_proxies(allowed: str, proxies: str, forwarded: str | None, status: int) -> None:
    async with _server(proxies=proxies, addresses=networks(allowed)) as base, aiohttp.ClientSession() as client:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        async with client.post(f"{base}/ussd/menu/s3cret", headers=headers) as response:
            assert response.status == status


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with _server(Limits(body_octets_max=1_024)) as base, aiohttp.ClientSession() as client:
        async with client.post(f"{base}/ussd/menu/s3cret", data=b"x" * 1_024) as response:
            assert response.status == 200
        async with client.post(f"{base}/ussd/menu/s3cret", data=b"x" * 1_025) as response:
            assert response.status == 413
        async with client.post(f"{base}/ussd/menu/s3cret", data=io.BytesIO(b"x" * 10_000_000)) as response:
            assert response.status == 413


async def test_a_body_that_trickles_is_given_up() -> None:
    async with _server(Limits(read_timeout_s=0.1)) as base:
        host, port = base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /ussd/menu/s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        assert b"408" in await asyncio.wait_for(reader.readline(), 60)
        writer.close()


async def test_too_many_at_once_are_told_to_come_back() -> None:
    release, entered = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(callback: Callback) -> Answer:
        entered.release()
        await release.wait()
        return Answer("done")

    async with _server(Limits(at_once_max=2), handler=slow) as base, aiohttp.ClientSession() as client:

        async def status() -> int:
            async with client.post(f"{base}/ussd/menu/s3cret") as response:
                return response.status

        waiting = [asyncio.create_task(status()) for _ in range(2)]
        for _ in waiting:
            await asyncio.wait_for(entered.acquire(), 60)
        assert await status() == 503
        release.set()
        assert await asyncio.gather(*waiting) == [200, 200]


async def test_a_bug_of_a_handler_is_a_500_and_the_server_lives() -> None:
    async def broken(callback: Callback) -> Answer:
        raise KeyError("secret-value")

    async with _server(handler=broken) as base, aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.post(f"{base}/ussd/menu/s3cret") as response:
                assert (response.status, await response.text()) == (500, "internal error")


def test_networks_are_read_and_compared() -> None:
    both = networks("196.201.214.0/24, 10.0.0.5  2001:db8::/32")
    assert [is_within(a, both) for a in ("196.201.214.7", "::ffff:10.0.0.5", "2001:db8::1", "10.0.0.6", "x", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(ValueError, match="300.1.1.1"):
        networks("10.0.0.1 300.1.1.1")
