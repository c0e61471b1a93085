"""What one browser tab looks at, and what all tabs share; the only file to touch Streamlit's session state.

A Session is the one truth of a tab. It is seeded from the URL, kept in step with it, and written by widgets
through `bind`. Cohorts, analyses and jobs belong to the server and are opened here by their keys.
"""

from __future__ import annotations

import atexit
import gc
import math
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import streamlit as st

from dashboard import kept, layouts, picks
from dashboard import workspace as places
from dashboard.jobs import Desk, Job, Jobs
from milcore.errors import Damaged, MilError
from milcore.projection import USUAL, Layout

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort

IN_URL = (
    "cohort",
    "analysis",
    "patient",
    "region",
    "colour",
    "only_by",
    "only",
    "selection",
    "view",
    "layout",
)
URL_LENGTH = picks.LONGEST  # longer values were not written by this program
SLOT = "milscope"
QUOTA_GB = 50  # of each user, where people log in and nothing else is said


@dataclass
class Session:
    """What one tab shows: which cohort, analysis, patient, colour, and half-filled forms."""

    cohort: str = ""
    analysis: str = ""
    patient: str = ""
    region: str = ""
    colour: str = "importance"
    attention: bool = False
    order: str = "score"
    # the maps of cells: which cells are shown, which are picked, and where the maps look
    only_by: str = ""
    only: str = ""
    selection: str = ""
    view: str = ""
    layout: str = ""  # the map by likeness that is shown, "" for the analysis' own
    map_neighbours: int = 15
    map_distance: float = 0.1
    map_features: list[str] = field(default_factory=list)
    map_full: bool = False
    group: str = ""  # of drivers, the one chosen in the Patient view
    manner: str = "n"  # how a line on a still map changes the selection: a sign of picks
    turn: int = 0  # the last change of the selection that the browser has told of
    sent: set[str] = field(default_factory=set)  # arrays that the browser has
    pointing: bool = False  # the pointer has rested on a cell
    phenotype: str = ""  # the row chosen in the table of phenotypes, as a selection
    beside: str = ""  # the named selection that the selection is compared with
    answered: str = ""  # the selection that the page below the maps speaks of
    raster: bool = False  # the browser cannot draw with WebGL2
    # the Cohort view
    door: str = ""
    file_cells: list[str] = field(default_factory=list)
    file_patients: str = ""
    # the Train view
    target: str = ""
    classes: list[str] = field(default_factory=list)
    covariates: list[str] = field(default_factory=list)
    positive: str = ""
    kind: str = ""
    time: str = ""
    context: int = 0
    centre: str = "none"
    effort: str = "standard"
    pooling: str = "auto"
    transform: str = "auto"
    seed: int = 0
    # the Report view
    paged: list[str] = field(default_factory=list)
    form: str = "html"
    paper: str = "a4"
    pseudonyms: bool = False
    preview: bool = True
    made: dict[str, Any] = field(default_factory=dict)  # the last report: what was asked, and the files
    shown: list[str] = field(default_factory=list)  # patients on slides, of the analysis `shown_of`
    shown_of: str = ""
    slides: dict[str, Any] = field(default_factory=dict)  # the last slides
    # jobs this tab waits for, and failed ones it has put away
    waiting: str = ""
    dismissed: set[str] = field(default_factory=set)
    owner: str = field(default_factory=lambda: secrets.token_hex(4))  # of jobs: tabs take turns
    epoch: int = 0  # of the cohort: widgets of the one before must not speak for this one
    clicks: int = 0  # on charts: a new chart has no selection left over


def session() -> Session:
    """The Session of this tab; a new one starts from the URL."""
    if SLOT not in st.session_state:
        asked = Session()
        for key in IN_URL:
            setattr(asked, key, st.query_params.get(key, "")[:URL_LENGTH] or getattr(asked, key))
        st.session_state[SLOT] = _trusted(asked)
    found: Session = st.session_state[SLOT]
    return found


