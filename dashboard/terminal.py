"""What the command line says: problems, what was read, what was found, and progress; nothing that steers a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milcore.progress import Event, Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort


def plain(text: object) -> str:
    """Text of a table without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def complain(problem: str, where: str, fix: str) -> None:
    """Three lines on stderr: the problem, where it is, what to do."""
    for name, words in (("Problem", problem), ("Where", where), ("Fix", fix)):
        click.echo(f"{name}: {plain(' '.join(words.split())) or '-'}", err=True)


def conclude(analysis: Analysis, out: Path, seconds: float) -> None:
    """The verdict, the scores, the warnings and the files."""
    facts = analysis.facts
    click.echo(f"\n{plain(facts['verdict']['words'])}")
    click.echo(f"{_scores(facts)}; out of fold, for '{plain(facts['towards'])}'")
    click.echo(plain(facts["task_why"]))
    for warning in facts.get("warnings", []):
        click.echo(f"Note: {plain(warning['words'])}")
    _written(out, seconds)


def conclude_new(found: Analysis, out: Path, seconds: float) -> None:
    """What was found of new patients, and every reason to doubt it."""
    facts = found.facts
    click.echo(f"\n{plain(facts['verdict']['words'])}")
    if "scores" in facts:
        click.echo(f"{_scores(facts)}; for these models as they are")
    for warning in facts["warnings"]:
        click.echo(f"Note: {plain(warning['words'])}")
    _written(out, seconds)


def _scores(facts: dict[str, Any]) -> str:
    from dashboard import theme

    return "; ".join(
        f"{theme.score_name(name)} {theme.interval(score)}" for name, score in facts["scores"].items()
    )


def _written(out: Path, seconds: float) -> None:
    click.echo(f"\nWritten to {out} in {seconds:.0f} s:")
    for path in sorted(out.iterdir()):
        click.echo(f"  {path.name}{'/' if path.is_dir() else ''}")


def describe(cohort: Cohort) -> None:
    """What was read: counts, the role of every column and why, labels, and notes with their fixes."""
    people = cohort.patients["patient"].nunique()
    places = cohort.cells["region"].dropna()
    regions = len(places.groupby([cohort.groups[cohort.owner[places.index]], places], observed=True).size())
    parts = [f"{people:,} patients", f"{cohort.N:,} cells", f"{cohort.F} features"]
    if regions:
        parts.insert(1, f"{regions:,} regions")
    click.echo(f"{', '.join(parts)} ({cohort.source.get('format', 'table')}).\n")
    columns = cohort.source.get("columns", [])
    wide = min(max((len(str(column["name"])) for column in columns), default=0), 40)
    for column in columns:
        click.echo(f"  {plain(column['name']):<{wide}}  {column['role']:<10}  {plain(column['why'])}")
    labels = [name for name in cohort.patients.columns if name not in ("patient", "region")]
    if labels:
        click.echo(f"\nOf each {cohort.bag}: {', '.join(plain(name) for name in labels)}.")
    for note in cohort.notes:
        grave = " [read this first]" * (note.severity == "warn")
        click.echo(f"{'Problem' if note.severity == 'stop' else 'Note'}: {plain(note.words)}{grave}")
        for name, words in (("Where", note.where), ("Fix", note.fix)):
            if words:
                click.echo(f"  {name}: {plain(words)}")


@dataclass
class _Teller:
    """Progress on stderr: a bar that is redrawn on a terminal, one line per finished stage elsewhere."""

    terminal: bool
    stage: str = ""
    begun: float = 0.0
    drawn: int = field(default=-1)

    def tell(self, event: Event) -> None:
        """Hears one event of a running step."""
        if event.stage != self.stage:
            self.end()
            self.stage, self.begun, self.drawn = event.stage, time.perf_counter(), -1
        if event.early:
            from dashboard import theme

            named = f"{theme.score_name(event.early['main'])} {event.early['value']:.2f}"
            self._line(f"first look ({event.early['member']}): {named}, out of fold")
        done = int(event.share * 30)
        if self.terminal and self.stage and done != self.drawn:
            self.drawn = done
            click.echo(
                f"\r\033[K{self.stage:<14} {'█' * done}{'░' * (30 - done)} {event.words}", nl=False, err=True
            )

    def end(self) -> None:
        """Closes the current stage with its seconds."""
        if self.stage:
            self._line(f"{self.stage:<14} {time.perf_counter() - self.begun:.1f} s")
        self.stage = ""

    def _line(self, words: str) -> None:
        click.echo(f"\r\033[K{words}" if self.terminal else words, err=True)


@contextmanager
def telling() -> Iterator[Progress]:
    """A Progress that is heard on stderr, and whose last line is ended whatever happens."""
    teller = _Teller(terminal=sys.stderr.isatty())
    try:
        yield Progress(tell=teller.tell)
        teller.end()
    finally:
        if teller.terminal and teller.stage:
            click.echo("", err=True)
