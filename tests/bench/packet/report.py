"""From what the guest said to a table: medians and spreads of ratios, each taken within one round."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

from workload import GENERATOR, Case

# By direction: the title, and what there are many of in the traffic.
TABLES = {
    "down": ("A border relay, from the internet to the CEs", "CEs in traffic"),
    "up": ("A border relay, from the CEs to the internet", "CEs in traffic"),
    "out": ("A customer edge, from its LAN to the internet", "flows"),
    "in": ("A customer edge, from the internet to its LAN", "flows"),
}
GOAL = 1.25  # times plain forwarding, the generator included


@dataclass(frozen=True)
class Row:
    """A case with its median cost; ratio: to plain forwarding of the same round, direction and number of CEs.

    own_ratio: the same, less what the generator alone costs.
    """

    label: str
    direction: str
    count: int
    instructions: int
    ratio: float
    lowest: float
    highest: float
    own_ratio: float


def rows(cases: list[Case], measured: list[dict]) -> list[Row]:
    """measured: {"round", "case", "instructions"} of every round and case."""
    cost = {(entry["round"], entry["case"]): entry["instructions"] for entry in measured}
    rounds = sorted({number for number, _case in cost})
    plain = {(case.direction, case.count): case.name for case in cases if case.router == "plain" and case != GENERATOR}
    made = []
    for case in cases:
        if case == GENERATOR:
            continue
        reference = plain[case.way, case.count]
        ratios = [cost[number, case.name] / cost[number, reference] for number in rounds]
        alone = [cost[number, GENERATOR.name] for number in rounds]
        own = [(cost[number, case.name] - base) / (cost[number, reference] - base) for number, base in zip(rounds, alone)]
        made.append(Row(
            case.label, case.direction, case.count, round(median(cost[number, case.name] for number in rounds)),
            median(ratios), min(ratios), max(ratios), median(own),
        ))
    return sorted(made, key=lambda row: (row.direction, row.label != "plain forwarding", row.label, row.count))


def loads(measured: list[dict]) -> tuple[float, float, float, float]:
    """Median seconds of the guest's clock to load the large rule; ratio to the small one: median, lowest, highest."""
    seconds = {(entry["round"], entry["load"]): entry["seconds"] for entry in measured}
    rounds = sorted({number for number, _load in seconds})
    ratios = [seconds[number, "load25"] / seconds[number, "load8"] for number in rounds]
    return median(seconds[number, "load25"] for number in rounds), median(ratios), min(ratios), max(ratios)


def missed(table: list[Row]) -> list[Row]:
    """The rows of the fast path that miss the goal."""
    return [row for row in table if "fast path" in row.label and row.ratio > GOAL]


def markdown(table: list[Row], generator: int, loading: tuple[float, float, float, float]) -> str:
    lines = []
    for direction, (title, traffic) in TABLES.items():
        lines += [f"{title}:", "", f"| | {traffic} | instructions | x plain (spread) | without the generator |", "|---|--:|--:|--:|--:|"]
        lines += [
            f"| {row.label} | {row.count:,} | {row.instructions:,} | {row.ratio:.2f} ({row.lowest:.2f}-{row.highest:.2f}) | {row.own_ratio:.2f} |"
            for row in table if row.direction == direction
        ]
        lines.append("")
    seconds, ratio, lowest, highest = loading
    lines.append(f"The generator alone: {generator:,} instructions. Loading a rule of 25 EA bits (33,554,432 possible CEs): {seconds:.2f} s "
                 f"of the guest's clock, {ratio:.2f} ({lowest:.2f}-{highest:.2f}) times a rule of 8.")
    return "\n".join(lines)


def as_json(table: list[Row], generator: int, loading: tuple[float, float, float, float]) -> dict:
    names = ("seconds", "ratio", "lowest", "highest")
    return {"rows": [asdict(row) for row in table], "generator": generator, "load": dict(zip(names, loading))}