def bind(name: str, options: Sequence[Any] | None = None) -> dict[str, Any]:
    """Arguments that tie a widget to a field of the Session, so that it survives reruns and page changes.

    A value that is not among `options` becomes the first of them before the widget is drawn.
    """
    now = session()
    value = getattr(now, name)
    if options is not None:
        if isinstance(value, list):
            value = [each for each in value if each in options]
        elif value not in options:
            value = options[0]
        setattr(now, name, value)
    key = f"{SLOT}-{name}-{now.epoch}"
    st.session_state[key] = value
    bound: dict[str, Any] = {"key": key, "on_change": _take, "args": (name, key)}
    return bound if options is None else {**bound, "options": options}


def bind_span(name: str, low: float, high: float) -> dict[str, Any]:
    """Arguments that tie a slider from `low` to `high` with two ends to a field of the Session that holds them as text
    (see picks); an end at the slider's own is none."""
    now = session()
    first, last = picks.span(getattr(now, name))
    setattr(now, name, picks.spanned(first, last))
    key = f"{SLOT}-{name}-{now.epoch}-span"
    st.session_state[key] = tuple(min(max(end, low), high) for end in (first, last))
    bound = {"min_value": low, "max_value": high, "step": (high - low) / 100}
    return {"key": key, "on_change": _take_span, "args": (name, key, low, high), **bound}


def _take_span(name: str, key: str, low: float, high: float) -> None:
    first, last = st.session_state[key]
    text = picks.spanned(first if first > low else -math.inf, last if last < high else math.inf)
    setattr(session(), name, text)


def _take(name: str, key: str) -> None:
    setattr(session(), name, st.session_state[key])
    if name == "analysis":
        _forget_cells()


def told(key: str, name: str) -> Any:
    """What the component `key` has said under `name`; None when it has said nothing."""
    return (st.session_state.get(key) or {}).get(name)


def jump(**changes: Any) -> None:
    """Changes fields of the Session; made for buttons' on_click."""
    for name, value in changes.items():
        setattr(session(), name, value)


def open_cohort(key: str) -> None:
    """Looks at another cohort (""= none); everything that spoke of the old one starts afresh."""
    now = session()
    fresh = Session(cohort=key, dismissed=now.dismissed, owner=now.owner, epoch=now.epoch + 1)
    for each in fields(Session):
        setattr(now, each.name, getattr(fresh, each.name))
    known = [key for key, _ in analyses()]
    now.analysis = known[0] if known else ""


def open_analysis(key: str) -> None:
    """Looks at another analysis of the same cohort."""
    now = session()
    now.analysis, now.waiting = key, ""
    now.colour = "importance"
    _forget_cells()


def visit(key: str) -> None:
    """Looks at any analysis of the workspace, with its cohort."""
    facts = places.read_json(workspace().analysis(key) / "analysis.json") or {}
    cohort = str(facts.get("cohort", {}).get("fingerprint", ""))[:16]
    if session().cohort != cohort:
        open_cohort(cohort)
    open_analysis(key)


def _forget_cells() -> None:
    """Places of one analysis mean nothing in another."""
    jump(only_by="", only="", selection="", view="", layout="", map_features=[])


def write_url() -> None:
    """Brings the URL up to the Session, so that a link or a reload shows the same view."""
    now = session()
    plain = Session()
    shown = {key: getattr(now, key) for key in IN_URL if getattr(now, key) not in ("", getattr(plain, key))}
    if st.query_params.to_dict() != shown:
        st.query_params.from_dict(shown)


def set_pages(pages: Mapping[str, Any]) -> None:
    """Tells which pages there are, by the name of their view."""
    st.session_state[f"{SLOT}-pages"] = pages


def go(view: str) -> NoReturn:
    """Leaves for another view."""
    write_url()
    st.switch_page(st.session_state[f"{SLOT}-pages"][view])


def link(view: str, label: str) -> None:
    """A link to another view."""
    st.page_link(st.session_state[f"{SLOT}-pages"][view], label=label)


