"""The tables as a picture: SVG, readable on light and on dark paper.

    python3 benches/compare/picture.py RESULTS.json PICTURE.svg      draws stored results again
"""

import json
import pathlib
import sys
from xml.sax.saxutils import escape

WIDTH = 900
LEFT = 270
RIGHT = 40
ROW = 22
HEAD = 62
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


def steps(most):
    """Round numbers from 0 to at least `most`."""
    size = 1e-6
    while True:
        for factor in (1, 2, 5):
            step = size * factor
            if most / step <= 6:
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


def draw(results):
    """The SVG of what `--json` holds."""
    parts, top = [], 64
    for table in results["tables"]:
        if table["rows"] and table["drawn"]:
            part, height = panel(table, top)
            parts.append(part)
            top += height
    machine = results["machine"]
    says = f"{machine['processor']}, {machine['cores']} cores; {results['rounds']} rounds"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">
<title>Osprey beside its peers</title>
<style>{STYLE}</style>
<rect class="paper" width="{WIDTH}" height="{top}"/>
<text class="title" x="20" y="30">Osprey beside its peers</text>
<text class="faint small" x="20" y="48">{escape(says)}: medians, lowest to highest</text>
{chr(10).join(parts)}
</svg>
"""


if __name__ == "__main__":
    source, target = map(pathlib.Path, sys.argv[1:])
    target.write_text(draw(json.loads(source.read_text())))
