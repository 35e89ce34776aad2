#!/usr/bin/env python3
"""Compare the first losses of a run's events.jsonl with a PyTorch loop's, step by step.

  compare.py --run RUN_DIR --reference train_gsm8k_lora.json --batch 4 --seq 512
"""
import argparse
import json
import os
import sys


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True)
    p.add_argument("--reference", required=True)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--seq", type=int, default=512)
    p.add_argument("--bound", type=float, default=1e-3, help="largest relative difference allowed")
    a = p.parse_args()
    with open(a.reference) as f:
        want = next(r["loss"] for r in json.load(f)["runs"] if (r["batch"], r["seq"]) == (a.batch, a.seq))
    with open(os.path.join(a.run, "events.jsonl")) as f:
        steps = [e for e in map(json.loads, f) if e["event"] == "step"]
    got = [e["loss"] for e in steps[:len(want)]]
    worst = 0.0
    for i, (x, y) in enumerate(zip(got, want, strict=True), 1):
        worst = max(worst, abs(x - y) / abs(y))
        print(f"step {i}: {x:.7f}  PyTorch {y:.7f}  relative difference {abs(x - y) / abs(y):.1e}")
    print(f"worst relative difference {worst:.1e} (bound {a.bound:.0e})")
    sys.exit(worst > a.bound)


if __name__ == "__main__":
    main()