def arrive() -> bool:
    """Opens what a job of this tab has made since the last run; whether one has ended."""
    now = session()
    job = jobs().get(now.waiting)
    if job is None or not job.over:
        return False
    now.waiting = ""
    if job.state == "done" and job.kind == "read":
        open_cohort(job.result)
        jobs().submit("prepare", {"cohort": job.result}, owner=job.owner)
    elif job.state == "done" and job.kind == "lay out":
        now.layout = job.result if job.request["analysis"] == now.analysis else now.layout
    elif job.state == "done" and (job.kind == "predict" or job.request.get("cohort") == now.cohort):
        visit(job.result)
    return True


def providers() -> list[str]:
    """Through whom people log in; none where no login is asked for."""
    return [name for name in os.environ.get("MILSCOPE_LOGIN", "").split(",") if name]


def admitted() -> bool:
    """Whether this tab may show anything: no login is asked for, or its user has logged in and is allowed."""
    if not providers():
        return True
    if not st.user.is_logged_in or st.user.get("email_verified") is False:
        return False
    allowed = st.secrets.get("milscope", {}).get("allow", [])
    email = str(st.user.get("email", "")).casefold()
    return not allowed or any(
        email.endswith(e) if e.startswith("@") else email == e for e in map(str.casefold, allowed)
    )


def workspace() -> places.Workspace:
    """Where the work of this tab's user is kept: where people log in each has one of their own, else there is one."""
    home = places.chosen()
    if not providers():
        return home
    email = str(st.user.get("email", ""))
    if not (who := st.user.get("sub") or email):
        problem = "The login says neither who you are nor your address."
        raise MilError(problem, "the provider of the login", "Ask whoever runs it to send 'sub' or 'email'.")
    return home.of_user(f"{st.user.get('iss', '')} {who}", email)


def afford(more: int) -> None:
    """MilError where so many bytes more are too many for the share of a user who has logged in."""
    if not providers():
        return
    share = float(st.secrets.get("milscope", {}).get("quota_gb", QUOTA_GB))
    if (held := workspace().held()) + more > share * 1e9:
        problem = f"This would fill your share of the server: {held / 1e9:.1f} of {share:g} GB are in use."
        fix = "Remove analyses for good under Analyses, or ask whoever runs the server for more (quota_gb)."
        raise MilError(problem, f"{more / 1e9:.1f} GB more", fix)


def data_folders() -> list[Path]:
    """The folders whose tables may be opened without an upload."""
    given = os.environ.get("MILSCOPE_DATA", "").split(os.pathsep)
    return [Path(folder) for folder in given if folder and Path(folder).is_dir()]


def jobs() -> Desk:
    """What this tab's user sees of the one queue of this server."""
    server, mine = places.chosen().root, workspace().root
    return Desk(_jobs(str(server)), "" if mine == server else mine.relative_to(server).as_posix())


def submit(kind: str, request: dict[str, Any]) -> None:
    """Queues a job, for which this tab then waits."""
    owner = str(st.user.get("email")) if providers() else session().owner
    session().waiting = jobs().submit(kind, request, owner=owner)


@st.cache_resource(max_entries=1, show_spinner=False)
def _jobs(root: str) -> Jobs:
    threading.Thread(target=_import_science, daemon=True).start()
    made = Jobs(places.Workspace(Path(root)), workers=int(os.environ.get("MILSCOPE_WORKERS", "1")))
    atexit.register(made.close)  # what was running is recorded as interrupted
    return made


def _import_science() -> None:
    """Opening the first analysis must not wait seconds for imports. What they leave is frozen: Streamlit looks for
    garbage after every run of a page, and all pages would wait while it goes through torch again."""
    import milcore.chain  # noqa: F401

    gc.collect()
    gc.freeze()


def cohort() -> Cohort | None:
    """The cohort of this tab, None when none is open; a damaged one is set aside. MilError when it cannot be read."""
    key = session().cohort
    if not workspace().has_cohort(key):
        return None
    with _setting_aside(workspace().cohort(key)):
        return _cohort(str(workspace().root), key)


@st.cache_resource(max_entries=8, show_spinner=False)
def _cohort(root: str, key: str) -> Cohort:
    from milcore.cohort import Cohort

    return Cohort.open(places.Workspace(Path(root)).cohort(key))


