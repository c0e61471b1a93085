"""The few pieces every view is made of. Text that came from a table passes `escape` and is never Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import browser, figures, state, theme, trust
from dashboard.jobs import Job
from milcore.errors import MilError

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

CONTEXTS = {0: "No", 5: "5 nearest cells", 10: "10 nearest cells", 20: "20 nearest cells"}
LOG_LETTERS = 20_000  # the last so many are shown
LOOK = """<style>
[data-testid="stMainBlockContainer"] {padding: 2.6rem 2.2rem 4rem; max-width: 1680px}
[data-testid="stSidebarHeader"] {padding: .6rem 0 0; height: 2.2rem; min-height: 0}
.stApp, .stApp table {font-variant-numeric: tabular-nums}
.mil-finding {font-size: 1.35rem; line-height: 1.4; font-weight: 600; max-width: 62rem; margin: 0 0 .15rem;
  text-wrap: pretty}
.mil-say {max-width: 62rem; margin: 0; line-height: 1.5}
.mil-quiet {opacity: .72; font-size: .92rem}
.mil-facts {display: flex; flex-wrap: wrap; gap: .3rem 2rem; margin: .2rem 0}
.mil-finding, .mil-say, .mil-facts {overflow-wrap: anywhere}
.mil-facts b {font-size: 1.15rem; font-weight: 600}
.mil-card {border: 1px solid; border-color: color-mix(in srgb, currentColor 18%, transparent); border-left: 4px solid;
  border-radius: 6px; padding: .8rem 1rem; max-width: 62rem}
.mil-card.stop {border-left-color: #c0392b} .mil-card.warn {border-left-color: #b98900}
.mil-card.note {border-left-color: #1f6fc4}
.mil-card p {margin: 0 0 .25rem; line-height: 1.5; overflow-wrap: anywhere} .mil-card p:last-child {margin: 0}
.mil-ruo {font-size: .8rem; border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: 4px;
  padding: .12rem .5rem; white-space: nowrap; display: inline-block}
.mil-top {font-size: .95rem; line-height: 1.35; overflow-wrap: anywhere} .mil-top b {font-weight: 600}
.mil-stages {display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; font-size: .95rem}
.mil-stages .done {opacity: .6} .mil-stages .now {font-weight: 600}
@media (max-width: 1180px) {
  .st-key-mil-drivers > * > [data-testid="stHorizontalBlock"] {flex-wrap: wrap}
  .st-key-mil-drivers > * > [data-testid="stHorizontalBlock"] > [data-testid="stColumn"] {min-width: 100%}}
@media (max-width: 1599px) {.st-key-mil-hint {display: none}}
@media (min-width: 1600px) {
  .st-key-mil-cells {flex-direction: row; gap: 1.8rem}
  .st-key-mil-cells > :first-child {flex: 1 1 0; min-width: 0}
  .st-key-mil-cells > :last-child {flex: 0 0 400px; min-width: 0}
  .st-key-mil-rail {max-height: 46rem; overflow-y: auto}
  .st-key-mil-rail [data-testid="stHorizontalBlock"] {flex-wrap: wrap}
  .st-key-mil-rail [data-testid="stColumn"] {min-width: 100%}
  .st-key-mil-rail [data-testid="stColumn"]:last-child {order: -1}}
.mil-logo {font-size: 1.25rem; font-weight: 650; letter-spacing: -.01em; margin: 0}
</style>"""

STAGES = {
    "reading": "Reading tables",
    "matching": "Matching features",
    "neighbours": "Neighbours",
    "neighbourhood": "Neighbourhood model",
    "attention": "Attention model",
    "mean": "Mean model",
    "topk": "Top-share model",
    "evidence": "Evidence of cells",
    "distance": "Distance from training cells",
    "validation": "Test against chance",
    "phenotypes": "Phenotypes",
    "drivers": "What phenotypes are worth",
    "umap": "Map of cells",
    "whole null": "Whole model on shuffled labels",
    "saving": "Saving",
}


def look() -> None:
    """Puts the style sheet on the page."""
    st.html(LOOK)


def text(kind: str, *paragraphs: str) -> None:
    """Paragraphs of plain text in one of the page's text styles."""
    st.html("".join(f'<p class="{kind}">{_plain(each)}</p>' for each in paragraphs if each))


def _plain(words: str) -> str:
    """Text as HTML shows it, a number and its % on one line."""
    return theme.escape(words).replace(" %", "&nbsp;%")


def finding(words: str) -> None:
    """The sentence every view opens with."""
    text("mil-finding", words)


def say(*paragraphs: str) -> None:
    """Plain sentences."""
    text("mil-say", *paragraphs)


def quiet(*paragraphs: str) -> None:
    """Plain sentences of less weight."""
    text("mil-say mil-quiet", *paragraphs)


def card(kind: str, *paragraphs: str) -> None:
    """A framed message: `stop`, `warn` or `note`; the first paragraph is bold."""
    first, *rest = [_plain(each) for each in paragraphs if each]
    inner = f"<p><b>{first}</b></p>" if rest else f"<p>{first}</p>"
    inner += "".join(f"<p>{each}</p>" for each in rest)
    st.html(f'<div class="mil-card {kind}">{inner}</div>')


def caution(facts: Mapping[str, Any]) -> None:
    """What must stand before any patient or cell of a cohort that carries no claim; of another, nothing."""
    if words := trust.caution(facts):
        card("note", words)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """One line of figures, each with its name."""
    each = (f"<div><b>{_plain(value)}</b> {_plain(name)}</div>" for value, name in pairs)
    st.html(f'<div class="mil-facts">{"".join(each)}</div>')


def markdown(words: object) -> str:
    """Text of a table for places that read Markdown (button and tab labels): every special sign is escaped."""
    plain = "".join(sign if sign.isprintable() else " " for sign in str(words))
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=])", r"\\\1", plain)


