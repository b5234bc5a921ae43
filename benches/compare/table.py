"""What is measured, as tables: in text, and as plain data for JSON and the picture."""

import dataclasses
import random
import statistics


@dataclasses.dataclass
class Table:
    """One kind of number, for each candidate (columns) in each situation (rows)."""

    title: str
    unit: str
    # "higher" or "lower": which is better
    better: str
    columns: list
    rows: list = dataclasses.field(default_factory=list)
    digits: int = 2
    note: str = ""
    # in the picture, which is not for everything
    drawn: bool = True
    # what there is more of from row to row: then the picture has curves, and each row says how much `at`
    along: str = ""

    def add(self, label, numbers, at=None):
        """A row: column → the numbers of its rounds."""
        cells = {
            column: {
                "median": statistics.median(values),
                "low": min(values),
                "high": max(values),
            }
            for column, values in numbers.items()
            if values
        }
        self.rows.append({"label": label, "cells": cells} | ({} if at is None else {"at": at}))

    def median(self, label, column):
        [row] = [row for row in self.rows if row["label"] == label]
        return row["cells"][column]["median"]

    def text(self):
        wide = max([len(row["label"]) for row in self.rows] + [20])
        lines = [f"{self.title} ({self.unit})"]
        lines.append(" " * wide + "".join(f" {column:>23}" for column in self.columns))
        for row in self.rows:
            cells = (self._cell(row["cells"].get(column)) for column in self.columns)
            lines.append(f"{row['label']:{wide}}" + "".join(f" {cell:>23}" for cell in cells))
        if self.note:
            lines.append(self.note)
        return "\n".join(lines) + "\n"

    def _cell(self, cell):
        if cell is None:
            return "-"
        median, low, high = (
            f"{cell[key]:.{self.digits}f}" for key in ("median", "low", "high")
        )
        return median if low == high else f"{median} ({low}-{high})"


@dataclasses.dataclass
class Bar:
    """What was promised, and what was measured."""

    what: str
    measured: float
    least: float | None = None
    most: float | None = None
    digits: int = 2

    @property
    def holds(self):
        above = self.least is None or self.measured >= self.least
        return above and (self.most is None or self.measured <= self.most)

    def text(self):
        promise = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{verdict:>13}  {self.what}: {self.measured:.{self.digits}f} ({promise})"


def interleaved(candidates, rounds, seed, measure):
    """Every candidate once a round, in an order that changes from round to round: the machine's moods
    then hit all alike. One dictionary a round: the candidate's name → what `measure` returned."""
    results = []
    for number in range(rounds):
        order = list(candidates)
        random.Random(f"{seed}{number}").shuffle(order)
        results.append({candidate.name: measure(candidate) for candidate in order})
    return results


def ratios(results, key, over, under):
    """Of each round, what one candidate measured divided by what another did."""
    return [result[over][key] / result[under][key] for result in results if result[under][key]]


def values(results, key, name):
    return [result[name][key] for result in results]
