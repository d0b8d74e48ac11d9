"""A headless Chromium for the tests of pages."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.browser import ARGUMENTS, BROWSERS


def started() -> Iterator:
    """A browser that closes at the end; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visits(browser) -> Iterator[Callable]:
    """``visit(path, **options of the context)`` opens a page from its file.

    At the end the pages may have complained about nothing and asked for nothing but themselves.
    """
    contexts, opened, complaints, requests = [], set(), [], []

    def visit(path: Path, **options: object):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        opened.add(path.as_uri())
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} <= opened


def until(page, expression: str, expected: object, seconds: float = 30) -> None:
    """Wait until ``expression`` has a value in the page. Playwright's own wait asks again from within, by an eval that the
    page's content security policy forbids."""
    deadline = time.monotonic() + seconds
    while (value := page.evaluate(expression)) != expected:
        assert time.monotonic() < deadline, f"{expression} is {value}, not {expected}"
        page.wait_for_timeout(50)
