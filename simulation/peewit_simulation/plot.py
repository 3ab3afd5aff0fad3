"""A picture of a run: for every node, how long it has been behind, over time, with what went wrong."""

from __future__ import annotations

from pathlib import Path

from peewit_federation.errors import OperatorError
from peewit_simulation.scenario import Outcome


def draw_staleness(outcome: Outcome, path: Path) -> None:
    """Write the picture; its ending says in which format. Raises `OperatorError` without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise OperatorError("--plot needs matplotlib: pip install 'peewit[plot]'") from None
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "peewit"
    from matplotlib import pyplot as plt

    names = sorted(outcome.samples[0].age_s) if outcome.samples else []
    rows = [[sample.age_s[name] for sample in outcome.samples] for name in names]
    rows.append([sample.client_age_s or 0.0 for sample in outcome.samples])
    end_s = outcome.samples[-1].time_s if outcome.samples else 1.0
    figure, axes = plt.subplots(figsize=(11, 1.6 + 0.28 * len(rows)), layout="constrained")
    most = max(30.0, *(max(row, default=0.0) for row in rows))
    image = axes.imshow(
        rows, aspect="auto", interpolation="nearest", cmap="YlOrRd", vmin=0, vmax=most,
        extent=(0, end_s, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [*names, "client's view"])
    axes.axhline(len(rows) - 1.5, color="black", linewidth=0.8)
    axes.set_xlabel("simulated seconds")
    for at_s, what in outcome.events:
        if what.startswith(("faults", "partition", "heal", "crash", "BROKEN", "a thief", "all nodes")):
            axes.axvline(at_s, color="tab:blue", linewidth=0.8, linestyle="dotted")
            axes.text(
                at_s,
                -0.6,
                what.partition(":")[0].partition(",")[0][:28],
                rotation=35,
                fontsize=7,
                ha="left",
                va="bottom",
            )
    axes.set_title("how long each node has lacked something that another has", pad=60)
    figure.colorbar(image, ax=axes, label="seconds behind")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
