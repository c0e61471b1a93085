"""The command `milscope`: a thin skin over the readers, the analysis and the report. Heavy imports come late.

A problem the user can mend ends as three lines on stderr (problem, where, fix) and exit code 2; `check`
answers with 1, because there a problem is a finding. Ctrl-C ends with 130 and leaves nothing half-written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dashboard.options import COLUMNS, SETTINGS, columns_of, taking
from dashboard.terminal import complain, conclude, conclude_new, describe, plain, telling
from milcore.errors import Cancelled, MilError
from milcore.progress import Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort
    from milcore.columns import Columns
    from milcore.crew import Crew

__all__ = ["cli", "main"]

PORT = 8501


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 `check` found a problem, 2 a problem to mend, 130
    stopped."""
    try:
        code = cli.main(standalone_mode=False)  # what a command exits with; None when it just ends
    except MilError as error:
        complain(error.problem, error.where, error.fix)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "milscope"
        complain(error.format_message(), command, f"`{command} --help` lists what it takes.")
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort, Cancelled):
        click.echo("Stopped; nothing was written.", err=True)
        sys.exit(130)
    sys.exit(code or 0)


class _ServeByDefault(click.Group):
    """`milscope` and `milscope --port 9000` are `milscope serve …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_ServeByDefault, context_settings={"help_option_names": ["--help"], "max_content_width": 110}
)
@click.version_option(package_name="milscope")
def cli() -> None:
    """Milscope: which cells drive this patient's prediction, and can I believe it?

    Without a command, opens the dashboard. Research use only.
    """


@cli.command()
@click.option(
    "--workspace", type=click.Path(path_type=Path), help="Folder for cohorts and analyses [a user folder]."
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    show_default=True,
    help="The next free one is taken.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path), help="Folder whose tables the dashboard offers."
)
@click.option(
    "--url", default="", metavar="URL", help="Address under which a reverse proxy offers it, path included."
)
@click.option(
    "--max-upload",
    type=click.IntRange(min=1),
    default=8000,
    metavar="MB",
    show_default=True,
    help="Largest file that may be uploaded, in MB; it is held in memory meanwhile.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Jobs that run at once, each in a process of its own.",
)
@click.option(
    "--insecure-no-login",
    is_flag=True,
    help="Ask for no login, also where other computers reach --host.",
)
def serve(
    *,
    workspace: Path | None,
    port: int,
    host: str,
    data: tuple[Path, ...],
    url: str,
    max_upload: int,
    workers: int,
    insecure_no_login: bool,
) -> None:
    """Open the dashboard in the browser (no browser is started; the address is printed)."""
    for folder in data:
        if not folder.is_dir():
            problem = f"'{folder}' is not a folder."
            raise MilError(problem, "--data", "Name a folder that exists.")
    from dashboard.server import start

    limits = {"workers": workers, "upload": max_upload}
    start(workspace, host, port, data=data, limits=limits, url=url, insecure=insecure_no_login)


@cli.command()
@taking(*COLUMNS, *SETTINGS)
def run(
    *,
    cells: tuple[Path, ...],
    patients: Path | None,
    target: str,
    out: Path,
    cluster: str | None,
    **given: Any,
) -> None:
    """Train on CELLS (one or more tables), explain every cell, and write the analysis to a folder."""
    _check_free(out)
    columns = columns_of(given, labels=tuple(name for name in (target, given["time"]) if name))
    started = time.perf_counter()
    from milcore.training import Settings

    settings = Settings(target=target, **given)  # refused before any file is read
    with telling() as progress:
        with _crew(cluster, out) as crew:
            analysis = _analysed((cells, patients, columns), settings, out, progress, crew)
        with progress.stage("saving"):
            analysis.save(out, also=_report_into(analysis))
    conclude(analysis, out, time.perf_counter() - started)


def _check_free(out: Path) -> None:
    """MilError before the long work if the folder cannot be made at the end."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problem = f"'{out}' exists already."
        raise MilError(problem, "--out", "Name a new folder, or delete this one.")
    nearest = next(folder for folder in [out, *out.absolute().parents] if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        problem = f"Nothing can be written in '{nearest}'."
        raise MilError(problem, "--out", "Name a folder you may write to.")


def _crew(address: str | None, out: Path) -> AbstractContextManager[Crew]:
    """Who trains; found before any file is read."""
    from milcore.crew import HERE, cluster

    return cluster(address, out) if address else nullcontext(HERE)


def _analysed(
    tables: tuple[Sequence[Path], Path | None, Columns],
    settings: Any,
    out: Path,
    progress: Progress,
    crew: Crew,
) -> Analysis:
    """Of tables: those of the cells, that of the patients, and what their columns are."""
    from dashboard.targets import barred
    from milcore.analysis import space
    from milcore.chain import analyse
    from milcore.folder import room
    from milcore.readers import read_cohort

    cells, patients, columns = tables
    cohort = read_cohort(cells, patients=patients, columns=columns, progress=progress)
    if note := barred(cohort, settings.target, settings.time):
        raise MilError(note.words, note.where or ", ".join(cohort.source["files"]), note.fix)
    written = space(cohort, settings) + cohort.features.nbytes
    room(out, written if crew.executor is None else 2 * written)  # what is left for workers is about as much
    return analyse(cohort, settings, progress, crew=crew)


def _report_into(analysis: Analysis) -> Callable[[Path], None]:
    from dashboard.report import html

    def write(folder: Path) -> None:
        (folder / "report.html").write_text(html(analysis), encoding="utf-8")

    return write


@cli.command()
@taking(*COLUMNS)
@click.option(
    "--write-mapping",
    type=click.Path(path_type=Path),
    help="File for the roles of the columns, to use with --mapping.",
)
def check(
    *, cells: tuple[Path, ...], patients: Path | None, write_mapping: Path | None, **given: Any
) -> None:
    """Read CELLS and say what was recognised, without training. Exit code 1 if training on them would be wrong."""
    from milcore.readers import read_cohort

    try:
        columns = columns_of(given)
        with telling() as progress:
            cohort = read_cohort(cells, patients=patients, columns=columns, progress=progress)
        describe(cohort)
        if write_mapping is not None:
            _keep_mapping(cohort, write_mapping)
    except MilError as error:
        complain(error.problem, error.where, error.fix)
        raise click.exceptions.Exit(1) from None
    if any(note.severity == "stop" for note in cohort.notes):
        raise click.exceptions.Exit(1)


def _keep_mapping(cohort: Cohort, path: Path) -> None:
    try:
        cohort.write_mapping(path)
    except OSError as error:
        problem = f"The mapping cannot be written: {error.strerror}."
        raise MilError(problem, str(path), "Name a file in a folder that exists.") from None


@cli.command()
@click.argument("analysis", type=click.Path(path_type=Path))
@click.argument("cells", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--patients", type=click.Path(path_type=Path), help="Table with one row per new patient.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make; complete or absent."
)
def predict(*, analysis: Path, cells: tuple[Path, ...], patients: Path | None, out: Path) -> None:
    """Score the new patients of CELLS with the models of ANALYSIS, a folder made by `run` or its model file."""
    _check_free(out)
    started = time.perf_counter()
    from milcore.prediction import open_model, predict, read_new

    scorer, trained_on = open_model(analysis)
    with telling() as progress:
        cohort = read_new(scorer, cells, patients=patients, progress=progress)
        found = predict(scorer, cohort, trained_on=trained_on, progress=progress)
        with progress.stage("saving"):
            found.save(out)
    conclude_new(found, out, time.perf_counter() - started)


@cli.command()
@click.argument("analysis", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["csv", "parquet", "xlsx", "h5ad", "qupath", "geojson"]),
    help="What other software is to read.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File or folder to write.")
