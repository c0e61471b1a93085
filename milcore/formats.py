"""The tables that the common tools write: how each is recognised, and what its columns are that names alone miss.

A format is one row of values. To add a tool, add a row; the readers need no other change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from milcore.names import folded

__all__ = ["FORMATS", "Format", "format_of"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Format:
    """A tool's table, in folded names (see `names`).

    `marks` are patterns, each of which some column must fit. The roles list column names, the surest first;
    `stand_in` those that count as the patient where no column names it. `never` is a pattern of columns that measure
    nothing. `alone`: one file is one sample. `takes_apart` names a column of ids and the naming
    pattern that takes it apart. `refused` says what its rows are if they are not cells. How to get the table out of
    the tool stands in the README.
    """

    name: str
    marks: tuple[str, ...]
    patient: tuple[str, ...] = ()
    stand_in: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    cell: tuple[str, ...] = ()
    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    cell_type: tuple[str, ...] = ()
    never: str = ""
    alone: bool = False
    takes_apart: tuple[str, str] = ("", "")
    refused: str = ""


FORMATS = (
    Format(
        "transcripts",
        marks=("genename|gene|featurename", "global[xy](pos)?|[xy](global|location)|globalxpos"),
        refused="single points (transcripts)",
    ),
    Format(
        "CosMx transcripts",
        marks=("target", "cellcomp"),
        refused="single points (transcripts)",
    ),
    Format(
        "QuPath",
        marks=(
            "image|objectid",
            "centroidx",
            "parent|classification|class",
            "roi|objecttype|(nucleus|cell|cytoplasm|membrane)[a-z].*(area|mean|median|min|max|stddev)",
        ),
        stand_in=_words("tmacore image"),
        region=_words("tmacore image"),
        cell=_words("objectid"),
        x=_words("centroidx"),
        y=_words("centroidy"),
        cell_type=_words("classification class"),
        never="name|parent|roi|objecttype|missing|numdetections",
    ),
    Format(
        "HALO",
        marks=("xmin", "xmax", "ymin", "ymax", ".+(intensity|positive|positiveclassification)"),
        stand_in=_words("imagelocation imagetag imagefilename"),
        region=_words("imagelocation imagetag imagefilename analysisregion"),
        cell=_words("objectid"),
        x=_words("xcentre"),
        y=_words("ycentre"),
        cell_type=_words("classifierlabel phenotype"),
        never="analysisinputs|region(area|perimeter)|algorithmname|jobid|objectdatapath",
        alone=True,
    ),
    Format(
        "inForm",
        marks=("samplename", "cellid", "cellxposition", "cellyposition"),
        stand_in=_words("slideid samplename"),
        region=_words("samplename annotationid"),
        cell=_words("cellid"),
        cell_type=_words("phenotype"),
        never="tag|path|totalcells|tissuecategoryarea.*|celldensity.*|(process|category)regionid|labid|confidence"
        "|tma(sector|row|column|field)|inform.*|distancefromprocessregionedge.*",
    ),
    Format(
        "CellProfiler",
        marks=("imagenumber", "objectnumber"),
        patient=_words(
            "metadatapatient metadatapatientid metadatasubject metadatadonor metadatadonorid metadatacase"
        ),
        stand_in=_words("metadatasample metadatacore metadataimage imagenumber"),
        region=_words(
            "metadataroi metadatacore metadatafov metadatasample metadataimage metadatawell imagenumber"
        ),
        cell=_words("objectnumber"),
        never="metadata.*|(parent|children)[a-z].*|number.*number|neighbors.*objectnumber.*|(file|path)name.*|groupnumber"
        "|groupindex|classify.*",
    ),
    Format(
        "histoCAT",
        marks=("imageid", "cellid", "xposition", "yposition", "percenttouching|numberneighbors|neighbour.*"),
        stand_in=_words("imageid"),
        region=_words("imageid"),
        cell=_words("cellid"),
        x=_words("xposition"),
        y=_words("yposition"),
        never="neighbou?r.*cellid\\d*|neighbou?r\\d*|numberneighbors",
    ),
    Format(
        "MCMICRO",
        marks=(
            "cellid",
            "xcentroid|xposition",
            "ycentroid|yposition",
            "majoraxislength",
            "solidity|extent|orientation",
        ),
        stand_in=_words("imageid"),
        region=_words("imageid"),
        cell=_words("cellid"),
        x=_words("xcentroid xposition"),
        y=_words("ycentroid yposition"),
        alone=True,
    ),
    Format(
        "ark",
        marks=("cellsize", "label", "fov", "centroid0", "centroid1"),
        stand_in=_words("fov"),
        region=_words("fov"),
        cell=_words("label"),
        x=_words("centroid1"),
        y=_words("centroid0"),
        cell_type=_words("cellmetacluster pixelmetacluster"),
        never="(cell|pixel)som(cluster)?|cellmetaclusterid",
    ),
    Format(
        "steinbock",
        marks=("object", "centroid0", "centroid1"),
        stand_in=_words("image"),
        region=_words("image"),
        cell=_words("object"),
        x=_words("centroid1"),
        y=_words("centroid0"),
        never="(width|height)px|numchannels|sourcefile|recoveryfile|recovered|acquisition.*",
        alone=True,
    ),
    Format(
        "CODEX",
        marks=("cellidcellid", "xx", "yy"),
        stand_in=_words("regionregion"),
        region=_words("regionregion"),
        cell=_words("cellidcellid"),
        never="blank.*|tilenumtilenum|zz",
        alone=True,
    ),
    Format(
        "CODEX",
        marks=("xx", "yy", "zz"),
        cell_type=_words("imagingphenotypeclusterid clustername"),
        never="blank.*|samplextileytile|nichecluster.*|sizesize",
        takes_apart=("samplextileytile", "{patient}_X{}_Y{}"),
    ),
    Format(
        "Xenium",
        marks=("cellid", "xcentroid", "ycentroid", "transcriptcounts"),
        cell=_words("cellid"),
        x=_words("xcentroid"),
        y=_words("ycentroid"),
        never="(control|unassigned|deprecated|genomiccontrol|negcontrol|antisense).*|blank\\d*|segmentationmethod|zlevel",
        alone=True,
    ),
    Format(
        "CosMx",
        marks=("fov", "cellid", "centerx(local|global)", "centery(local|global)"),
        region=_words("fov"),
        stand_in=_words("slideid runtissuename tissue"),
        cell=_words("cell cellid"),
        x=_words("centerxglobal centerxlocal"),
        y=_words("centeryglobal centerylocal"),
        never="version|dualfileformat|assaytype|runname|propnegative|cellid|slideidnumeric|neg(prb)?\\w*\\d+|negative\\d*"
        "|systemcontrol\\d*|falsecode\\w*",
        alone=True,
    ),
    Format(
        "FCS",
        marks=(),  # known by the kind of file
        never="time|eventlength",
        alone=True,
    ),
    Format(
        "MERSCOPE",
        marks=("fov", "volume", "centerx", "centery", "minx|maxx|entityid"),
        cell=_words("entityid unnamed0"),
        x=_words("centerx"),
        y=_words("centery"),
        never="fov|(min|max)[xy]|transcriptcount|barcodecount|blank\\d*",
        alone=True,
    ),
)


def format_of(columns: Iterable[str], kind: str = "") -> Format | None:
    """The tool whose table has these columns, or whose kind of file it is; None where no tool is recognised."""
    plain = {folded(name) for name in columns}
    for known in FORMATS:
        fits = all(any(re.fullmatch(mark, name) for name in plain) for mark in known.marks)
        if known.name == kind or (known.marks and fits):
            return known
    return None
