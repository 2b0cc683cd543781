"""Debian's Chromium, and what its tabs do."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.patience import PATIENCE_SECONDS

# What is on no loopback address can't be reached, not even by its number.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    """Start the browser without a window."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium is missing: run `apt-get install chromium`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(arguments))
        yield browser
        await browser.close()


@dataclass
class Tab:
    """A page in a tab, and what the tab did."""

    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str | None] = field(default_factory=set)
    loads: int = 0

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.errors.extend([message.text] if message.type == "error" else []))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        self.page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).hostname))
        self.page.on("load", lambda _page: setattr(self, "loads", self.loads + 1))
