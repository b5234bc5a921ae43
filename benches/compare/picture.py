"""The tables as a picture: SVG, readable on light and on dark paper.

    python3 benches/compare/picture.py RESULTS.json PICTURE.svg          draws stored results again
    python3 benches/compare/picture.py RESULTS.json PICTURE.svg growth   of them, how it grows
"""

import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

WIDTH = 900
LEFT = 270
RIGHT = 40
ROW = 22
HEAD = 62
# Of what grows: how high a strip is, with what is above it; where its left and its right end are.
STRIP = 74
ABOVE = 34
STRIP_LEFT = 44
STRIP_RIGHT = 16
# Of the columns of what grows: how they end, and what that is.
STRIPS = {"of direct": "throughput, of direct", "µs": "CPU, µs a transaction", "MiB": "resident, MiB"}
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"

# name → class; whoever is not named takes the spare ones in turn.
CLASSES = {"osprey": "osprey", "direct": "direct", "pgbouncer": "a", "haproxy-1": "b", "haproxy-2": "c"}
SPARE = ("osprey", "a", "b", "c", "direct")

# Class → colour on light paper, on dark paper.
COLOURS = {
    "osprey": ("#0a66c2", "#5cabff"),
    "direct": ("#7b8794", "#9aa5b1"),
    "a": ("#b4530a", "#f0a05a"),
    "b": ("#47751f", "#93c66a"),
    "c": ("#7d4fa8", "#c19be8"),
}


def colours(paper):
    """The rules for light (0) or dark (1) paper."""
    background, ink, faint, line = (
        ("#ffffff", "#1f2933", "#66717d", "#dfe4e8"),
        ("#12171d", "#e3e8ed", "#98a4b0", "#2b343d"),
    )[paper]
    marks = "".join(
        f".{name} {{ fill: {pair[paper]}; stroke: {pair[paper]} }}\n"
        for name, pair in COLOURS.items()
    )
    return f"""text {{ fill: {ink} }}
.faint {{ fill: {faint} }}
.paper {{ fill: {background} }}
.line {{ stroke: {line} }}
.one {{ stroke: {faint} }}
{marks}"""


STYLE = f"""
text {{ font-family: {FONT}; font-size: 13px }}
.title {{ font-size: 15px; font-weight: 600 }}
.small {{ font-size: 12px }}
.one {{ stroke-dasharray: 3 3 }}
.range {{ stroke-width: 1.5; opacity: 0.45 }}
path.curve {{ fill: none; stroke-width: 1.5 }}
{colours(0)}
@media (prefers-color-scheme: dark) {{
{colours(1)}}}
"""


def mark(kind, x, y):
    """Told apart by shape, too."""
    shapes = {
        "osprey": f'<circle cx="{x:.1f}" cy="{y}" r="5"/>',
        "direct": f'<path d="M{x:.1f} {y - 5}v10" stroke-width="2.5"/>',
        "a": f'<rect x="{x - 4:.1f}" y="{y - 4}" width="8" height="8"/>',
        "b": f'<path d="M{x:.1f} {y - 5}l5 9h-10z"/>',
        "c": f'<path d="M{x:.1f} {y - 5}l5 5l-5 5l-5 -5z"/>',
    }
    return f'<g class="{kind}">{shapes[kind]}</g>'


def steps(most, count=6):
    """Round numbers from 0 to at least `most`: about so many."""
    size = 1e-6
    while True:
        for factor in (1, 2, 5):
            step = size * factor
            if most / step <= count:
                return [step * number for number in range(int(most / step) + 2)]
        size *= 10


def panel(table, top):
    """One table; returns its SVG and its height."""
    cells = [cell for row in table["rows"] for cell in row["cells"].values()]
    # One wild round must not press everything else together.
    usual = 1.6 * max(cell["median"] for cell in cells)
    ticks = steps(max(min(max(cell["high"] for cell in cells), usual), 1e-6))
    scale = (WIDTH - LEFT - RIGHT) / ticks[-1]

    def at(number):
        return LEFT + max(0.0, min(number, ticks[-1])) * scale

    kinds = {}
    for index, name in enumerate(table["columns"]):
        spare = [kind for kind in SPARE if kind not in kinds.values()] or SPARE
        kinds[name] = CLASSES.get(name) or spare[0]
    bottom = top + HEAD + ROW * len(table["rows"])
    out = [f'<text class="title" x="20" y="{top + 18}">{escape(table["title"])}</text>']
    says = f"{table['unit']}; {table['better']} is better"
    out.append(f'<text class="faint small" x="20" y="{top + 36}">{escape(says)}</text>')
    x = LEFT
    for name, kind in kinds.items():
        out.append(mark(kind, x, top + 32))
        out.append(f'<text class="faint small" x="{x + 10}" y="{top + 36}">{escape(name)}</text>')
        x += 34 + 7 * len(name)
    for tick in ticks:
        kind = "one" if abs(tick - 1) < 1e-9 and "of" in table["unit"].split()[:1] else "line"
        out.append(f'<path class="{kind}" d="M{at(tick):.1f} {top + HEAD - 14}V{bottom}"/>')
        label = f'<text class="faint small" text-anchor="middle" x="{at(tick):.1f}" y="{bottom + 15}">'
        out.append(f"{label}{tick:g}</text>")
    for number, row in enumerate(table["rows"]):
        y = top + HEAD + ROW * number
        out.append(f'<text text-anchor="end" x="{LEFT - 14}" y="{y + 4}">{escape(row["label"])}</text>')
        # Osprey last, so that nothing hides it.
        for name in sorted(row["cells"], key=lambda name: name == "osprey"):
            cell, kind = row["cells"][name], kinds[name]
            low, high = at(cell["low"]), at(cell["high"])
            out.append(f'<path class="{kind} range" d="M{low:.1f} {y}H{high:.1f}"/>')
            out.append(mark(kind, at(cell["median"]), y))
    return "\n".join(out), HEAD + ROW * len(table["rows"]) + 42