def chart(figure: go.Figure, key: str, **more: Any) -> Any:
    """Draws a figure of `dashboard.figures` in the theme of the browser, with its words for screen readers and buttons
    that save it."""
    theme.dress(figure, dark=state.dark())
    tools = more.pop("config", {"modeBarButtons": [["toImage"]]})
    config = {"displaylogo": False, "responsive": True} | tools
    event = st.plotly_chart(figure, key=key, theme=None, config=config, alt=figures.alt(figure), **more)
    browser.save(figure, key)
    return event


def caught(render: Callable[[], None]) -> Callable[[], None]:
    """A view that shows a MilError as problem, where and fix. Any other exception is a bug and looks like one."""

    @wraps(render)
    def guarded() -> None:
        try:
            render()
        except MilError as error:
            card("stop", error.problem, error.where, error.fix)

    return guarded


def failed(job: Job, *, kept: str) -> None:
    """A failed job: what is wrong, where, what to do, what was kept, and its log; one click asks for it again."""
    if job.bug:
        card("stop", "Something went wrong inside Milscope. This is a bug.", job.problem, kept)
    else:
        card("stop", job.problem, job.where, job.fix, kept)
    log(job)
    with st.container(horizontal=True):
        request = (job.kind, job.request)
        st.button("Start again", on_click=state.submit, args=request, key=f"again-{job.id}")
        st.button("Put away", on_click=state.dismiss, args=(job.id,), key=f"dismiss-{job.id}")


def log(job: Job) -> None:
    """What a job has said so far, folded."""
    if written := state.jobs().log(job.id):
        with st.expander("Log"):
            st.code(written[-LOG_LETTERS:], language=None, height=280)


