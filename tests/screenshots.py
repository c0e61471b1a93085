"""One picture of each view of the sample cohort, for the README: `python -m tests.screenshots [FOLDER]`."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.browsing import MINUTES, browser, finding, go, open_sample, served, settle, to_train

VIEWS = ("Cohort", "Train", "Predictions", "Patient", "Cells", "Report", "Analyses")
TALLEST = 2400  # pixels; what lies below needs no picture


def main() -> None:
    """Serves, trains on the sample's `response`, and takes the pictures."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("screens"))
    asked.add_argument("--width", type=int, default=1280)
    asked.add_argument("--dark", action="store_true")
    asked.add_argument("--effort", default="Standard", choices=("Quick", "Standard", "Thorough"))
    asked.add_argument(
        "--workspace", type=Path, help="one that holds an analysis already: nothing is trained"
    )
    given = asked.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        asked.error("there is no Chromium on this machine (Debian: apt install chromium)")
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.workspace or Path(scratch) / "workspace"
        with served(home) as address, browser(chromium, width=given.width, dark=given.dark) as page:
            if given.workspace:
                page.goto(f"{address}/?cohort={next((home / 'cohorts').iterdir()).name}")
            else:
                train(page, address, given.effort)
            for view in VIEWS:
                go(page, view)
                print(f"{view}: {finding(page)}")
                picture(page, given.folder / f"{view.lower()}.png", given.width)


def train(page: Page, address: str, effort: str) -> None:
    """The sample cohort, trained on its first target."""
    open_sample(page, address)
    to_train(page)
    page.get_by_text(effort, exact=True).click()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="See predictions").wait_for(timeout=30 * MINUTES)


def picture(page: Page, path: Path, width: int) -> None:
    """The whole view, however tall it is."""
    script = "() => document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"
    page.set_viewport_size({"width": width, "height": max(480, min(page.evaluate(script) + 40, TALLEST))})
    settle(page)
    page.screenshot(path=path)
    page.set_viewport_size({"width": width, "height": 900})


if __name__ == "__main__":
    main()
