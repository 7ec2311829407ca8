"""Debian's chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """An opened page, and what it did beside being shown."""

    page: Any  # playwright's Page
    said: list[str] = field(default_factory=list)  # on the console, and errors of scripts
    asked_for: list[str] = field(default_factory=list)  # addresses beside the file's own and data:


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser without a window. It ends with its module: its event loop would refuse those of other tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Open a page's text as a file; `width` in CSS pixels, `scheme` is light or dark."""
    contexts = []

    def open_page(html: str, *, width: int = 1280, scheme: str = "light") -> Visit:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Visit(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda problem: found.said.append(str(problem)))
        found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: _note(found, request.url, file))
        found.page.goto(file.as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()


def _note(found: Visit, url: str, file: Path) -> None:
    if url.split("#")[0] != file.as_uri() and not url.startswith("data:"):
        found.asked_for.append(url)
