"""A person's way through a really served page: sample, train, see a patient; upload; cancel; select cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.browsing import (
    MINUTES,
    browser,
    choose,
    finding,
    go,
    open_sample,
    served,
    settle,
    to_train,
    upload,
)

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SLOW_SECOND_UPLOAD = """
    const send = XMLHttpRequest.prototype.send;
    let uploads = 0;
    XMLHttpRequest.prototype.send = function (body) {
        const wait = body instanceof FormData && ++uploads === 2 ? 3000 : 0;
        setTimeout(() => send.call(this, body), wait);
    };
"""
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def address(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served") / "workspace") as address:
        yield address


def test_sample_train_patient(chromium: str, address: str) -> None:
    with browser(chromium) as page:
        open_sample(page, address)
        settle(page)
        assert "48 patients" in finding(page)
        to_train(page)
        page.get_by_text("Quick", exact=True).click()
        page.get_by_text("Advanced", exact=True).click()
        choose(page, "Model", "Neighbourhood alone")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="Cancel").wait_for()
        page.get_by_role("button", name="See predictions").click(timeout=5 * MINUTES)
        settle(page)
        assert "better than chance" in finding(page)
        page.locator(".stPlotlyChart .scatterlayer .points path").nth(30).click(force=True)
        page.wait_for_url("**/patient?*patient=*", timeout=MINUTES)  # written when the whole page is drawn
        settle(page)
        told, link = finding(page), page.url
        assert "analysis=" in link
        assert page.locator(".stPlotlyChart").count() >= 5
        page.get_by_role("button", name="Next").click()
        page.wait_for_function("told => document.querySelector('.mil-finding').innerText !== told", arg=told)
        page.goto(link)  # a link, and a reload, show the same again
        page.get_by_text("is predicted").first.wait_for()
        settle(page)
        assert finding(page) == told
        _lasso(page)


def _lasso(page) -> None:  # type: ignore[no-untyped-def]
    """A line drawn with the mouse on the map of cells says what it holds."""
    go(page, "Cells")
    page.locator(".board[data-drawn]").wait_for()
    at = page.locator("canvas.over").first.bounding_box()
    assert at is not None
    corners = [(0.5, 0.02), (0.98, 0.02), (0.98, 0.5), (0.5, 0.5), (0.5, 0.05)]
    places = [(at["x"] + at["width"] * x, at["y"] + at["height"] * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    page.get_by_text("The selected cells").wait_for()
    settle(page)
    assert "of 48 patients" in page.locator(".mil-facts").first.inner_text()
    assert "AUROC" in " ".join(page.locator(".mil-facts").all_inner_texts())


def test_cancel_keeps_the_page_usable(chromium: str, address: str) -> None:
    with browser(chromium) as page:
        open_sample(page, address)
        to_train(page)
        choose(page, "Target", "coin")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Train", exact=True).wait_for()


def test_upload_of_a_hostile_table(chromium: str, address: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat([HOSTILE, *(f"P{i}" for i in range(11))], 30)
    cells = pd.DataFrame({"patient": ids, "CD8": rng.normal(size=360), HOSTILE: rng.normal(size=360)})
    patients = pd.DataFrame({"patient": pd.unique(ids), "outcome": [HOSTILE, "b"] * 6})
    cells.to_csv(tmp_path / "cells.csv", index=False)
    patients.to_csv(tmp_path / "patients.csv", index=False)
    with browser(chromium) as page:
        page.add_init_script(SLOW_SECOND_UPLOAD)  # the click comes while the patients are still on their way
        page.goto(address)
        page.get_by_text("Upload tables").first.wait_for()
        upload(page, 0, tmp_path / "cells.csv")
        page.locator("input[type=file]").nth(1).set_input_files(tmp_path / "patients.csv")
        page.get_by_role("button", name="Read the upload").click()
        page.get_by_text("12 patients with 360 cells are ready to train on").wait_for()
        page.get_by_role("combobox", name="Colour patients by").wait_for()
        settle(page)
        to_train(page)
        settle(page)


def test_a_bad_table_is_a_problem_with_a_fix(chromium: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("patient,CD8\n")
    with browser(chromium) as page:
        page.goto(address)
        page.get_by_text("Upload tables").first.wait_for()
        upload(page, 0, tmp_path / "cells.csv")
        page.get_by_role("button", name="Read the upload").click()
        page.get_by_text("The tables could not be read.").wait_for()
        assert page.locator(".mil-card.stop p").count() >= 2
        page.get_by_role("button", name="Put away").click()
        settle(page)
        page.get_by_role("button", name="Try the sample cohort").wait_for()


def patients_of_a_real_export(folder: Path, to: Path) -> None:
    """A real QuPath export of one image, its bytes as they are, but that its first 720 rows come from twelve images."""
    header, *rows = (
        (folder / "export_examples" / "qupath_HE_cells_GastroFLOW.txt")
        .read_bytes()
        .splitlines(keepends=True)[:721]
    )
    assert header.startswith(b"Image\t")
    each = len(rows) // 12
    images = [b"case_%02d.ndpi" % min(i // each, 11) for i in range(len(rows))]
    cells = (name + b"\t" + row.partition(b"\t")[2] for name, row in zip(images, rows, strict=True))
    to.write_bytes(header + b"".join(cells))


@pytest.mark.cohorts
def test_a_qupath_export_and_an_excel_sheet_lead_to_a_model(
    chromium: str, address: str, shared_data: Path, tmp_path: Path
) -> None:
    """No role is edited: images are matched with the sheet however they are written."""
    patients_of_a_real_export(shared_data, tmp_path / "measurements.txt")
    sheet = pd.DataFrame({"Case": [f"Case {i}" for i in range(12)], "Response": ["no", "yes"] * 6})
    sheet.to_excel(tmp_path / "outcomes.xlsx", index=False, engine="openpyxl")
    with browser(chromium) as page:
        page.goto(address)
        page.get_by_text("Upload tables").first.wait_for()
        upload(page, 0, tmp_path / "measurements.txt")
        upload(page, 1, tmp_path / "outcomes.xlsx")
        page.get_by_role("button", name="Read the upload").click()
        page.get_by_text("12 patients with 720 cells are ready to train on").wait_for()
        settle(page)
        assert "QuPath" in page.locator(".mil-facts").first.inner_text()
        to_train(page)
        page.get_by_text("Quick", exact=True).click()
        page.get_by_text("Advanced", exact=True).click()
        choose(page, "Model", "Neighbourhood alone")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="See predictions").click(timeout=5 * MINUTES)
        settle(page)
        assert "AUROC" in page.locator("body").inner_text()