def export(*, analysis: Path, form: str, out: Path) -> None:
    """Write what ANALYSIS says of every cell in a form that other software reads."""
    from milcore.analysis import Analysis
    from milcore.export import export

    click.echo(f"Written: {export(Analysis.open(analysis), form, out)}")


@cli.command()
@click.argument("analysis", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write: FILE.html or FILE.pdf."
)
@click.option(
    "--patient", "patients", multiple=True, help="A page for this patient (repeatable) [a telling few]."
)
@click.option(
    "--paper", type=click.Choice(["a4", "letter"]), default="a4", show_default=True, help="Size of a PDF."
)
@click.option(
    "--pseudonyms", is_flag=True, help="Name nobody; the key is written beside it, to FILE.key.csv."
)
def report(*, analysis: Path, out: Path, patients: tuple[str, ...], paper: str, pseudonyms: bool) -> None:
    """Write the report of ANALYSIS, a folder made by `run`: one HTML or PDF file that needs nothing else."""
    ending = out.suffix.lower()
    if ending not in (".html", ".htm", ".pdf"):
        problem = f"'{out.name}' is neither an HTML nor a PDF file."
        raise MilError(problem, "--out", "Name a file that ends in .html or .pdf.")
    if out.is_dir() or not out.absolute().parent.is_dir():
        problem = f"'{out}' cannot be written."
        raise MilError(problem, "--out", "Name a file in a folder that exists.")
    from dashboard import paper as sheets
    from dashboard import report as reports
    from dashboard import webpage
    from milcore.analysis import Analysis

    with telling() as progress, progress.stage("report"):
        found = Analysis.open(analysis)
        document, key = reports.drafted(found, patients=patients, pseudonyms=pseudonyms, progress=progress)
        made = sheets.pdf(document, size=paper) if ending == ".pdf" else webpage.html(document).encode()
        _write_whole(out, made)
    click.echo(f"Written: {out}")
    if key is not None:
        beside = out.with_name(f"{out.name}.key.csv")
        _write_whole(beside, key)
        click.echo(f"Key to the pseudonyms, to be kept apart: {beside}")


def _write_whole(out: Path, content: bytes) -> None:
    """The file appears complete or not at all."""
    aside = out.absolute().with_name(f".{out.name}-{os.getpid()}")
    try:
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def sample(*, folder: Path) -> None:
    """Write the sample cohort (a cell table and a patient table) to DIR."""
    import sample_data

    cells, patients = sample_data.write(folder)
    click.echo(f"Written: {cells}\n         {patients}")
    click.echo(
        f"Try: milscope run {cells} --patients {patients} --target response --out {folder / 'analysis'}"
    )


@cli.command()
@click.option("--workspace", type=click.Path(path_type=Path), help="Folder to look through [a user folder].")
def doctor(*, workspace: Path | None) -> None:
    """Look at versions, memory and workspace, and try a tiny analysis. Exit code 1 if something must be done."""
    from dashboard.doctor import findings
    from dashboard.workspace import chosen

    bad = False
    for finding in findings(chosen(workspace)):
        bad = bad or finding.state == "bad"
        click.echo(f"{finding.state:<5} {finding.about:<10} {plain(finding.words)}")
    if bad:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
