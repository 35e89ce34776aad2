#!/usr/bin/env python3
"""Compare loss curves: ours and the peer's, in float32 and in bfloat16, from the same adapters on the same batches.

Two questions, the peer's float32 curve being the reference of both:

1. Is float32 the same training? Relative differences of ours in float32, over the first 8 steps (later ones drift
   apart, as rounding differences grow while weights move). At most --bound.
2. Is bfloat16 as good as the peer's? With d(i) = |loss(i) - reference(i)|: the mean of d over all steps, and the
   largest mean of d over --window steps in a row. Ours is within the peer's spread when both are at most those of the peer's
   autocast curve, times --slack.

Exit code 1 when the answer to either is no, or when ours did not compute in bfloat16 although it was asked to.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import options
import rows
from rows import Sizes
from sides import Side

N_FIRST = 8
CURVES = ("ours_f32", "ours_bf16", "peer_f32", "peer_amp")
Curve = list[float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_to(parser)
    add = parser.add_argument
    add("--steps", type=int, default=100)
    add("--batch", type=int, default=4, help="rows a step [4]")
    add("--seq", type=int, default=512, help="tokens a row [512]")
    add("--bound", type=float, default=1e-3, help="largest relative difference in float32 [0.001]")
    add("--window", type=int, default=10, help="steps of the running mean [10]")
    add("--slack", type=float, default=1.0, help="how much of the peer's spread is allowed [1]")
    add("--keep", type=Path, help="file for the curves; the peer's are taken from it if it is there")
    args = parser.parse_args()
    options.check(args)
    if min(args.steps, args.batch, args.seq, args.window) < 1:
        parser.error("steps, batch, seq and window must be at least 1")
    return args


def make_adapter(python: Path, folder: Path) -> Path:
    """The start of both programs' adapters."""
    script = Path(__file__).resolve().parent.parent / "gsm8k" / "hash_adapter.py"
    subprocess.run([str(python), str(script), "--out", str(folder)], check=True)
    return folder


def kept_peer_curves(args: argparse.Namespace) -> dict[str, Curve]:
    """Curves of an earlier comparison of the same size; only the peer's, as ours may have changed."""
    if not args.keep or not args.keep.exists():
        return {}
    kept = json.loads(args.keep.read_text(encoding="utf-8"))
    if kept["batches"] != [args.steps, args.batch, args.seq]:
        return {}
    return {name: curve for name, curve in kept["curves"].items() if name.startswith("peer")}


def take_curves(args: argparse.Namespace, work: Path) -> tuple[dict[str, Curve], bool]:
    """The four curves, and whether all were computed in the number formats asked for."""
    work.mkdir(parents=True, exist_ok=True)
    bench = options.Bench.from_args(args, work, make_adapter(args.peer_python, work / "adapter"))
    sizes = Sizes(args.batch, args.seq, args.steps)
    curves, is_as_asked = kept_peer_curves(args), True
    for name in CURVES:
        if name in curves:
            continue
        program, _, number_format = name.partition("_")
        side: Side = bench.ours if program == "ours" else bench.peer
        row = rows.BY_NAME["lora_f32" if number_format == "f32" else "lora_bf16"]
        run = side.run(row, sizes, bench.data_for(row, sizes))
        curves[name] = [step.loss for step in run.steps]
        is_as_asked = is_as_asked and run.is_as_asked
        for note in run.notes:
            print(f"{name}: {note}")
        if args.keep:
            kept = {"batches": [args.steps, args.batch, args.seq], "curves": curves}
            args.keep.write_text(json.dumps(kept), encoding="utf-8")
    return curves, is_as_asked


def distances(curve: Curve, reference: Curve) -> list[float]:
    return [abs(loss - wanted) for loss, wanted in zip(curve, reference, strict=True)]


def spread(curve: Curve, reference: Curve, window: int) -> dict[str, float]:
    """The two measures of question 2, and the mean of the differences with their sign, for information."""
    apart = distances(curve, reference)
    n_windows = max(1, len(apart) - window + 1)
    return {
        "mean": statistics.fmean(apart),
        "worst_window": max(statistics.fmean(apart[i : i + window]) for i in range(n_windows)),
        "bias": statistics.fmean(loss - wanted for loss, wanted in zip(curve, reference)),
    }


def compare(curves: dict[str, Curve], args: argparse.Namespace) -> dict[str, object]:
    reference = curves["peer_f32"]
    apart = distances(curves["ours_f32"], reference)[:N_FIRST]
    relative = [distance / abs(wanted) for distance, wanted in zip(apart, reference)]
    ours = spread(curves["ours_bf16"], reference, args.window)
    peer = spread(curves["peer_amp"], reference, args.window)
    return {
        "f32_max_relative_difference": max(relative),
        "f32_mean_relative_difference": statistics.fmean(relative),
        "f32_agrees": max(relative) <= args.bound,
        "ours_bf16": ours,
        "ours_f32": spread(curves["ours_f32"], reference, args.window),
        "ours_bf16_against_ours_f32": spread(curves["ours_bf16"], curves["ours_f32"], args.window),
        "peer_amp": peer,
        "bf16_is_within_spread": all(ours[name] <= args.slack * peer[name] for name in ("mean", "worst_window")),
    }


def print_curves(curves: dict[str, Curve]) -> None:
    print(f"{'step':>5}" + "".join(f"{name:>12}" for name in CURVES))
    for i in range(len(curves["peer_f32"])):
        print(f"{i + 1:>5}" + "".join(f"{curves[name][i]:>12.6f}" for name in CURVES))


def print_answers(made: dict[str, object], args: argparse.Namespace) -> None:
    print(f"\nfloat32, first {N_FIRST} steps, ours against the peer: largest relative difference")
    print(f"  {made['f32_max_relative_difference']:.2e}, mean {made['f32_mean_relative_difference']:.2e}", end="")
    print(f" (bound {args.bound:.0e}): {'agrees' if made['f32_agrees'] else 'DOES NOT AGREE'}")
    window = f"worst {args.window} steps"
    print(f"\n{'distance from the float32 curve':<34}{'mean':>10}{window:>16}{'bias':>11}")
    labels = {
        "peer_amp": "peer, autocast",
        "ours_bf16": "ours, bfloat16",
        "ours_f32": "ours, float32",
        "ours_bf16_against_ours_f32": "ours, bfloat16, from ours, float32",
    }
    for name, label in labels.items():
        one = made[name]
        assert isinstance(one, dict)
        print(f"{label:<34}{one['mean']:>10.2e}{one['worst_window']:>16.2e}{one['bias']:>+11.2e}")
    answers = {True: "within", False: "NOT within", None: "not computed as asked, so it is not compared with"}
    is_within = made["bf16_is_within_spread"]
    assert is_within is None or isinstance(is_within, bool)
    print(f"ours in bfloat16 is {answers[is_within]} the peer's spread")


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="tunesmith-curves-") as folder:
        curves, is_as_asked = take_curves(args, args.work or Path(folder))
    print_curves(curves)
    made = compare(curves, args)
    if not is_as_asked:
        # A curve of another format says nothing about this one.
        made["bf16_is_within_spread"] = None
    print_answers(made, args)
    if args.json:
        print(json.dumps({**made, "curves": curves}))
    sys.exit(0 if made["f32_agrees"] and made["bf16_is_within_spread"] else 1)


if __name__ == "__main__":
    main()
