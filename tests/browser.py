"""A real browser without a window, for tests of pages. Tests of a machine without one are skipped."""

import json
import re
import shutil
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import pytest

ARGUMENTS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
).split()


@contextmanager
def open_browser():
    """A driver of Chromium with an empty profile, in a light page of 1280 pixels' width."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver = (next(filter(None, map(shutil.which, names)), None) for names in (CHROMIUM, DRIVERS))
    if not binary or not driver:
        pytest.skip("there is no Chromium with its driver (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Chromium may still write its profile when it ends.
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options, Service(driver))
        try:
            browser.set_script_timeout(60)
            resize(browser, 1280, 1400)
            yield browser
        finally:
            browser.quit()


CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


def resize(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def emulate(browser, scheme="light", media=""):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, "media": media})


def errors(browser):
    """What the page has written on its console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def explorers(page):
    """The values of the explorer in a page."""
    found = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])
