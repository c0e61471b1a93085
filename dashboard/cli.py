"""The command `milscope`: a thin skin over the readers, the analysis and the report. Heavy imports come late.

A problem the user can mend ends as three lines on stderr (problem, where, fix) and exit code 2; `check`
answers with 1, because there a problem is a finding. Ctrl-C ends with 130 and leaves nothing half-written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from milcore.errors import Cancelled, MilError
from milcore.progress import Event, Progress

if TYPE_CHECKING:
    from milcore.analysis import Analysis
    from milcore.cohort import Cohort
    from milcore.columns import Columns

__all__ = ["cli", "main"]

PORT = 8501


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 `check` found a problem, 2 a problem to mend, 130
    stopped."""
    try:
        code = cli.main(standalone_mode=False)  # what a command exits with; None when it just ends
    except MilError as error:
        _complain(error.problem, error.where, error.fix)
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "milscope"
        _complain(error.format_message(), command, f"`{command} --help` lists what it takes.")
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort, Cancelled):
        click.echo("Stopped; nothing was written.", err=True)
        sys.exit(130)
    sys.exit(code or 0)


def _complain(problem: str, where: str, fix: str) -> None:
    for name, words in (("Problem", problem), ("Where", where), ("Fix", fix)):
        click.echo(f"{name}: {_plain(' '.join(words.split())) or '-'}", err=True)


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