def analysis() -> Analysis | None:
    """The analysis of this tab, None when there is none yet; a damaged one is set aside. MilError when it cannot be
    read."""
    key = session().analysis
    if not workspace().has_analysis(key):
        return None
    names = tuple(sorted(kept.kept(workspace(), key).names.items()))
    maps = tuple(layouts.saved(workspace(), key))
    with _setting_aside(workspace().analysis(key)):
        return _as_asked(str(workspace().root), key, names, maps, session().layout)


def map_of_file() -> bool:
    """Whether the map by likeness that is shown came with the tables."""
    found = analysis()
    return found is not None and not session().layout and found.facts.get("umap") == "from file"


def layout() -> Layout:
    """How the map by likeness that is shown was laid out."""
    now = session()
    return layouts.saved(workspace(), now.analysis).get(now.layout, USUAL)


@contextmanager
def _setting_aside(folder: Path) -> Iterator[None]:
    """What turns out damaged inside is set aside, which the page says, and this tab closes it."""
    try:
        yield
    except Damaged as error:
        if Path(error.where) != folder and Path(error.where).parent != folder:
            raise  # the cohort of an analysis: `cohort` sees to it
        try:
            workspace().set_aside(folder, error.problem)
        except (OSError, MilError):
            raise error from None  # it stays where it is, and the view says so
        if folder.parent.name == "cohorts":
            open_cohort("")
        jump(analysis="")
        st.rerun()


@st.cache_resource(max_entries=6, show_spinner=False)
def _as_asked(
    root: str, key: str, names: tuple[tuple[str, str], ...], maps: tuple[str, ...], shown: str
) -> Analysis:
    """The analysis with the user's names of phenotypes, and the user's maps of its cells."""
    found = _analysis(root, key).renamed(dict(names))
    home = places.Workspace(Path(root))
    return found.laid_out({name: layouts.places(home, key, name) for name in maps}, shown) if maps else found


def opened(key: str) -> Analysis:
    """Any analysis of the workspace. MilError when it is missing or damaged."""
    return _analysis(str(workspace().root), key)


@st.cache_resource(max_entries=6, show_spinner="Opening the analysis")
def _analysis(root: str, key: str) -> Analysis:
    from milcore.analysis import Analysis

    return Analysis.open(places.Workspace(Path(root)).analysis(key))


def analyses() -> list[tuple[str, dict[str, Any]]]:
    """(id, facts) of the analyses of this tab's cohort, the newest first, then those of its patients as new ones."""
    found = cohort()
    return workspace().analyses(found.fingerprint) if found is not None else []


def trained() -> list[tuple[str, dict[str, Any]]]:
    """Of `analyses` those that were trained on the cohort."""
    return [(key, facts) for key, facts in analyses() if not facts.get("new")]


def newest_job(kind: str, **asked: str) -> Job | None:
    """The newest job of a kind whose request holds these values, unless this tab has put it away."""
    for job in jobs().every():
        if job.kind == kind and all(job.request.get(key) == value for key, value in asked.items()):
            return None if job.id in session().dismissed else job
    return None


def dismiss(key: str) -> None:
    """Puts a job's message away."""
    session().dismissed.add(key)


def cohort_name(key: str) -> str:
    """What the user called a cohort when it was read, else its files."""
    if (job := jobs().maker("read", key)) is not None and job.request.get("name"):
        return str(job.request["name"])
    facts = places.read_json(workspace().cohort(key) / "cohort.json") or {}
    return ", ".join(facts.get("source", {}).get("files", [])) or key


def dark() -> bool:
    """Whether the browser shows the dark theme."""
    return bool(st.context.theme.type == "dark")


def _trusted(asked: Session) -> Session:
    """What of a URL names things that exist; an analysis brings its cohort, a cohort its newest analysis."""
    home = workspace()
    asked = replace(asked, selection=picks.trusted(asked.selection), view=picks.aimed(asked.view))
    if not home.has_cohort(asked.cohort):
        return Session()
    fingerprint = (places.read_json(home.cohort(asked.cohort) / "cohort.json") or {}).get("fingerprint", "")
    known = [key for key, _ in home.analyses(fingerprint)]
    if asked.analysis in known:
        return asked
    return replace(asked, analysis=known[0] if known else "", selection="", view="")
