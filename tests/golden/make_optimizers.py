#!/usr/bin/env python3
"""Write six f32 steps of five torch optimizers on fixed gradients, and learning-rate factors.

Run: python tests/golden/make_optimizers.py   (needs torch)
"""
import math

import torch

import common
from common import HERE

LR, DECAY, STEPS = 0.1, 0.01, 6
RULES = {
    "adamw": (torch.optim.AdamW, dict(betas=(0.9, 0.999), eps=1e-8)),
    "adam": (torch.optim.Adam, dict(betas=(0.9, 0.999), eps=1e-8)),
    "sgd": (torch.optim.SGD, dict(momentum=0.9, nesterov=True)),
    "rmsprop": (torch.optim.RMSprop, dict(alpha=0.9, momentum=0.9, eps=1e-8)),
    "adadelta": (torch.optim.Adadelta, dict(rho=0.9, eps=1e-6)),
}


def optimizers():
    gen = torch.Generator().manual_seed(5)
    start = torch.randn(7, generator=gen)
    grads = torch.randn(STEPS, 7, generator=gen)
    grads[:, 5] = 0.0    # never any gradient: only the weight decay moves it
    grads[:, 6] *= 1e-6  # far below the others
    out = {"params": start.tolist(), "grads": grads.tolist(), "lr": LR, "weight_decay": DECAY, "rules": {}}
    for name, (cls, more) in RULES.items():
        p = torch.nn.Parameter(start.clone())
        opt = cls([p], lr=LR, weight_decay=DECAY, foreach=False, **more)
        after = []
        for g in grads:
            p.grad = g.clone()
            opt.step()
            after.append(p.tolist())
        out["rules"][name] = {"settings": more, "after": after}
    return out


def factor(schedule, step, warmup, total, floor):
    """The part of the full learning rate in force at `step`, counted from 0."""
    if step < warmup:
        return step / max(1, warmup)
    if schedule == "cosine":
        return max(floor, 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))
    if schedule == "linear":
        return max(floor, (total - step) / max(1, total - warmup))
    return 1.0


def schedules():
    out = []
    for schedule in ("cosine", "linear", "constant"):
        for warmup, total, floor in ((0, 10, 0.0), (3, 20, 0.1), (5, 5, 0.0), (8, 4, 0.05), (0, 1, 0.0)):
            out.append({"schedule": schedule, "warmup": warmup, "total": total, "floor": floor,
                        "factors": [factor(schedule, s, warmup, total, floor) for s in range(total + 1)]})
    return out


def main():
    made = {"versions": {"torch": torch.__version__}}
    common.write_json(HERE / "optimizers.json", {**made, **optimizers()})
    common.write_json(HERE / "schedules.json", {"cases": schedules()})


if __name__ == "__main__":
    main()