def _names(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """'A,B' (also given several times) to names."""
    return tuple(name.strip() for part in value for name in part.split(",") if name.strip())


def _column_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what the columns of the cell table are: the same for `run` and `check`."""
    options = [
        click.argument("cells", nargs=-1, required=True, type=click.Path(path_type=Path)),
        click.option("--patients", type=click.Path(path_type=Path), help="Table with one row per patient."),
        click.option("--patient", help="Column that names the patient."),
        click.option("--region", help="Column that names the region (core, image, field of view)."),
        click.option("--cell", help="Column that names the cell."),
        click.option("--x", help="Column of the x coordinate."),
        click.option("--y", help="Column of the y coordinate."),
        click.option(
            "--features", multiple=True, callback=_names, metavar="A,B", help="Use exactly these features."
        ),
        click.option(
            "--drop", multiple=True, callback=_names, metavar="A,B", help="Never use these as features."
        ),
        click.option(
            "--known", help="Column with the truth per cell: kept beside the results, never a feature."
        ),
        click.option(
            "--pattern",
            default="",
            help="Where patient and region stand in file names, such as {patient}_{region} [proposed and said].",
        ),
        click.option("--layer", help="h5ad: layer to read instead of X."),
        click.option("--names-in", help="Column whose text --pattern takes apart, instead of file names."),
        click.option(
            "--merge-labels",
            is_flag=True,
            help="Make one of labels that differ in case, spaces or yes/1/true.",
        ),
        click.option(
            "--mapping", type=click.Path(path_type=Path), help="Roles of the columns, as `check` wrote them."
        ),
        click.option(
            "--bag",
            type=click.Choice(["patient", "region"]),
            help="What gets a label and a prediction [patient].",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@_column_options
@click.option("--target", required=True, help="Column with the label to predict, of either table.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make; complete or absent."
)
@click.option(
    "--task",
    type=click.Choice(["auto", "binary", "multiclass", "regression", "survival"]),
    default="auto",
    show_default=True,
    help="Kind of label; auto decides from the column and says so.",
)
@click.option("--time", help="Survival: column of the time; --target is then the event (1 = happened).")
@click.option(
    "--classes", multiple=True, callback=_names, metavar="A,B", help="Keep only patients with these labels."
)
@click.option("--positive", help="Label that scores argue for [recognised by its word, else the rarer one].")
@click.option(
    "--transform", default="auto", show_default=True, help="Of features: auto, none, log1p, arcsinh:COFACTOR."
)
@click.option(
    "--centre",
    type=click.Choice(["none", "region"]),
    default="none",
    show_default=True,
    help="Take each region's median from its features, against staining differences.",
)
@click.option(
    "--context",
    type=int,
    default=0,
    metavar="K",
    help="Add the mean features of the K nearest cells in the tissue [none].",
)
@click.option(
    "--pooling",
    type=click.Choice(["auto", "attention", "mean", "topk", "neighbourhood"]),
    default="auto",
    show_default=True,
    help="How cells make a patient's score; auto stacks neighbourhood and attention.",
)
@click.option(
    "--effort",
    type=click.Choice(["quick", "standard", "thorough"]),
    default="standard",
    show_default=True,
    help="2, 4 or 10 repeats of the cross-validation.",
)
@click.option("--repeats", type=int, help="Repeats of the cross-validation, instead of --effort.")
@click.option("--permutations", type=int, help="Label permutations of the null [1000].")
@click.option(
    "--covariates",
    multiple=True,
    callback=_names,
    metavar="A,B",
    help="Patient columns that the cells must beat [age, sex, stage, grade, site, batch by their names].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same inputs and seed, same numbers.")
def run(*, cells: tuple[Path, ...], patients: Path | None, target: str, out: Path, **given: Any) -> None:
    """Train on CELLS (one or more tables), explain every cell, and write the analysis to a folder."""
    _check_free(out)
    columns = _columns(given, labels=tuple(name for name in (target, given["time"]) if name))
    started = time.perf_counter()
    from milcore.training import Settings

    settings = Settings(target=target, **given)  # refused before any file is read
    with _telling() as progress:
        analysis = _analysed(cells, patients, columns, settings, out, progress)
        with progress.stage("saving"):
            analysis.save(out, also=_report_into(analysis))
    _conclude(analysis, out, time.perf_counter() - started)


def _check_free(out: Path) -> None:
    """MilError before the long work if the folder cannot be made at the end."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problem = f"'{out}' exists already."
        raise MilError(problem, "--out", "Name a new folder, or delete this one.")
    nearest = next(folder for folder in [out, *out.absolute().parents] if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        problem = f"Nothing can be written in '{nearest}'."
        raise MilError(problem, "--out", "Name a folder you may write to.")


def _columns(given: dict[str, Any], *, labels: tuple[str, ...] = ()) -> Columns:
    """Takes the column options out of `given`; what they do not say is as in the mapping, if one is named."""
    from dataclasses import replace

    from milcore.columns import Columns
    from milcore.mapping import overruled, read_mapping

    owners = ("patient", "region", "pattern", "names_in", "merge_labels", "layer")
    names = (*owners, "cell", "x", "y", "features", "drop", "known")
    columns = Columns(**{name: given.pop(name) for name in names}, labels=labels)
    mapping, bag = given.pop("mapping"), given.pop("bag")
    columns = columns if mapping is None else overruled(read_mapping(mapping), columns)
    return columns if bag is None else replace(columns, bag=bag)


def _analysed(
    cells: Sequence[Path],
    patients: Path | None,
    columns: Columns,
    settings: Any,
    out: Path,
    progress: Progress,
) -> Analysis:
    from milcore.analysis import space
    from milcore.chain import analyse
    from milcore.folder import room
    from milcore.readers import read_cohort

    cohort = read_cohort(cells, patients=patients, columns=columns, progress=progress)
    for note in cohort.notes:
        if note.severity == "stop":
            raise MilError(note.words, note.where or ", ".join(cohort.source["files"]), note.fix)
    room(out, space(cohort, settings) + cohort.features.nbytes)
    return analyse(cohort, settings, progress)


def _report_into(analysis: Analysis) -> Callable[[Path], None]:
    from dashboard.report import html

    def write(folder: Path) -> None:
        (folder / "report.html").write_text(html(analysis), encoding="utf-8")

    return write


def _conclude(analysis: Analysis, out: Path, seconds: float) -> None:
    """The verdict, the scores, the warnings and the files."""
    facts = analysis.facts
    click.echo(f"\n{_plain(facts['verdict']['words'])}")
    click.echo(f"{_scores(facts)}; out of fold, for '{_plain(facts['towards'])}'")
    click.echo(_plain(facts["task_why"]))
    for warning in facts.get("warnings", []):
        click.echo(f"Note: {_plain(warning['words'])}")
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


@cli.command()
@_column_options
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
        columns = _columns(given)
        with _telling() as progress:
            cohort = read_cohort(cells, patients=patients, columns=columns, progress=progress)
        _describe(cohort)
        if write_mapping is not None:
            _keep_mapping(cohort, write_mapping)
    except MilError as error:
        _complain(error.problem, error.where, error.fix)
        raise click.exceptions.Exit(1) from None
    if any(note.severity == "stop" for note in cohort.notes):
        raise click.exceptions.Exit(1)


def _keep_mapping(cohort: Cohort, path: Path) -> None:
    try:
        cohort.write_mapping(path)
    except OSError as error:
        problem = f"The mapping cannot be written: {error.strerror}."
        raise MilError(problem, str(path), "Name a file in a folder that exists.") from None


def _describe(cohort: Cohort) -> None:
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
        click.echo(f"  {_plain(column['name']):<{wide}}  {column['role']:<10}  {_plain(column['why'])}")
    labels = [name for name in cohort.patients.columns if name not in ("patient", "region")]
    if labels:
        click.echo(f"\nOf each {cohort.bag}: {', '.join(_plain(name) for name in labels)}.")
    for note in cohort.notes:
        grave = " [read this first]" * (note.severity == "warn")
        click.echo(f"{'Problem' if note.severity == 'stop' else 'Note'}: {_plain(note.words)}{grave}")
        for name, words in (("Where", note.where), ("Fix", note.fix)):
            if words:
                click.echo(f"  {name}: {_plain(words)}")


def _plain(text: object) -> str:
    """Text of a table without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


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
    with _telling() as progress:
        cohort = read_new(scorer, cells, patients=patients, progress=progress)
        found = predict(scorer, cohort, trained_on=trained_on, progress=progress)
        with progress.stage("saving"):
            found.save(out)
    _conclude_new(found, out, time.perf_counter() - started)


def _conclude_new(found: Analysis, out: Path, seconds: float) -> None:
    """What was found of new patients, and every reason to doubt it."""
    facts = found.facts
    click.echo(f"\n{_plain(facts['verdict']['words'])}")
    if "scores" in facts:
        click.echo(f"{_scores(facts)}; for these models as they are")
    for warning in facts["warnings"]:
        click.echo(f"Note: {_plain(warning['words'])}")
    _written(out, seconds)


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

    with _telling() as progress, progress.stage("report"):
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
        click.echo(f"{finding.state:<5} {finding.about:<10} {_plain(finding.words)}")
    if bad:
        raise click.exceptions.Exit(1)


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
def _telling() -> Iterator[Progress]:
    """A Progress that is heard on stderr, and whose last line is ended whatever happens."""
    teller = _Teller(terminal=sys.stderr.isatty())
    try:
        yield Progress(tell=teller.tell)
        teller.end()
    finally:
        if teller.terminal and teller.stage:
            click.echo("", err=True)


if __name__ == "__main__":
    main()
