"""From runs to figures: which steps count, and what is made of them.

The first steps of a run are left out (caches and allocators warm up). Of the rest, steps during which other programs
kept QUIET_CORES or more busy are left out as long as enough others remain: MIN_QUIET of them, or one for a time that is
taken once a run. When they do not, all count and the figure is marked as noisy.
"""
import statistics
from dataclasses import dataclass
from typing import Callable, Sequence

from rows import Measure
from sides import Run, Step

QUIET_CORES = 0.1
MIN_QUIET = 3


@dataclass(frozen=True)
class Figure:
    """`value` is in tokens per second, or in seconds for the row `start`; `peak_mb` in MiB."""

    value: float
    peak_mb: float
    n_counted: int
    n_measured: int
    is_noisy: bool


@dataclass(frozen=True)
class Counted:
    """A value, the `others` of what it was made from, and how much there was to choose from."""

    value: float
    others: list[float]
    n_measured: int


def figure(runs: Sequence[Run], measure: Measure, warm_up: int) -> Figure:
    """One figure of all runs of one program: times by `measure`, the largest of the memory peaks."""
    counted = MEASURES[measure](runs, warm_up)
    is_noisy = any(others >= QUIET_CORES for others in counted.others)
    peak_mb = max(run.peak_mb for run in runs)
    return Figure(counted.value, peak_mb, len(counted.others), counted.n_measured, is_noisy)


def speed(runs: Sequence[Run], warm_up: int) -> Counted:
    """Median of the steps' tokens per second."""
    steps = [step for run in runs for step in run.steps[warm_up:]]
    quiet = [step for step in steps if step.others < QUIET_CORES]
    chosen = quiet if len(quiet) >= MIN_QUIET else steps
    value = statistics.median(step.n_tokens / step.secs for step in chosen)
    return Counted(value, [step.others for step in chosen], len(steps))


def real(runs: Sequence[Run], warm_up: int) -> Counted:
    """Tokens per second over the job, whose steps differ in size: each step's time is its median over the rounds."""
    n_tokens, secs, chosen, n_measured = 0, 0.0, list[Step](), 0
    for same_step in zip(*(run.steps[warm_up:] for run in runs), strict=True):
        quiet = [step for step in same_step if step.others < QUIET_CORES] or list(same_step)
        n_tokens += same_step[0].n_tokens
        secs += statistics.median(step.secs for step in quiet)
        chosen += quiet
        n_measured += len(same_step)
    return Counted(n_tokens / secs, [step.others for step in chosen], n_measured)


def start(runs: Sequence[Run], _warm_up: int) -> Counted:
    """Median of the seconds from process start to the end of the first step."""
    chosen = [run for run in runs if run.start_others < QUIET_CORES] or list(runs)
    value = statistics.median(run.start_secs for run in chosen)
    return Counted(value, [run.start_others for run in chosen], len(runs))


MEASURES: dict[Measure, Callable[[Sequence[Run], int], Counted]] = {
    "speed": speed,
    "long": speed,
    "real": real,
    "start": start,
}


def spread(ours: Sequence[Run], peer: Sequence[Run], measure: Measure, warm_up: int) -> float | None:
    """How far the ratio ours / peer differs between rounds: (largest - smallest) / median. None for one round."""
    ratios = [
        figure([mine], measure, warm_up).value / figure([other], measure, warm_up).value
        for mine, other in zip(ours, peer)
    ]
    if len(ratios) < 2:
        return None
    return (max(ratios) - min(ratios)) / statistics.median(ratios)
