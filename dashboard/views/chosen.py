"""The chosen cells and the table of phenotypes, below the maps of the Cells view."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import drivers, kept, outcome, picks, selection, state, theme, widgets
from milcore.selections import Without, cohort_without, differences, patient_without

if TYPE_CHECKING:
    from milcore.analysis import Analysis

OTHERS = "all other cells"


def panel(analysis: Analysis, chosen: np.ndarray) -> None:
    """What the chosen cells (N,) are, and what scores would be without them."""
    count, table = int(chosen.sum()), selection.shares(analysis, chosen)
    owners = int((table["cells"] > 0).sum())
    name = _phenotype(analysis)
    st.subheader(theme.short(name, 60) if name else "The selected cells", anchor=False)
    pairs = [
        (f"{count:,}", f"cells ({theme.percent(count / len(chosen))})"),
        (f"{owners:,}", f"of {len(table):,} patients"),
    ]
    widgets.facts(pairs)
    left, middle, right = st.columns(3, gap="large")
    with left:
        widgets.say("How much of each patient they are")
        widgets.chart(selection.share_figure(analysis, table), "shares")
        _tested(analysis, name)
    with middle:
        _differences(analysis, chosen)
    with right:
        _what_if(analysis, chosen)
        _made_of(analysis, chosen)
    _keep(analysis, chosen, name)


def _phenotype(analysis: Analysis) -> str:
    """The name of the phenotype that is selected, "" where something else is."""
    every, text = analysis.cells["phenotype"].cat.categories, state.session().selection
    return next((name for name in every if picks.of_class("phenotype", name) == text), "")


def _tested(analysis: Analysis, name: str) -> None:
    """The test of a phenotype, which was formed without labels; a selection made by eye has none."""
    table = analysis.phenotypes.table
    row = table[table["phenotype"] == name]
    if row.empty or not np.isfinite(row["p"].iloc[0]):
        widgets.quiet("Chosen with the outcome in view, so no p value is given.")
        return
    p, fdr = (theme.p_value({"p": row[key].iloc[0]}) for key in ("p", "fdr"))
    widgets.quiet(
        f"Formed without labels, so it may be tested: {p}, false discovery rate {fdr.removeprefix('p = ')} over "
        f"{len(table)} phenotypes. {analysis.phenotypes.test}."
    )


def _differences(analysis: Analysis, chosen: np.ndarray) -> None:
    saved = _kept().selections
    other = OTHERS
    if saved:
        options = state.bind("beside", [OTHERS, *saved])
        other = st.selectbox("How they differ from", **options)
    else:
        widgets.say("How they differ from the patient's other cells")
    beside = None if other == OTHERS else picks.members(analysis, saved[other])
    table = differences(analysis, chosen, beside)
    if table.empty:
        widgets.quiet("No patient has enough cells on both sides to compare.")
        return
    than = "the patient's other cells" if beside is None else f"“{theme.short(other, 24)}”"
    widgets.chart(selection.differences_figure(table, than=than), "differences")
    widgets.quiet("Within each patient, then the mean over patients with its 95 % interval.")


def _what_if(analysis: Analysis, chosen: np.ndarray) -> None:
    widgets.say("If these cells did not count")
    facts, found, now = analysis.facts, cohort_without(analysis, chosen), state.session()
    if np.isfinite(found.after):
        moved = f"{found.before:.2f} to {found.after:.2f}"
        widgets.facts([(moved, outcome.main(facts))])
        widgets.quiet(f"Over {widgets.plural(found.patients, 'patient')}, within folds, as in the verdict.")
    else:
        widgets.quiet("Too few labelled patients would have cells left to say what the score would be.")
    if found.emptied:
        widgets.say(f"Not in this figure, with no cells left: {widgets.plural(found.emptied, 'patient')}.")
    if now.patient and analysis.cohort.bag == "patient":
        b = analysis.cohort.position(now.patient)
        if chosen[analysis.cohort.rows(b)].any():
            _one_patient(analysis, now.patient, patient_without(analysis, b, chosen))
    how = outcome.how(facts).capitalize()
    widgets.quiet(f"{how}. Nothing is trained again; model, features and neighbours are unchanged.")


def _one_patient(analysis: Analysis, patient: str, found: Without) -> None:
    if not np.isfinite(found.after):
        widgets.quiet(f"{theme.short(patient, 30)} would have no cells left.")
        return
    before, after, low, high = (
        outcome.said(analysis.facts, value) for value in (found.before, found.after, found.low, found.high)
    )
    widgets.facts([(f"{before} to {after}", theme.short(patient, 30))])
    widgets.quiet(f"As many cells taken at random: {low} to {high}.")


def _made_of(analysis: Analysis, chosen: np.ndarray) -> None:
    table = selection.composition(analysis, chosen)
    if len(table) < 2:
        return
    shown = pd.DataFrame(
        {
            "Phenotype": table["phenotype"],
            "Of these": table["of_these"].map(theme.percent),
            "Of its kind": table["of_its_kind"].map(theme.percent),
        }
    )
    st.dataframe(shown, hide_index=True, alt="Phenotypes in the selection")


# ---------------------------------------------------------------- names


def _kept() -> kept.Kept:
    return kept.kept(state.workspace(), state.session().analysis)


def _keep(analysis: Analysis, chosen: np.ndarray, phenotype: str) -> None:
    """Name it, open a named one, export."""
    now = state.session()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = "Name of this phenotype" if phenotype else "Name this selection"
        given = st.text_input(
            label,
            value=phenotype or _named_so(now.selection),
            key=f"name-{now.selection[:60]}",
            max_chars=kept.LONGEST,
            width=320,
        )
        st.download_button(
            "Export CSV",
            partial(_rows, analysis, chosen),  # made when it is pressed
            file_name="selection.csv",
            mime="text/csv",
            on_click="ignore",
        )
    if phenotype:
        _rename(analysis, phenotype, given)
    elif given and given != _named_so(now.selection):
        kept.keep(state.workspace(), now.analysis, _kept().with_selection(given, now.selection))
        st.rerun()


def _rows(analysis: Analysis, chosen: np.ndarray) -> bytes:
    """The chosen cells as a table for a spreadsheet."""
    from milcore.export import sheet

    columns = ["patient", "region", "cell_id", "x", "y", "phenotype", "importance"]
    return sheet(analysis.cells.loc[chosen, columns])


def _named_so(text: str) -> str:
    """The name under which a selection is kept."""
    return next((name for name, one in _kept().selections.items() if one == text), "")


def _rename(analysis: Analysis, shown: str, given: str) -> None:
    now, found = state.session(), _kept()
    every = list(analysis.cells["phenotype"].cat.categories)
    own_of = {name: own for own, name in found.names.items()}
    own = own_of.get(shown, shown)
    changed = found.called(own, given, [own_of.get(name, name) for name in every])
    if given != shown and changed != found:
        kept.keep(state.workspace(), now.analysis, changed)
        now.selection = now.phenotype = picks.of_class("phenotype", changed.names.get(own, own))
        st.rerun()


# ---------------------------------------------------------------- phenotypes


def phenotypes(analysis: Analysis) -> None:
    """The table of phenotypes (choosing a row selects its cells), the gating rule, and what was kept."""
    saved = _kept().selections
    if saved:
        with st.container(horizontal=True, vertical_alignment="center"):
            widgets.say("Kept selections")
            for name, text in saved.items():
                st.button(
                    widgets.markdown(theme.short(name, 30)),
                    key=f"kept-{name}",
                    on_click=state.jump,
                    kwargs={"selection": text},
                )
    st.subheader("Phenotypes", anchor=False)
    widgets.quiet(
        f"{analysis.facts['phenotyping']['how']} Choose a row to see its cells.", _legend(analysis.facts)
    )
    table = selection.phenotype_rows(analysis)
    alt = "Phenotypes, what they are worth and how steady that is"
    rows = widgets.table(table, "phenotypes", alt=alt, most={"phenotype": 216})
    _take(picks.of_class("phenotype", str(table["phenotype"].iloc[rows[0]])) if rows else "")
    if words := drivers.rule(analysis.facts):
        st.subheader("A rule that can be counted", anchor=False)
        widgets.say(*words[:-1])
        widgets.quiet(words[-1])


def _legend(facts: dict[str, Any]) -> str:
    return (
        f"{_shares(facts)} FDR: of these shares against the label. "
        "Importance: mean of its cells, with the 95 % range over draws of patients. "
        f"Score lost: {outcome.main(facts)} with minus without it. "
        "Sign holds: patients in whom it argues for one side in every repeat. "
        "Nearby: how much more often than by chance its neighbours in the tissue are of its kind."
    )


def _shares(facts: dict[str, Any]) -> str:
    """What the columns of shares mean."""
    names = [theme.short(name, 16) for name in facts["classes"]]
    return f"{'Under ' + widgets.listed(names) if len(names) == 2 else 'Share'}: mean share over patients."


def _take(row: str) -> None:
    """A newly chosen row becomes the selection."""
    now = state.session()
    if row != now.phenotype:
        now.phenotype = row
        if row:
            now.selection = row
            st.rerun()