def progress(job: Job, stages: Sequence[str]) -> None:
    """Where a job stands: its stages in order, the share of the one that runs, and the time so far."""
    if job.state == "queued":
        say("Waiting for the work before it to finish.")
        return
    known = [*stages, *(each for each in job.stages if each not in stages)]
    seen = [each for each in known if each in job.stages or each in stages]
    done = set(job.stages[:-1])
    words = [_stage(each, "now" if each == job.stage else "done" if each in done else "") for each in seen]
    st.html(f'<div class="mil-stages">{"".join(words)}</div>')
    much = f" ({job.words})" if job.words else ""
    st.progress(job.share, text=f"{stage_name(job.stage)}: {theme.percent(job.share)}{much}")
    quiet(f"{clock(job.seconds)} so far." + (" Stopping at the next step." if job.cancelling else ""))
    log(job)


def context(cohort: Cohort) -> int:
    """Asks how many cells around each one training looks at; 0, and no question, without coordinates."""
    if not cohort.cells[["x", "y"]].notna().all(axis=1).any():
        return 0
    return int(
        st.selectbox(
            "Train with each cell's surroundings",
            **state.bind("context", list(CONTEXTS)),
            format_func=CONTEXTS.__getitem__,
            help="Adds the mean features of the nearest cells in the tissue; says something new of cell types",
            width=280,
        )
    )


def stage_name(stage: str) -> str:
    """The words for a stage of work."""
    return STAGES.get(stage, stage.capitalize()) or "Starting"


def _stage(stage: str, kind: str) -> str:
    sign = "✓ " if kind == "done" else ""
    return f'<span class="{kind}">{sign}{theme.escape(stage_name(stage))}</span>'


def clock(seconds: float) -> str:
    """A time that people read: '12 s', '3 min 05 s'."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def plural(count: int, noun: str) -> str:
    """'1 patient', '1,200 cells'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def nothing(words: str, label: str, view: str) -> None:
    """A view that has nothing to show yet: what to do, and one button that goes there."""
    finding(words)
    if st.button(label, type="primary", key=f"go-{view}"):
        state.go(view)


def with_analysis(render: Callable[[Analysis], None]) -> Callable[[], None]:
    """A view that needs a finished analysis; without one it says what to do."""

    @wraps(render)
    def asked() -> None:
        if state.cohort() is None:
            nothing("There is no cohort yet.", "Bring in a cohort", "cohort")
            return
        found = state.analysis()
        if found is not None:
            render(found)
            return
        job = state.newest_job("analyse", cohort=state.session().cohort)
        if job is not None and not job.over:
            nothing("Training is under way. This view fills when it is done.", "See how far it is", "train")
        elif job is not None and job.state == "failed":
            nothing(
                "Training did not finish, so there is nothing to show here.", "See what went wrong", "train"
            )
        else:
            nothing("No model has been trained on this cohort yet.", "Choose a target and train", "train")

    return asked


def custom(point: Mapping[str, Any]) -> str:
    """What a clicked point carries as customdata."""
    carried = point.get("customdata", "")
    return str(carried[0] if isinstance(carried, list) else carried)


def table(frame: pd.DataFrame, key: str, *, alt: str, most: Mapping[str, int] | None = None) -> list[int]:
    """A table whose rows can be chosen; returns the chosen row's position in a list, or an empty list. Where `most`
    pixels are given for some columns, every column is as wide as its words, these at most so wide."""
    widths: dict[str, Any] = {}
    if most is not None:
        room = {name: min(_pixels(frame[name]), most.get(name, 400)) for name in frame}
        widths = {_titled(name): {"width": pixels} for name, pixels in room.items()}
    event = st.dataframe(
        frame.rename(columns=_titled),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        alt=alt,
        column_config=widths,
    )
    return list(event["selection"]["rows"])


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _pixels(column: pd.Series) -> int:
    """Room for the longest text of a column, and for its name."""
    longest = max(column.astype(str).str.len(), default=0)
    return round(max(22 + 6.5 * len(str(column.name)), 20 + 6.2 * longest))
