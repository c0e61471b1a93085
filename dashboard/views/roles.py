"""What each column of a cohort was read as: a table to mend it, beside a look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import figures, state, widgets
from dashboard.jobs import Job

if TYPE_CHECKING:
    from milcore.cohort import Cohort
    from milcore.columns import Columns

ROLES = ("patient", "region", "cell", "x", "y", "cell_type", "feature", "label", "known", "kept", "left out")
ONCE = ("patient", "region", "cell", "x", "y", "cell_type", "known")
ROWS, FEATURES = 6, 6  # shown of the cells


def draw(cohort: Cohort) -> None:
    """The table of columns with its menu, how names are taken apart, and the look at the result."""
    columns = cohort.source.get("columns", [])
    made = state.jobs().maker("read", state.session().cohort)
    with st.expander(f"Columns and their roles ({len(columns)})"):
        left, right = st.columns([3, 2], gap="large")
        with left:
            edited = _table(columns, able=made is not None)
        other = edited["role"].tolist() != [column["role"] for column in columns]
        with right:
            _look(cohort, made, edited if other else None)
        if made is None:
            words = (
                "The tables this cohort was read from are no longer known here, so roles cannot be changed."
            )
            widgets.quiet(words)
            return
        pattern, source = _pattern(cohort, made)
        how = {"pattern": pattern, "names_in": source, "bag": _bag(cohort), "layer": _layer(cohort)}
        before = {"pattern": "", "names_in": None, "layer": None, **_settled(cohort), "bag": cohort.bag}
        changed = any(value != before[name] for name, value in how.items())
        if st.button("Read again with these roles", disabled=not (other or changed)):
            _mend(cohort, made, edited, how)


def again(made: Job, columns: Mapping[str, Any]) -> None:
    """Queues the reading of the same files with other columns; they are remembered for tables of that tool."""
    request = {**made.request, "columns": dict(columns), "remember": True}
    state.submit("read", request)
    st.rerun()


def merge_button(cohort: Cohort) -> None:
    """Offers to make one of the spellings of a label."""
    made = state.jobs().maker("read", state.session().cohort)
    if made is not None and not _settled(cohort).get("merge_labels") and st.button("Merge the spellings"):
        again(made, {**made.request["columns"], "merge_labels": True})


def samples_button(cohort: Cohort) -> None:
    """Offers to predict the images or samples of patients instead, each with its own label."""
    made = state.jobs().maker("read", state.session().cohort)
    if made is not None and st.button("Predict images or samples instead of patients"):
        again(made, {**made.request["columns"], "bag": "region"})


def _settled(cohort: Cohort) -> dict[str, Any]:
    """The columns as they were read, for reading them so again."""
    return dict(cohort.source.get("mapping", {}).get("columns", {}))


def _table(columns: list[dict[str, str]], *, able: bool) -> pd.DataFrame:
    widgets.quiet("What each column of the cell table is used as, and why. Change a role and read again.")
    roles = {
        "name": st.column_config.TextColumn("Column", disabled=True),
        "role": st.column_config.SelectboxColumn("Role", options=ROLES, required=True),
        "why": st.column_config.TextColumn("Why", disabled=True, width="large"),
    }
    table = pd.DataFrame(columns, columns=["name", "role", "why"])
    key = f"roles-{state.session().cohort}"
    return st.data_editor(table, column_config=roles, hide_index=True, key=key, disabled=not able)


def _look(cohort: Cohort, made: Job | None, edited: pd.DataFrame | None) -> None:
    """The first cells, and a small map on which a swapped axis is seen; of edited roles what they would make."""
    if edited is not None:
        _preview(cohort, edited)
        return
    _first(cohort)
    if cohort.cells[["x", "y"]].notna().all(axis=1).any():
        widgets.chart(figures.tissue_preview(cohort).update_layout(height=300), "roles-preview")
        if made is not None and st.button("Swap x and y"):
            settled = _settled(cohort)
            again(made, {**made.request["columns"], "x": settled.get("y"), "y": settled.get("x")})


def _preview(cohort: Cohort, edited: pd.DataFrame) -> None:
    """What edited roles would make of some rows of the tables, or why they cannot be."""
    from milcore.errors import MilError
    from milcore.readers import glimpsed

    columns = _edited(cohort, edited)
    if columns is None:
        return
    try:
        seen = glimpsed(cohort, columns)
    except MilError as error:
        widgets.card("stop", error.problem, error.fix)
        return
    if seen is None:
        widgets.quiet("These tables were read by an older version, so there is nothing to look at before.")
        return
    counts = [
        f"{seen.N:,} cells looked at",
        widgets.plural(seen.F, "feature"),
        widgets.plural(seen.B, seen.bag),
    ]
    widgets.quiet(f"As these roles would read it: {', '.join(counts)}.")
    _first(seen)
    if seen.cells[["x", "y"]].notna().all(axis=1).any():
        widgets.chart(figures.tissue_preview(seen).update_layout(height=300), "roles-preview")


def _first(cohort: Cohort) -> None:
    first = cohort.cells[["cell_id", "region", "x", "y"]].head(ROWS).dropna(axis=1, how="all")
    owners = cohort.patients["patient"].to_numpy()[cohort.owner[:ROWS]]
    values = pd.DataFrame(cohort.features[:ROWS, :FEATURES], columns=list(cohort.names[:FEATURES]))
    first.insert(0, "patient", owners)
    st.dataframe(pd.concat([first, values], axis=1), hide_index=True)


def _bag(cohort: Cohort) -> str:
    """Whether patients or regions are predicted, where there are regions."""
    if not cohort.cells["region"].notna().any():
        return cohort.bag
    key = f"bag-{state.session().cohort}"
    named = {"patient": "Patients", "region": "Regions (images, samples)"}
    return str(
        st.segmented_control(
            "What has a label and is predicted",
            list(named),
            default=cohort.bag,
            required=True,
            format_func=named.__getitem__,
            key=key,
            help="Folds keep the regions of one patient together",
        )
    )


def _layer(cohort: Cohort) -> str | None:
    """Which matrix of an h5ad is read, where it has several; None for X."""
    layers = cohort.source.get("layers", [])
    now = _settled(cohort).get("layer")
    if not layers:
        return now
    options = [None, *layers]
    key = f"layer-{state.session().cohort}"
    return st.selectbox(
        "Values of the features", options, options.index(now), format_func=lambda name: name or "X", key=key
    )


def _pattern(cohort: Cohort, made: Job) -> tuple[str, str | None]:
    """How names are taken apart, to be changed where it was done, or where there are several files."""
    settled = _settled(cohort)
    before, source = str(settled.get("pattern") or ""), settled.get("names_in")
    if not before and len(made.request["cells"]) < 2:
        return before, source
    where = "the file names" if source is None else f"column '{source}'"
    help_ = "{patient}, {region}, {cell}, and {} for what does not matter"
    text = st.text_input(
        f"Where patient and region stand in {widgets.markdown(where)}",
        value=before,
        key=f"pattern-{state.session().cohort}",
        placeholder="{patient}_{region}",
        help=help_,
    )
    return text.strip(), source


def _edited(cohort: Cohort, edited: pd.DataFrame) -> Columns | None:
    """The roles of the edited table, also those of columns that were made; None, and why, where they cannot be."""
    from milcore.readers import Columns

    named = {role: edited.loc[edited["role"] == role, "name"].tolist() for role in ROLES}
    for role in ONCE:
        if len(named[role]) > 1:
            widgets.card("stop", f"{len(named[role])} columns have the role '{role}'; one is possible.")
            return None
    single: dict[str, Any] = {role: next(iter(named[role]), None) for role in ONCE}
    left_out = tuple(name for name in named["left out"] if name not in named["feature"])
    features, labels = tuple(dict.fromkeys(named["feature"])), tuple(named["label"])
    return Columns(**single, features=features, drop=left_out, labels=labels, bag=cohort.bag)


def _mend(cohort: Cohort, made: Job, edited: pd.DataFrame, names: Mapping[str, Any]) -> None:
    """Reads the same files with the roles of the edited table; columns made from names are made anew."""
    asked = _edited(cohort, edited)
    if asked is None:
        return
    made_up = set(cohort.source.get("made", []))
    settled = {name: None if value in made_up else value for name, value in asdict(asked).items()}
    settled["drop"] = tuple(name for name in asked.drop if name not in made_up)
    how = dict(names)
    if settled["patient"] and "{patient}" in str(names["pattern"]):
        del how["pattern"], how["names_in"]
    again(made, {**settled, **how, "merge_labels": bool(_settled(cohort).get("merge_labels"))})