def tens(least, most):
    """The powers of ten from at most `least` to at least `most`."""
    first, last = math.floor(math.log10(least) + 1e-9), math.ceil(math.log10(most) - 1e-9)
    return [10**exponent for exponent in range(first, max(last, first + 1) + 1)]


def short(number):
    """2000 as 2k."""
    for sign, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"


def axis(ticks, begin, end, logarithmic):
    """Where a number is drawn, of an axis from the first tick to the last."""
    of = math.log10 if logarithmic else float
    least, most = of(ticks[0]), of(ticks[-1])
    return lambda number: begin + (end - begin) * (of(number) - least) / (most - least)


def strip(table, unit, kinds, across, ends, bottom):
    """The columns of one unit as curves. `kinds`: what they begin with → class; `ends`: left and right."""
    columns = {f"{name}: {unit}": kind for name, kind in kinds.items()} | {unit: "osprey"}
    series = {
        kind: [(across(row["at"]), row["cells"][column]) for row in table["rows"]]
        for column, kind in columns.items()
        if column in table["columns"]
    }
    cells = [cell for points in series.values() for _, cell in points]
    least, most = (of(cell["median"] for cell in cells) for of in (min, max))
    logarithmic = most > 20 * least > 0
    ticks = tens(least, most) if logarithmic else steps(most, 3)
    up = axis(ticks, bottom, bottom - STRIP, logarithmic)

    def at(number):
        return up(max(ticks[0], min(number, ticks[-1])))

    left, right = ends
    out = []
    for tick in ticks:
        y = at(tick)
        kind = "one" if unit.startswith("of") and abs(tick - 1) < 1e-9 else "line"
        out.append(f'<path class="{kind}" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        label = f'<text class="faint small" text-anchor="end" x="{left - 6:.1f}" y="{y + 4:.1f}">'
        out.append(f"{label}{short(tick)}</text>")
    # Osprey last, so that nothing hides it.
    for kind in sorted(series, key=lambda kind: kind == "osprey"):
        points = [(x, round(at(cell["median"]), 1)) for x, cell in series[kind]]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        out.append(f'<path class="{kind} curve" d="M{path}"/>')
        for (x, cell), (_, y) in zip(series[kind], points):
            low, high = at(cell["low"]), at(cell["high"])
            out.append(f'<path class="{kind} range" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
            out.append(mark(kind, x, y))
    return "\n".join(out)


def curves(tables, top):
    """What grows, side by side; returns its SVG and its height."""
    wide = (WIDTH - 40) / len(tables)
    out = []
    for number, table in enumerate(tables):
        begin = 20 + wide * number
        left, right = begin + STRIP_LEFT, begin + wide - STRIP_RIGHT
        counts = [row["at"] for row in table["rows"]]
        ticks = tens(min(counts), max(counts))
        across = axis(ticks, left + 6, right - 6, True)
        out.append(f'<text class="title" x="{begin:.1f}" y="{top + 18}">{escape(table["along"])}</text>')
        names = [column.rpartition(": ")[0] for column in table["columns"]]
        kinds = dict(zip(dict.fromkeys(filter(None, names)), SPARE))
        x = left
        for name, kind in kinds.items():
            out.append(mark(kind, x + 5, top + 32))
            out.append(f'<text class="faint small" x="{x + 15:.1f}" y="{top + 36}">{escape(name)}</text>')
            x += 34 + 7 * len(name)
        bottom = top + 30
        for unit, says in STRIPS.items():
            bottom += ABOVE + STRIP
            y = bottom - STRIP - 9
            out.append(f'<text class="faint small" x="{left:.1f}" y="{y}">{escape(says)}</text>')
            out.append(strip(table, unit, kinds, across, (left, right), bottom))
        for tick in ticks:
            label = f'<text class="faint small" text-anchor="middle" x="{across(tick):.1f}" y="{bottom + 18}">'
            out.append(f"{label}{short(tick)}</text>")
    return "\n".join(out), 30 + len(STRIPS) * (ABOVE + STRIP) + 34


def draw(results, only_growth=False):
    """The SVG of what `--json` holds."""
    parts, top = [], 64
    filled = [table for table in results["tables"] if table["rows"]]
    drawn = [table for table in filled if table["drawn"] and not only_growth]
    for table in drawn:
        part, height = panel(table, top)
        parts.append(part)
        top += height
    growing = [table for table in filled if table.get("along")]
    if growing:
        part, height = curves(growing, top)
        parts.append(part)
        top += height
    title = "Osprey beside its peers" if drawn or not growing else "Osprey, and what there is more of"
    machine = results["machine"]
    says = f"{machine['processor']}, {machine['cores']} cores; {results['rounds']} rounds"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">
<title>{title}</title>
<style>{STYLE}</style>
<rect class="paper" width="{WIDTH}" height="{top}"/>
<text class="title" x="20" y="30">{title}</text>
<text class="faint small" x="20" y="48">{escape(says)}: medians, lowest to highest</text>
{chr(10).join(parts)}
</svg>
"""


if __name__ == "__main__":
    source, target = map(pathlib.Path, sys.argv[1:3])
    target.write_text(draw(json.loads(source.read_text()), only_growth=sys.argv[3:] == ["growth"]))
