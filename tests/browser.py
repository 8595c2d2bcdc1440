"""Chromium for the tests of pages: where it is, and how it is started without talking to anybody.

`python -m tests.browser` ends 0 if there is one, for the set-up.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright

NONE_FOUND = "no Chromium on this machine"
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """The path of Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@asynccontextmanager
async def page(width: int = 900, height: int = 900) -> AsyncIterator[Page]:
    """An empty page. What goes wrong on it (errors of scripts, requests elsewhere) fails the test."""
    path = find()
    assert path is not None, NONE_FOUND
    wrong: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            opened = await browser.new_page(viewport={"width": width, "height": height})
            opened.on("pageerror", lambda error: wrong.append(str(error)))
            opened.on("requestfailed", lambda request: wrong.append(request.url))
            yield opened
            found = list(wrong)  # what a page asks for while it is closed cannot succeed
        finally:
            await browser.close()
    assert found == []


if __name__ == "__main__":
    sys.exit(0 if find() else 1)
