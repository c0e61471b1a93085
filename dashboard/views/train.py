"""The Train view: choose a target, see what so many patients can show, train, watch, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import figures, state, theme, widgets, worth
from dashboard.jobs import Job
from dashboard.targets import Target, barred, targets, times
from milcore.errors import MilError

if TYPE_CHECKING:
    from milcore.cohort import Cohort

PREPARED = ("neighbours", "umap", "phenotypes")
LAST = ("evidence", "phenotypes", "validation", "drivers", "saving")
EFFORTS = {"quick": "Quick", "standard": "Standard", "thorough": "Thorough"}
POOLINGS = {
    "auto": "Neighbourhood and attention, combined",
    "neighbourhood": "Neighbourhood alone",
    "attention": "Attention alone",
    "mean": "Mean alone",
    "topk": "Top share alone (slow)",
}
KINDS = {
    "binary": "Two classes",
    "multiclass": "Several classes",
    "regression": "A number",
    "survival": "Time until an event",
}
CENTRES = {"none": "No", "region": "By the median of each region"}
TRANSFORMS = {
    "auto": "Recognise",
    "none": "None: values as they are",
    "log1p": "log(1 + x): counts",
    "arcsinh:5": "arcsinh(x / 5): mass cytometry",
    "arcsinh:150": "arcsinh(x / 150): fluorescence",
}


@widgets.caught
def render() -> None:
    """Draws the view in the state it is in."""
    cohort = state.cohort()
    if cohort is None:
        widgets.nothing("There is no cohort yet to train on.", "Bring in a cohort", "cohort")
        return
    job = state.newest_job("analyse", cohort=state.session().cohort)
    if job is not None and not job.over:
        _working(job)
        return
    if job is not None and job.state == "failed":
        _failed(job)
    else:
        _done_or_ready(cohort)
    _form(cohort)
    _earlier()


def _working(job: Job) -> None:
    state.jump(waiting=job.id)
    _follow(job.id)


@st.fragment(run_every=1.0)
def _follow(key: str) -> None:
    job = state.jobs().get(key)
    if job is None or job.over:
        st.rerun()
        return
    target = theme.short(job.request["settings"]["target"], 40)
    if job.early is None:
        widgets.finding(f"Training on “{target}”: the first ranking of patients appears within seconds.")
    else:
        widgets.finding(f"Training on “{target}”: a first ranking is there, the final one follows.")
    ahead = state.newest_job("prepare", cohort=job.request["cohort"])
    if job.state == "queued" and ahead is not None and not ahead.over:
        widgets.say(
            "It begins with the neighbours, the map and the groups of all cells, which are being made."
        )
        widgets.progress(ahead, PREPARED)
    else:
        widgets.progress(job, _stages(job.request["settings"]))
    with st.container(horizontal=True):
        st.button("Cancel", on_click=state.jobs().cancel, args=(key,), disabled=job.cancelling)
        if job.stage == "whole null":
            st.button("Enough shuffles", on_click=state.jobs().enough, args=(key,), disabled=job.enough)
    with st.container(height=480, border=False):
        if job.early is None:
            widgets.quiet("No patient has been scored yet.")
        else:
            _early(job.early, job.request["settings"])


def _stages(settings: dict[str, Any]) -> tuple[str, ...]:
    """What training goes through, in order."""
    pooling = settings["pooling"]
    member = {"auto": ("attention",), "neighbourhood": ()}.get(pooling, (pooling,))
    stages = ("neighbours", "umap", "neighbourhood", *member, *LAST)
    return (*stages[:-1], "whole null", stages[-1]) if settings["effort"] == "thorough" else stages


def _early(early: dict[str, Any], settings: dict[str, Any]) -> None:
    """The ranking so far, by the first member alone."""
    named = theme.score_name(early["main"])
    widgets.say(
        f"So far by the {early['member']} model alone, out of fold: {named} {early['value']:.2f}. The other models, "
        "the interval and the test against chance follow."
    )
    ranking = figures.early_ranking(early, settings=settings)
    widgets.chart(ranking.update_layout(height=400), "early")


def _failed(job: Job) -> None:
    widgets.finding("Training did not finish.")
    widgets.failed(job, kept="The cohort and earlier analyses are untouched.")


def _done_or_ready(cohort: Cohort) -> None:
    analysis = state.analysis()
    if analysis is None or analysis.facts.get("new"):
        widgets.finding(f"Choose what the cells of {widgets.plural(cohort.B, cohort.bag)} should predict.")
        return
    widgets.finding(analysis.facts["verdict"]["words"])
    if words := worth.members(analysis.facts):
        widgets.quiet(words)
    if st.button("See predictions", type="primary"):
        state.go("predictions")


# ---------------------------------------------------------------- the form


def _form(cohort: Cohort) -> None:
    found = targets(cohort)
    if not found:
        widgets.card(
            "stop",
            "No patient column can be a target: each has one label, too many, or under 3 patients in a class.",
            "Read the tables again with a patients file that has an outcome, or give a label column its role.",
        )
        return
    if state.analysis() is not None:
        st.subheader("Train on another target", anchor=False)
    by_name = {target.name: target for target in found}
    left, right = st.columns([2, 3], gap="large")
    with left:
        name = st.selectbox("Target", **state.bind("target", list(by_name)), help="A column of the patients")
        target = by_name[name]
        asked = _outcome(cohort, target)
        effort = st.segmented_control(
            "Effort",
            **state.bind("effort", list(EFFORTS)),
            required=True,
            format_func=EFFORTS.__getitem__,
            help="How often the cross-validation is repeated: 2, 4 or 10 times",
        )
    with right:
        _means(target, asked)
    settings = _advanced(cohort)
    settings |= asked | {"target": name, "effort": effort}
    bar = barred(cohort, name, asked.get("time"))
    able = bar is None and _complete(target, asked)
    full = _unaffordable(cohort, settings) if able else ""
    words = full or _estimate(settings["effort"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Train", type="primary", disabled=not able or full != "", on_click=_start, args=(settings,))
        widgets.quiet(words if bar is None else f"Training would be wrong. {bar.words}")


def _unaffordable(cohort: Cohort, settings: dict[str, Any]) -> str:
    """Why the user's share of the server has no room for another analysis; "" where it has."""
    from milcore.analysis import space
    from milcore.training import Settings

    try:
        state.afford(space(cohort, Settings.from_json(settings)))
    except MilError as error:
        return f"{error.problem} {error.fix}"
    return ""


