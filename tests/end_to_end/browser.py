"""A person at Prefect's UI: a headless Chromium that fills in forms as the person would."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

PICTURES = os.environ.get("IMAGE_BAKERY_PICTURES")
"""A directory for pictures of what the person sees: those of the README, with tools/pictures."""
_PATIENCE = 60_000


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """A page of a browser of its own. What was seen last before a failure is kept in the directory."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        assert not os.environ.get("CI"), "Chromium is missing"
        pytest.skip("Chromium is missing: tools/packages tests")
    with sync_playwright() as playwright:
        # Root's Chromium has no sandbox; what it opens is our own.
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = opened.new_page(viewport={"width": 1180, "height": 860})
            page.set_default_timeout(_PATIENCE)
            try:
                yield page
            except BaseException:
                page.screenshot(path=directory / "seen-last.png")
                raise
        finally:
            opened.close()


def field(within: Page | Locator, title: str) -> Locator:
    """A field of a form, with all that belongs to it."""
    label = within.locator("label").filter(has_text=re.compile(rf"^{re.escape(title)}( \(Optional\))?$"))
    return label.first.locator("xpath=ancestor::div[contains(concat(' ', @class, ' '), ' group ')][1]")


def write(within: Page | Locator, title: str, text: str) -> None:
    """Type into a field."""
    field(within, title).locator("textarea, input").first.fill(text)


def unfold(within: Page | Locator, title: str) -> Locator:
    """Open a section of a form."""
    section = field(within, title)
    section.get_by_role("tab", name="Set options", exact=True).click()
    return section


def submit(page: Page) -> Any:
    """Send a run's form, and return the run.

    Tried again as a person would while SQLite is busy: Prefect's server checks a run's parameters in the middle
    of a transaction, which fails when anything else is written meanwhile.
    """
    end = time.monotonic() + _PATIENCE / 1000
    while True:
        with page.expect_response(re.compile("/create_flow_run$")) as reply:
            page.get_by_role("button", name="Submit").click()
        if reply.value.status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > end:
            break
        page.mouse.move(0, 0)  # what says so is over the button, and stays for as long as the mouse is there
    assert reply.value.ok, reply.value.text()
    return reply.value.json()


def picture(page: Page, name: str, *, height: int | None = None) -> None:
    """Keep what is to be seen, if pictures are wanted."""
    if PICTURES is None:
        return
    before = page.viewport_size
    if height is not None and before is not None:
        page.set_viewport_size({"width": before["width"], "height": height})
    page.wait_for_timeout(500)  # for what moves on the page
    page.screenshot(path=Path(PICTURES) / f"{name}.png")
    if before is not None:
        page.set_viewport_size(before)
