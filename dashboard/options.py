"""The options that `run` and `check` take: what the columns of a table are, what to predict, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from milcore.columns import Columns

Command = Callable[..., None]


def _names(ctx: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """'A,B' (also given several times) to names."""
    return tuple(name.strip() for part in value for name in part.split(",") if name.strip())


COLUMNS = (  # of `run` and `check`: what the columns of the cell table are
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
    click.option("--known", help="Column with the truth per cell: kept beside the results, never a feature."),
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
)
SETTINGS = (  # of `run`: what to predict, and how
    click.option("--target", required=True, help="Column with the label to predict, of either table."),
    click.option(
        "--out",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder to make; complete or absent.",
    ),
    click.option(
        "--task",
        type=click.Choice(["auto", "binary", "multiclass", "regression", "survival"]),
        default="auto",
        show_default=True,
        help="Kind of label; auto decides from the column and says so.",
    ),
    click.option("--time", help="Survival: column of the time; --target is then the event (1 = happened)."),
    click.option(
        "--classes",
        multiple=True,
        callback=_names,
        metavar="A,B",
        help="Keep only patients with these labels.",
    ),
    click.option(
        "--positive", help="Label that scores argue for [recognised by its word, else the rarer one]."
    ),
    click.option(
        "--transform",
        default="auto",
        show_default=True,
        help="Of features: auto, none, log1p, arcsinh:COFACTOR.",
    ),
    click.option(
        "--centre",
        type=click.Choice(["none", "region"]),
        default="none",
        show_default=True,
        help="Take each region's median from its features, against staining differences.",
    ),
    click.option(
        "--context",
        type=int,
        default=0,
        metavar="K",
        help="Add the mean features of the K nearest cells in the tissue [none].",
    ),
    click.option(
        "--pooling",
        type=click.Choice(["auto", "attention", "mean", "topk", "neighbourhood"]),
        default="auto",
        show_default=True,
        help="How cells make a patient's score; auto stacks neighbourhood and attention.",
    ),
    click.option(
        "--effort",
        type=click.Choice(["quick", "standard", "thorough"]),
        default="standard",
        show_default=True,
        help="2, 4 or 10 repeats of the cross-validation.",
    ),
    click.option("--repeats", type=int, help="Repeats of the cross-validation, instead of --effort."),
    click.option("--permutations", type=int, help="Label permutations of the null [1000]."),
    click.option(
        "--covariates",
        multiple=True,
        callback=_names,
        metavar="A,B",
        help="Patient columns that the cells must beat [those named like age, sex, stage, grade, site].",
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Same inputs and seed, same numbers."
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Scheduler of dask whose workers train, such as tcp://host:8786 [this computer].",
    ),
)


def taking(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that gives a command these options, in their order."""

    def given(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return given


def columns_of(given: dict[str, Any], *, labels: tuple[str, ...] = ()) -> Columns:
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
