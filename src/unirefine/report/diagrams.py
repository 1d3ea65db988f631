"""Two diagrams that are drawn here, element by element: the flow of counts, and the stages of the workflow."""

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unirefine.core.levels import DATA_STAGES
from unirefine.report.style import hover, labelled

WIDTH = 403
_BAR, _ROW = 14, 42
_COLORS = {"kept": "series-0", "removed": "series-1", "held out": "series-2"}


@dataclass(frozen=True)
class Flow:
    """What one stage did with what it took in."""

    stage: str
    entered: int
    kept: int
    removed: int
    held_out: int = 0


def flow(rows: Sequence[Flow], unit: str) -> str:
    """A bar per stage, as wide as what it took in; its parts are what was kept, removed and held out."""
    most, left, right = max((row.entered for row in rows), default=1) or 1, 8, 8
    scale = (WIDTH - left - right) / most
    parts: list[str] = []
    for number, row in enumerate(rows):
        top = 18 + number * _ROW
        parts.append(_text(left, top - 5, f"{row.stage}: {row.entered:,} in" + _lost(row)))
        x = float(left)
        for name, count in (("kept", row.kept), ("held out", row.held_out), ("removed", row.removed)):
            if not count:
                continue
            width = max(count * scale, 1.5)  # a single sequence is seen too
            x = min(x, WIDTH - right - width)
            parts.append(
                f'<rect x="{x:.2f}" y="{top}" width="{width:.2f}" height="{_BAR}" style="fill: var(--{_COLORS[name]})">'
                f"{hover(f'{row.stage}: {count:,} {unit} {name}')}</rect>"
            )
            if name == "kept" and number + 1 < len(rows):
                parts.append(_band(left, x + width, top + _BAR, left, left + rows[number + 1].entered * scale,
                                   top + _ROW - 17))  # fmt: skip
            x += width
    last = 18 + len(rows) * _ROW
    kept = rows[-1].kept if rows else 0
    parts.append(_text(left, last - 5, f"in the end: {kept:,} {unit}"))
    height = last + 6
    return labelled(_svg(height, parts), f"Flow of {unit} from the input to the shards")


def _lost(row: Flow) -> str:
    found = [f"{count:,} {name}" for name, count in (("removed", row.removed), ("held out", row.held_out)) if count]
    return ", " + ", ".join(found) if found else ", all kept"


def _band(left: float, right: float, top: float, left_below: float, right_below: float, bottom: float) -> str:
    points = f"{left:.2f},{top} {right:.2f},{top} {right_below:.2f},{bottom} {left_below:.2f},{bottom}"
    return f'<polygon points="{points}" style="fill: var(--series-0); opacity: .18"/>'


def workflow(done: Mapping[str, str]) -> str:
    """The stages as boxes, in two columns: the data half and the training half. done: by stage, its time, or nothing.

    Arrows go from each stage to the one that reads it next.
    """
    halves = (DATA_STAGES, ("train", "evaluate", "embed", "cards", "report"))
    width, height, gap, parts = 168, 27, 13, []
    places = {}
    for column, stages in enumerate(halves):
        for number, stage in enumerate(stages):
            places[stage] = (10 + column * (WIDTH - 2 * 10 - width), 24 + number * (height + gap))
    parts.append(_text(10, 14, "data"))
    parts.append(_text(places["train"][0], 14, "model"))
    for stage, (x, y) in places.items():
        shown = stage + (f"  {done[stage]}" if done.get(stage) else "")
        parts.append(
            f'<g><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" style="fill: var(--card); '
            f'stroke: var(--series-0)"/>{_text(x + 9, y + 18, shown)}{hover(shown)}</g>'
        )
    for stages in (DATA_STAGES, ("train", "evaluate")):
        for first, second in itertools.pairwise(stages):
            x, y = places[first][0] + width / 2, places[first][1] + height
            parts.append(_arrow([(x, y), (x, places[second][1])]))
    shard, train = places["shard"], places["train"]
    middle = (shard[0] + width + train[0]) / 2
    parts.append(_arrow([(shard[0] + width, shard[1] + height / 2), (middle, shard[1] + height / 2),
                         (middle, train[1] + height / 2), (train[0], train[1] + height / 2)]))  # fmt: skip
    for stage in ("embed", "cards", "report"):
        y, side = places[stage][1] + height / 2, train[0] + width + (4 if stage == "embed" else 8)
        start = places["train"] if stage == "embed" else places["evaluate"]
        parts.append(_arrow([(start[0] + width, start[1] + height / 2), (side, start[1] + height / 2), (side, y),
                             (places[stage][0] + width, y)]))  # fmt: skip
    total = 24 + len(DATA_STAGES) * (height + gap)
    return labelled(_svg(total, parts), "Diagram: the stages of the workflow, and which reads what")


def _arrow(points: Sequence[tuple[float, float]]) -> str:
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    head = [(x1, y1), (x1 - 5 * dx + 3 * dy, y1 - 5 * dy + 3 * dx), (x1 - 5 * dx - 3 * dy, y1 - 5 * dy - 3 * dx)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    tip = " ".join(f"{x:.1f},{y:.1f}" for x, y in head)
    return (
        f'<polyline points="{line}" style="fill: none; stroke: var(--ink); stroke-width: .9"/>'
        f'<polygon points="{tip}" style="fill: var(--ink)"/>'
    )


def _text(x: float, y: float, text: str) -> str:
    return (
        f'<text x="{x}" y="{y}" style="font: 10.5px system-ui, sans-serif; fill: var(--ink)">{html.escape(text)}</text>'
    )


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}">{"".join(parts)}</svg>'
