"""The presentation: what its slides say, and what the browser does with them and with charts; accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page

from dashboard import report, slides, webpage
from milcore.analysis import Analysis
from milcore.errors import MilError
from tests.browsing import MINUTES, browser, served, settle
from tests.tiny import NASTY

pytestmark = pytest.mark.xdist_group("canvas")
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


def test_what_the_slides_say(analysis: Analysis) -> None:
    document = slides.describe(analysis, patients=["P01", NASTY])
    assert len(document.pages) == 3 + 2 * 2 + 1
    text = document.text
    assert text.count("Research use only") == len(document.pages)
    assert analysis.facts["verdict"]["words"] in text
    page = webpage.slides(document)
    assert page.count('<section class="slide"') == len(document.pages)
    assert "<img" not in page
    assert "http" not in page.replace("http-equiv", "")
    with pytest.raises(MilError, match="nobody"):
        slides.describe(analysis, patients=["nobody"])


def faults(page: Page, html: str) -> list[dict[str, Any]]:
    """What axe finds serious in a page."""
    page.set_content(html)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        {"rule": one["id"], "where": one["nodes"][0]["html"][:200]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.browser
def test_axe_finds_nothing_serious(chromium: str, analysis: Analysis) -> None:
    with browser(chromium) as page:
        assert faults(page, report.html(analysis, patients=["P01"])) == []
        assert faults(page, webpage.slides(slides.describe(analysis, patients=["P01"]))) == []


@pytest.fixture(scope="module")
def address(chromium: str, tiny_home: Path) -> Iterator[str]:
    with served(tiny_home) as address:
        yield address


@pytest.mark.browser
def test_present_and_save(chromium: str, address: str, tiny_home: Path, tmp_path: Path) -> None:
    cohort = next((tiny_home / "cohorts").iterdir()).name
    with browser(chromium) as page:
        page.goto(f"{address}/report?cohort={cohort}")
        page.get_by_role("button", name="Make the report").click()
        page.get_by_role("button", name="Download the report").wait_for()
        assert (
            page.frame_locator("iframe").locator("h1").first.inner_text()
            == "Can “outcome” be read from the cells?"
        )
        page.get_by_role("button", name="Prepare the slides").click()
        page.get_by_role("button", name="Present", exact=True).click()
        stage = page.frame_locator('iframe[title="Presentation"]')
        stage.locator("h1").wait_for()
        seen = [stage.locator("body").evaluate("() => document.activeElement && scrollY") for _ in range(1)]
        for _ in range(2):
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(200)
            seen.append(stage.locator("body").evaluate("() => scrollY"))
        assert seen[0] < seen[1] < seen[2], "each key shows the next slide"
        page.keyboard.press("Escape")
        page.locator('iframe[title="Presentation"]').wait_for(state="detached")
        page.goto(f"{address}/predictions?cohort={cohort}")
        page.get_by_role("button", name="Save the chart as SVG").first.wait_for(timeout=MINUTES)
        settle(page)
        for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"\xef\xbb\xbfseries")):
            with page.expect_download() as coming:
                page.get_by_role("button", name=f"Save the chart as {kind}").first.click()
            coming.value.save_as(tmp_path / kind)
            assert (tmp_path / kind).read_bytes().startswith(start)
            assert coming.value.suggested_filename.endswith(kind.lower())
        wide = int.from_bytes((tmp_path / "PNG").read_bytes()[16:20], "big")
        assert wide > 1500, "print size"
