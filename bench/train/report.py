"""What is printed: a table for people, one JSON object for programs.

Every ratio is ours / peer: above 1 is better for tokens per second, below 1 for memory and for the start.
"""
import math
from dataclasses import dataclass, field
from typing import Any

import figures
from rows import Row, Sizes
from sides import Run

PEERS = ("peer", "peer_tuned")
SHORT = "_short"  # added to a program's name: its runs with short rows, in the row `long`
RATIO_NAMES = {"tokens_per_s": "tokens_per_s_ratio", "start_s": "start_ratio"}


@dataclass
class Outcome:
    """All runs of one row, by program, in the order of the rounds."""

    row: Row
    sizes: Sizes
    runs: dict[str, list[Run]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def figure(self, program: str) -> figures.Figure | None:
        runs = self.runs.get(program)
        if not runs or program in self.failures:
            return None
        return figures.figure(runs, self.row.measure, self.sizes.warm_up)

    def notes(self) -> list[str]:
        """What a reader must know besides the figures."""
        notes = [f"{program} failed: {text}" for program, text in self.failures.items()]
        for program, runs in self.runs.items():
            notes += [f"{program}: {note}" for note in dict.fromkeys(note for run in runs for note in run.notes)]
            made = self.figure(program)
            if made and made.is_noisy:
                notes.append(f"{program}: other programs were busy during its steps; not a measurement")
        return notes + [note for peer in PEERS for note in self.disagreements(peer)]

    def disagreements(self, peer: str) -> list[str]:
        """Signs that the two programs did not do the same work."""
        if not self.runs.get("ours") or not self.runs.get(peer):
            return []
        ours, other = self.runs["ours"][0].steps, self.runs[peer][0].steps
        found = []
        difference = abs(ours[0].loss - other[0].loss) / abs(other[0].loss)
        if not difference <= self.row.loss_bound:
            found.append(f"first losses {ours[0].loss:.5f} and {other[0].loss:.5f} ({peer}): not the same work")
        if [step.n_tokens for step in ours] != [step.n_tokens for step in other]:
            found.append(f"the steps' token counts differ from {peer}'s: not the same work")
        return found


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The figures of one row by name; those that could not be measured are null."""
    unit = "start_s" if outcome.row.measure == "start" else "tokens_per_s"
    ours = outcome.figure("ours")
    made: dict[str, Any] = {
        unit: value_of(ours),
        "peak_memory_mb": memory_of(ours),
        "first_loss": first_loss(outcome, "ours"),
    }
    for peer in PEERS:
        if peer in outcome.runs or peer in outcome.failures:
            made |= against(outcome, peer, unit)
    if outcome.row.measure == "long":
        for program in ("ours", *PEERS):
            made |= growth(outcome, program)
    made["is_noisy"] = any(made and made.is_noisy for made in map(outcome.figure, outcome.runs))
    made["is_as_asked"] = all(run.is_as_asked for runs in outcome.runs.values() for run in runs)
    made["notes"] = outcome.notes()
    return made


def against(outcome: Outcome, peer: str, unit: str) -> dict[str, Any]:
    """Ours against one peer; the names of the tuned one's figures say so."""
    ending = peer.removeprefix("peer")
    ours, other = outcome.figure("ours"), outcome.figure(peer)
    difference = None
    if ours and other:
        row, runs = outcome.row, outcome.runs
        difference = rounded(figures.spread(runs["ours"], runs[peer], row.measure, outcome.sizes.warm_up))
    return {
        f"{peer}_{unit}": value_of(other),
        f"{RATIO_NAMES[unit]}{ending}": ratio(value_of(ours), value_of(other)),
        f"{peer}_peak_memory_mb": memory_of(other),
        f"peak_memory_ratio{ending}": ratio(memory_of(ours), memory_of(other)),
        f"{peer}_first_loss": first_loss(outcome, peer),
        f"spread{ending}": difference,
    }


def growth(outcome: Outcome, program: str) -> dict[str, Any]:
    """One program's long rows against its short ones."""
    if program not in outcome.runs:
        return {}
    long, short = outcome.figure(program), outcome.figure(program + SHORT)
    start = "" if program == "ours" else f"{program}_"
    return {
        f"{start}short_tokens_per_s": value_of(short),
        f"{start}tokens_per_s_share": ratio(value_of(long), value_of(short)),
        f"{start}short_peak_memory_mb": memory_of(short),
        f"{start}memory_growth": ratio(memory_of(long), memory_of(short)),
    }


def value_of(made: figures.Figure | None) -> float | None:
    return rounded(made.value) if made else None


def memory_of(made: figures.Figure | None) -> float | None:
    return round(made.peak_mb, 1) if made else None


def first_loss(outcome: Outcome, program: str) -> float | None:
    runs = outcome.runs.get(program)
    loss = runs[0].steps[0].loss if runs else None
    # JSON knows no NaN, which is what torch gives for a batch without a label
    return loss if loss is not None and math.isfinite(loss) else None


def ratio(ours: float | None, other: float | None) -> float | None:
    return rounded(ours / other) if ours is not None and other else None


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def table(outcomes: list[Outcome]) -> str:
    """A line for each row and peer."""
    lines = [["row", "against", "ours", "peer", "ratio", "spread", "ours MiB", "peer MiB", "ratio", "steps"]]
    for outcome in outcomes:
        made = as_json(outcome)
        lines += [peer_line(outcome, made, peer) for peer in PEERS if f"{peer}_peak_memory_mb" in made]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines)


def peer_line(outcome: Outcome, made: dict[str, Any], peer: str) -> list[str]:
    ending = peer.removeprefix("peer")
    unit, sign = ("start_s", "s") if outcome.row.measure == "start" else ("tokens_per_s", "tok/s")
    counted = [f"{one.n_counted}/{one.n_measured}" if one else "-" for one in map(outcome.figure, ("ours", peer))]
    return [
        outcome.row.name,
        "tuned malloc" if ending else "as installed",
        f"{shown(made[unit])} {sign}",
        f"{shown(made[f'{peer}_{unit}'])} {sign}",
        shown(made[f"{RATIO_NAMES[unit]}{ending}"]),
        shown(made[f"spread{ending}"]),
        shown(made["peak_memory_mb"]),
        shown(made[f"{peer}_peak_memory_mb"]),
        shown(made[f"peak_memory_ratio{ending}"]),
        " ".join(counted),
    ]


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def details(outcome: Outcome) -> str:
    """Title, long rows against short ones, and notes of one row."""
    lines = [f"{outcome.row.name}: {outcome.row.title}"]
    for program in ("ours", *PEERS) if outcome.row.measure == "long" else ():
        made = {name.removeprefix(f"{program}_"): value for name, value in growth(outcome, program).items()}
        if made:
            share, memory = shown(made["tokens_per_s_share"]), shown(made["memory_growth"])
            short = f"{shown(made['short_tokens_per_s'])} tok/s, {shown(made['short_peak_memory_mb'])} MiB"
            lines.append(f"  {program}: {share} of its speed and {memory} of its memory with short rows ({short})")
    return "\n".join(lines + [f"  {note}" for note in outcome.notes()])