def _outcome(cohort: Cohort, target: Target) -> dict[str, Any]:
    """What the target is taken as, by the settings that say so: task, and time, classes, positive where they apply."""
    kind = target.kinds[0]
    if len(target.kinds) > 1:
        bound = state.bind("kind", list(target.kinds))
        kind = str(st.selectbox("Kind of outcome", **bound, format_func=KINDS.__getitem__))
    if kind == "survival":
        return {"task": kind, "time": st.selectbox("Time", **state.bind("time", times(cohort)))}
    if kind == "multiclass":
        return {"task": kind, "classes": _kept(target)}
    if kind == "regression":
        return {"task": kind}
    classes = _classes(target)
    positive = _positive(cohort, target, classes) if len(classes) == 2 else None
    return {"task": kind, "classes": classes if len(target.counts) > 2 else [], "positive": positive}


def _complete(target: Target, asked: dict[str, Any]) -> bool:
    return asked["task"] != "binary" or asked["positive"] is not None


def _kept(target: Target) -> list[str]:
    """The labels with enough patients, where some have too few; none named where all are kept."""
    from milcore.tasks import MIN_PATIENTS

    enough = [label for label in target.labels if target.counts[label] >= MIN_PATIENTS]
    return [] if len(enough) == len(target.counts) else enough


def _classes(target: Target) -> list[str]:
    """The two labels to tell apart, in the order of the alphabet."""
    if len(target.counts) == 2:
        return target.labels
    chosen = st.multiselect(
        f"{len(target.counts)} labels: choose two to tell apart",
        **state.bind("classes", target.labels),
        max_selections=2,
        placeholder="Choose two labels",
    )
    return sorted(chosen)


def _positive(cohort: Cohort, target: Target, classes: list[str]) -> str:
    """The label that high scores argue for; the usual choice first."""
    from milcore.labels import binary
    from milcore.tasks import as_text

    text = pd.Series(as_text(cohort.patients[target.name]))
    usual = binary(text.where(text.isin(classes), ""), target=target.name).positive
    options = [usual, *(label for label in classes if label != usual)]
    return str(
        st.selectbox("Positive class", **state.bind("positive", options), help="Orange cells argue for it")
    )


def _means(target: Target, asked: dict[str, Any]) -> None:
    """What was recognised, and what this cohort can show."""
    if not _complete(target, asked):
        widgets.say("Two labels are told apart at a time. Choose them on the left.")
        return
    kind = asked["task"]
    labels = asked.get("classes") or target.labels
    if kind == "binary":
        _two(target, labels)
    elif kind == "multiclass":
        named = [f"{theme.short(label, 30)} {target.counts[label]}" for label in labels]
        few = [theme.short(label, 30) for label in target.labels if label not in labels]
        aside = f" Left out, with under 3 patients: {widgets.listed(few)}." if few else ""
        widgets.say(f"{len(labels)} classes of patients: {widgets.listed(named)}.{aside}")
        widgets.quiet(
            "Each class is told from the rest; colours argue for the class a patient is predicted as."
        )
    elif kind == "regression":
        widgets.say(
            "A number: what is predicted is the number itself, and cells argue for a higher or a lower one."
        )
    else:
        ends = widgets.listed([f"{theme.short(label, 30)} {n}" for label, n in sorted(target.counts.items())])
        widgets.say(
            f"Time until an event: “{theme.short(target.name, 30)}” ({ends}) says whether it came, "
            f"“{theme.short(asked['time'], 30)}” when, or until when the patient was seen without it."
        )
    if kind in ("regression", "survival") and target.unlabelled:
        widgets.quiet(
            f"{widgets.plural(target.unlabelled, 'patient')} without a label are predicted, not trained on."
        )
    if words := worth.reach(kind, _sizes(target, asked, labels)):
        widgets.quiet(words)
    widgets.quiet("Every number shown for a patient will come from models that never saw this patient.")


