#!/usr/bin/env python3
"""Compare the training of Tunesmith with that of a PyTorch loop, on the same batches of the same model.

Each row of the table is measured in rounds; in each round the programs run in turn, each as a process of its own.
Needs nothing but Python itself; the peer runs in an environment of its own (--peer-python).
"""
import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import machine
import options
import process
import report
import rows
from rows import Row, Sizes
from sides import Side


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_to(parser)
    add = parser.add_argument
    add("--rows", default="", help=f"names separated by commas, of {', '.join(rows.BY_NAME)} [default: all]")
    add("--rounds", type=int, default=3)
    add("--steps", type=int, default=8, help="steps of a run, the first two of which are not counted [8]")
    add("--batch", type=int, default=4, help="rows a step [4]")
    add("--seq", type=int, default=512, help="tokens a row [512]")
    add("--long-seq", type=int, default=4096, help="tokens a row, and a step, in the row `long` [4096]")
    add("--peer-preload", type=Path, help="library for LD_PRELOAD, e.g. tcmalloc: measure such a peer as well")
    args = parser.parse_args()
    options.check(args)
    if args.peer_preload and not args.peer_preload.exists():
        parser.error(f"--peer-preload: there is no {args.peer_preload}")
    if min(args.rounds, args.steps, args.batch, args.seq) < 1 or args.long_seq < args.seq:
        parser.error("rounds, steps, batch and seq must be at least 1, long-seq at least seq")
    return args


@dataclasses.dataclass(frozen=True)
class Case:
    """One program with one size of batches, under the name it has in the results."""

    name: str
    side: Side
    sizes: Sizes


def sizes_of(row: Row, args: argparse.Namespace) -> dict[str, Sizes]:
    """The batches of a row, by the ending they give to the programs' names."""
    if row.measure == "start":
        return {"": Sizes(args.batch, args.seq, 1)}
    if row.measure == "real":
        return {"": Sizes(args.batch, args.seq, args.steps, "pad")}
    if row.measure == "long":
        # Its steps take long, and the two sizes make it two rows in one.
        n_steps = max(args.steps // 2 + 1, min(args.steps, 3))
        short = Sizes(args.long_seq // args.seq, args.seq, n_steps)
        return {report.SHORT: short, "": Sizes(1, args.long_seq, n_steps)}
    return {"": Sizes(args.batch, args.seq, args.steps)}


def cases_of(row: Row, args: argparse.Namespace, bench: options.Bench) -> list[Case]:
    sides: dict[str, Side] = {"ours": bench.ours, "peer": bench.peer}
    if args.peer_preload:
        sides["peer_tuned"] = dataclasses.replace(bench.peer, preload=args.peer_preload.absolute())
    sizes = sizes_of(row, args)
    return [Case(name + ending, side, size) for ending, size in sizes.items() for name, side in sides.items()]


def measure(row: Row, args: argparse.Namespace, bench: options.Bench) -> report.Outcome:
    """All rounds of one row. A program that fails is left out of the later rounds."""
    outcome = report.Outcome(row, sizes_of(row, args)[""])
    cases = cases_of(row, args, bench)
    # The start is measured with all files in the page cache: one round more, which only fills it.
    n_unused = 1 if row.measure == "start" else 0
    for round_idx in range(args.rounds + n_unused):
        for case in cases:
            if case.name in outcome.failures:
                continue
            data = bench.data_for(row, case.sizes)
            if not machine.wait_for_quiet(args.settle) and args.settle > 0.0:
                say(f"{row.name}, {case.name}: the machine is not quiet")
            try:
                run = case.side.run(row, case.sizes, data)
            except process.RunFailed as failure:
                outcome.failures[case.name] = str(failure)
                say(f"{row.name}, {case.name} failed: {failure}")
                continue
            others = max(step.others for step in run.steps)
            secs = ", ".join(f"{step.secs:.2f}" for step in run.steps)
            say(f"{row.name}, {case.name}, round {round_idx + 1}: steps {secs} s; others up to {others:.2f} cores")
            if round_idx >= n_unused:
                outcome.runs.setdefault(case.name, []).append(run)
    return outcome


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def print_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        print(f"{name:<22}{value}")
    print()


def compare(args: argparse.Namespace, work: Path) -> int:
    work.mkdir(parents=True, exist_ok=True)
    bench = options.Bench.from_args(args, work)
    facts = machine.facts()
    outcomes = [measure(row, args, bench) for row in rows.chosen(args.rows)]
    sizes = f"{args.batch} x {args.seq} tokens, {args.steps} steps, {args.rounds} rounds"
    facts |= {"threads": str(args.threads), "batches": sizes, **bench.versions}
    print_facts(facts)
    print(report.table(outcomes), end="\n\n")
    for outcome in outcomes:
        print(report.details(outcome))
    if args.json:
        figures = {outcome.row.name: report.as_json(outcome) for outcome in outcomes}
        print(json.dumps({**figures, "machine": facts}))
    # Long rows may be too much for a peer; anything else that fails is a failure of the comparison.
    missing = [outcome for outcome in outcomes if outcome.row.measure != "long" and outcome.failures]
    return 1 if missing or any("ours" in outcome.failures for outcome in outcomes) else 0


def main() -> None:
    args = arguments()
    if args.work:
        sys.exit(compare(args, args.work))
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        sys.exit(compare(args, Path(folder)))


if __name__ == "__main__":
    main()
