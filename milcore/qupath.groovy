/*
 * Colours the cells of the open image by what they argued for in Milscope. Research use only.
 *
 * 1. Copy this folder into the folder of your QuPath project, under the name "milscope".
 * 2. Open an image of the project, open this script (Automate > Script editor) and run it.
 *
 * Cells are found by their Object ID; where the table has none, by their centroid, to within one unit of length.
 * Measurements that begin with "MIL" are added, so that Measure > Show measurement maps knows them too. Classes and
 * shapes stay as they are. Made for QuPath 0.4 and later.
 */
import qupath.lib.color.ColorMaps
import qupath.lib.gui.tools.MeasurementMapper

def shown = 'MIL importance'
double limit = @LIMIT@  // of the colours, the same for every image of the cohort

def lines = new File(buildFilePath(PROJECT_BASE_DIR, 'milscope', 'cells.tsv')).readLines('UTF-8')
def header = lines[0].split('\t', -1) as List
def at = { row, name -> row[header.indexOf(name)] }
def rows = lines.drop(1).collect { it.split('\t', -1) as List }

def image = getCurrentServer().getMetadata().getName()
def images = rows.collect { at(it, 'Image') }.unique()
def mine = images.size() == 1 ? rows : rows.findAll { at(it, 'Image') == image }
if (mine.isEmpty()) {
    print "The table has no cells of the image '${image}'. It has: ${images.take(10).join(', ')}"
    return
}

// Where each row belongs
def ids = header.contains('Object ID')
def across = header.find { it.startsWith('Centroid X') }
def down = header.find { it.startsWith('Centroid Y') }
def calibration = getCurrentServer().getPixelCalibration()
boolean pixels = !across?.endsWith('m')  // else micrometres
double width = pixels ? 1 : calibration.getPixelWidthMicrons()
double height = pixels ? 1 : calibration.getPixelHeightMicrons()
def key = { double x, double y -> (((long) Math.floor(x)) << 32) ^ (((long) Math.floor(y)) & 0xffffffffL) }
def known = [:].withDefault { [] }
mine.each { row ->
    def place = ids ? at(row, 'Object ID') : key(at(row, across) as double, at(row, down) as double)
    known[place] << row
}
def nearest = { double x, double y ->
    def best = null
    double least = 1
    for (i in -1..1) for (j in -1..1) {
        def square = key(x + i, y + j)
        if (known.containsKey(square)) known[square].each { row ->
            double far = Math.hypot((at(row, across) as double) - x, (at(row, down) as double) - y)
            if (far <= least) { best = row; least = far }
        }
    }
    best
}
def rowOf = { cell ->
    if (ids) return known.containsKey(cell.getID().toString()) ? known[cell.getID().toString()][0] : null
    def roi = cell.getROI()
    nearest(roi.getCentroidX() * width, roi.getCentroidY() * height)
}

// Measurements, then colours
def cells = getDetectionObjects()
def measured = header.findAll { it.startsWith('MIL ') }
int found = 0
cells.each { cell ->
    def row = rowOf(cell)
    if (row != null) {
        found++
        measured.each { name -> if (at(row, name)) cell.getMeasurementList().put(name, at(row, name) as double) }
    }
}
def colours = ColorMaps.createColorMap('Milscope', @RED@ as int[], @GREEN@ as int[], @BLUE@ as int[])
def mapper = new MeasurementMapper(colours, shown, cells)
mapper.setDisplayMinValue(-limit)
mapper.setDisplayMaxValue(limit)
getCurrentViewer().getOverlayOptions().setMeasurementMapper(mapper)
fireHierarchyUpdate()
print "${found} of ${cells.size()} cells of '${image}' were found in the table."
