"""What the names of columns mean, in the spellings of the tools that write cell tables.

Names are compared folded: without case, separators and units. In every list the surest name stands first.
"""

from __future__ import annotations

import re

__all__ = [
    "CELL",
    "CELL_TYPE",
    "IMAGE",
    "LAID_OUT",
    "PATIENT",
    "PLACES",
    "REGION",
    "STAND_IN",
    "X",
    "Y",
    "bookkeeping",
    "coordinate",
    "folded",
    "owner",
    "short",
    "unit",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PATIENT = _words(
    "patient patientid patientids patientname patientcode patientno patientnr patientnumber patid patno patnr pid"
    " subject subjectid subjectname participant participantid individual individualid donor donorid animal animalid"
    " mouse mouseid case caseid bag bagid"
)
STAND_IN = _words("slideid sampleid sample samplename")  # the patient, where nothing better is there
IMAGE = _words(
    "tmacore core coreid imageid image imagename imagetag imagefilename imagelocation imagenumber libraryid"
)  # regions that may stand in for the patient too
REGION = _words(
    "region regionid roi roiid roiname core coreid tmacore fov fovid fovname imageid image imagename"
    " imagenumber imagetag imagelocation imagefilename sampleid sample samplename slideid slide libraryid acquisitionid"
    " acquisition field spot spotid analysisregion"
)
CELL = (
    *_words(
        "obsnames cellid cell objectid objectnumber cellnumber cellindex celllabel instanceid entityid object barcode"
        " cellbarcode label index id unnamed0"
    ),
    "",  # the row names R writes
)
CELL_TYPE = _words(
    "celltype celltypes celltypename phenotype phenotypes celltypeannotation annotation classification class"
    " classifierlabel cellmetacluster cellmetaclusters leiden louvain cluster clusterid clustername"
)
X = _words(
    "spatialx x xcentroid centroidx xposition positionx xpos posx xcoord xcoordinate coordx cellxposition"
    " locationcenterx areashapecenterx centerxglobal centerx xcenter centerxlocal xloc locx globalxpos xcentre xx"
    " centroid1"  # scikit-image counts rows first, so centroid-0 is y
)
Y = tuple(name.replace("x", "y").replace("centroid1", "centroid0") for name in X)

LAID_OUT = ("X_umap 1", "X_umap 2")  # the place of a cell on a map by likeness that a file brings
PLACES = {"spatial": ("spatial x", "spatial y"), "X_umap": LAID_OUT}  # what an h5ad has in obsm
SHAPES = frozenset(
    _words("polygon rectangle ellipse geometry point points line polyline")
)  # no name of a region
MICRO = r"[^a-z0-9 ]{0,4}[µμu]m|[^\x00-\x7f?]{1,3}m|\?m"  # as other encodings mangle it too
UNIT = re.compile(
    rf"([ (\[]+(square )?({MICRO}|px|pixels?|microns?)(\^?2|²| 2)?|(?<=[xy]) m)[)\] ]*$"
)  # R makes "X..m" of "X µm"
COORDINATE = re.compile(
    r"[xyz](min|max)|zz?|z(centroid|position)|centroid[zxy012]|cellzposition"
    r"|(areashape|location)(center|centermass\w*|boundingbox(min|max)imum|m(in|ax)intensity)[xyz]\w*"
)
BOOKKEEPING = re.compile(r"(.*(id|ids|barcode|index|objectnumber|imagenumber|unnamed0))?")


def folded(name: str) -> str:
    """A name without case, separators and unit: "Centroid X µm" and "centroid_x" are both centroidx."""
    spaced = re.sub(r"[\s._\-:/]+", " ", name.casefold()).strip()
    return UNIT.sub("", spaced).replace(" ", "")


def coordinate(name: str) -> bool:
    """Whether a column tells a place, so that it can never be a feature unasked."""
    plain = folded(name)
    return plain in X or plain in Y or bool(COORDINATE.fullmatch(plain))


def bookkeeping(name: str) -> bool:
    """Whether a column of whole numbers or text, by its name, only counts or names things."""
    return bool(BOOKKEEPING.fullmatch(folded(name)))


def owner(name: str) -> bool:
    """Whether a column tells, by its name, which patient or region a row belongs to."""
    return folded(name) in (*PATIENT, *STAND_IN, *REGION)


def unit(name: str) -> str:
    """The unit of length that a name ends with: "µm", "px" or ""."""
    spaced = re.sub(r"[\s._\-:/]+", " ", name.casefold()).strip()
    found = UNIT.search(spaced)
    return "" if found is None else "px" if "px" in found[0] or "pixel" in found[0] else "µm"


def short(text: object, length: int = 24) -> str:
    """At most `length` characters of a name, cut in its middle so that both ends stay readable; not yet
    escaped."""
    plain = " ".join(str(text).split())
    if len(plain) <= length:
        return plain
    head = (length - 1) // 2
    return plain[:head] + "…" + plain[len(plain) - (length - 1 - head) :]