def _sizes(target: Target, asked: dict[str, Any], labels: list[str]) -> list[int]:
    """Patients of each class, with a value, or with an event."""
    if asked["task"] == "regression":
        cohort = state.cohort()
        return [] if cohort is None else [len(cohort.patients) - target.unlabelled]
    if asked["task"] == "survival":
        from milcore.labels import binary

        happened = binary(pd.Series(target.labels).repeat(3), target=target.name).positive
        return [target.counts[happened]]
    return [target.counts[label] for label in labels]


def _two(target: Target, classes: list[str]) -> None:
    first, second = (target.counts[label] for label in classes)
    named = " and ".join(f"{theme.short(label, 30)} {target.counts[label]}" for label in classes)
    words = [f"Two classes of patients: {named}."]
    aside = sum(target.counts.values()) - first - second
    if aside:
        others = aside + target.unlabelled
        words.append(f"{widgets.plural(others, 'patient')} with another label, or none, are left out.")
    elif target.unlabelled:
        words.append(
            f"{widgets.plural(target.unlabelled, 'patient')} without a label are predicted, not trained on."
        )
    widgets.say(" ".join(words))


def _advanced(cohort: Cohort) -> dict[str, Any]:
    with st.expander("Advanced"):
        left, middle, right = st.columns(3)
        pooling = left.selectbox(
            "Model", **state.bind("pooling", list(POOLINGS)), format_func=POOLINGS.__getitem__
        )
        transform = middle.selectbox(
            "Transform of features",
            **state.bind("transform", list(TRANSFORMS)),
            format_func=TRANSFORMS.__getitem__,
        )
        seed = right.number_input("Seed", min_value=0, max_value=2**31 - 1, step=1, **state.bind("seed"))
        centre = left.selectbox(
            "Centre against staining",
            **state.bind("centre", list(CENTRES)),
            format_func=CENTRES.__getitem__,
            help="Also hides what sets whole regions apart",
        )
        with middle:
            context = widgets.context(cohort)
    names = [
        str(name) for name in cohort.patients if name not in ("patient", "region", state.session().target)
    ]
    known = right.multiselect(
        "Compare with covariates",
        **state.bind("covariates", names),
        placeholder="Recognised by name",
        help="What the cells must beat; without a choice age, sex, stage, grade, site, batch by their names",
    )
    return {
        "covariates": known,
        "pooling": pooling,
        "transform": transform,
        "seed": int(seed),
        "centre": centre,
        "context": context,
    }


def _start(settings: dict[str, Any]) -> None:
    from milcore.training import Settings

    full = Settings.from_json(settings).to_json()
    state.submit("analyse", {"cohort": state.session().cohort, "settings": full})


def _estimate(effort: str) -> str:
    """The time of the newest analysis of this cohort, scaled to the repeats of `effort`."""
    from milcore.training import EFFORTS as REPEATS

    known = state.trained()
    if not known:
        return "The first ranking appears within seconds; the whole takes a minute or a few."
    facts = known[0][1]
    part = {name: float(value) for name, value in facts.get("timings", {}).items()}
    fixed = sum(part.get(name, 0.0) for name in ("neighbours", "umap", "saving"))
    again = (sum(part.values()) - fixed) * REPEATS[effort] / max(int(facts.get("repeats", 1)), 1)
    return f"About {widgets.clock(fixed + again)}, judging by the last analysis."


# ---------------------------------------------------------------- earlier analyses


def _earlier() -> None:
    known = state.trained()
    if not known:
        return
    st.subheader("Analyses of this cohort", anchor=False)
    rows = [
        {
            "Target": facts["settings"]["target"],
            "Score": f"{theme.score_name(facts['main'])} {theme.interval(facts['scores'][facts['main']])}",
            "p": theme.p_value(facts["null"]) if "null" in facts else "not tested",
            "Effort": EFFORTS.get(facts["settings"]["effort"], ""),
            "Model": POOLINGS.get(facts["settings"]["pooling"], facts["settings"]["pooling"]),
            "Made": f"{key[:4]}-{key[4:6]}-{key[6:8]} {key[9:11]}:{key[11:13]}",
        }
        for key, facts in known
    ]
    chosen = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"analyses-{state.session().clicks}",
        alt="Earlier analyses of this cohort",
    )
    picked = chosen["selection"]["rows"]
    if picked:
        state.jump(clicks=state.session().clicks + 1)
        state.open_analysis(known[picked[0]][0])
        state.go("predictions")
