"""What only the browser can do: a presentation over the whole screen, and a chart saved as a picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import chartdata

HERE = Path(__file__).parent
BUTTON = """button { font: inherit; cursor: pointer; border-radius: 6px; background: none;
  color: var(--st-text-color); border: 1px solid var(--st-border-color, #8885) }
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color) }"""
SMALL = """div { display: flex; gap: 2px; justify-content: flex-end; align-items: center; font-size: 12px;
  opacity: .75 }
div:hover, div:focus-within { opacity: 1 }
button { border-color: transparent; padding: 1px 6px; text-decoration: underline; text-underline-offset: 2px }"""


@cache
def _present() -> Callable[..., Any]:
    style = f"{BUTTON} button {{ padding: 6px 14px }}"
    script = (HERE / "present.js").read_text(encoding="utf-8")
    return st.components.v2.component(
        "milscope.present", html="<button>Present</button>", css=style, js=script
    )


@cache
def _save() -> Callable[..., Any]:
    kinds = "".join(
        f'<button data-kind="{kind}" aria-label="Save the chart as {kind.upper()}">{kind.upper()}</button>'
        for kind in ("svg", "png", "csv")
    )
    script = (HERE / "save.js").read_text(encoding="utf-8")
    markup = f"<div><span>Save</span>{kinds}</div>"
    return st.components.v2.component("milscope.save", html=markup, css=f"{BUTTON} {SMALL}", js=script)


def present(html: str, key: str) -> None:
    """A button that shows slides over the whole screen; arrow keys turn them, Escape ends."""
    _present()(data={"html": html}, key=key, width="content")


def save(figure: go.Figure, chart: str) -> None:
    """Buttons under the chart of this key that save it as SVG, as PNG at print size, and its data as CSV."""
    data = {"chart": chart, "name": f"milscope-{chart}", "csv": chartdata.csv(figure)}
    _save()(data=data, key=f"save-{chart}", height="content")
