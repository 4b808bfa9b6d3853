"""Tables (Markdown) and plots (SVG) from the numbers of a run."""

from __future__ import annotations

import statistics

import matplotlib
from designs import MASQUERADE, PLAIN

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "softwire.map", "svg.fonttype": "none", "font.size": 9,
                            "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402

COUNTS = ("first_failure", "first_try", "with_retries", "tries_for_all", "churn_70", "churn_90", "churn_96", "endpoint_ports", "leaked")
RATES = ("new_flows", "packets_out", "packets_in", "tcp", "tcp_merged")
TIMES = ("load_ms", "reload_ms")
WHOLE = ("tries_for_all", *TIMES)
TITLES = {
    "first_failure": "first failure at", "first_try": "served at first try", "with_retries": "with retries",
    "tries_for_all": "tries until all are",
    "churn_70": "70 % full", "churn_90": "90 % full", "churn_96": "96 % full",
    "endpoint_ports": "public ports of a socket", "leaked": "left untranslated", "new_flows": "new flows", "packets_out": "packets out",
    "packets_in": "packets in", "tcp": "TCP", "tcp_merged": "TCP, merged", "load_ms": "load, ms", "reload_ms": "reload, ms",
}
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860")


def middle(values):
    """Median; None where a design cannot do it in most of the rounds."""
    able = [value for value in values if value is not None]
    return statistics.median(able) if 2 * len(able) > len(values) else None


def text(key, values):
    """Median and the spread, which is left out where there is none."""
    value = middle(values)
    if value is None:
        return "cannot"
    able = [one for one in values if one is not None]
    digits = 0 if key in WHOLE else 2
    low, mid, high = (f"{one:.{digits}f}" for one in (min(able), value, max(able)))
    return mid if low == high else f"{mid} ({low}-{high})"


def fastest(results, name):
    return max(results[MASQUERADE][name + "_absolute"])


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(run):
    """Everything that was measured, a pair of tables for each port set."""
    parts = []
    for count, results in run["results"].items():
        counted = [[name] + [text(key, values[key]) if key in values else "" for key in COUNTS]
                   for name, values in results.items() if "endpoint_ports" in values]
        timed = [[name] + [text(key, values[key]) for key in RATES + TIMES]
                 for name, values in results.items()]
        parts += [f"### {count} ports\n", table(["design"] + [TITLES[key] for key in COUNTS], counted),
                  table(["design"] + [TITLES[key] for key in RATES + TIMES], timed),
                  f"Masquerade at its best: {fastest(results, 'new_flows'):.0f} new flows, {fastest(results, 'packets_out'):.0f} packets "
                  f"out and {fastest(results, 'packets_in'):.0f} in per second, TCP {fastest(results, 'tcp'):.0f} Mbit/s, "
                  f"merged {fastest(results, 'tcp_merged'):.0f} Mbit/s.\n"]
    return "\n".join(parts)


def bars(run, path, keys, label, skip, marks=()):
    """A panel for each port set, a group of bars for each design."""
    figure, panels = pyplot.subplots(1, len(run["results"]), figsize=(10, 3.6), sharey=True, squeeze=False)
    for panel, (count, results) in zip(panels[0], run["results"].items(), strict=True):
        names = [name for name in results if name not in skip]
        for row, key in enumerate(keys):
            height = 0.8 / len(keys)
            for place, name in enumerate(names):
                at = place + (row - (len(keys) - 1) / 2) * height
                values = results[name][key]
                median = middle(values)
                if median is None:
                    panel.text(0, at, " cannot", va="center", fontsize=6)
                    continue
                able = [one for one in values if one is not None]
                panel.barh(at, median, height, color=COLOURS[row], label=TITLES[key] if place == 0 else None,
                           xerr=[[median - min(able)], [max(able) - median]], error_kw={"linewidth": 0.6})
        for mark in marks:
            panel.axvline(mark, color="black", linewidth=0.6, linestyle="--")
        panel.set_yticks(range(len(names)), names)
        panel.set_title(f"{count} ports")
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(keys), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def plots(run, directory):
    others = (MASQUERADE, PLAIN)
    directory.mkdir(parents=True, exist_ok=True)
    bars(run, directory / "napt-utilisation.svg", ("first_try", "with_retries"), "flows to one destination, % of the ports",
         others, (100,))
    bars(run, directory / "napt-churn.svg", ("churn_70", "churn_90", "churn_96"), "new flows that fail at first try, %", others)
    bars(run, directory / "napt-rates.svg", RATES, "times masquerade", (MASQUERADE,), (0.9, 1))
