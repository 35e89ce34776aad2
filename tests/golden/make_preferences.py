#!/usr/bin/env python3
"""Write preference losses with their derivatives, and the gradients of tiny models under them.

Run after make_lora.py: python tests/golden/make_preferences.py   (needs torch, transformers and peft)
"""
import os

import peft
import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import AutoModelForCausalLM

import common
from common import HERE

BETA, GAMMA = 0.2, 0.7
KTO_WEIGHTS = (1.0, 1.33)
REFERENCE = ("Dpo", "Hinge", "Ipo", "KtoPair")
SUMMED = ("Dpo", "KtoPair", "Cpo")
LOSSES = ("Dpo", "Hinge", "Ipo", "KtoPair", "Cpo", "SimPo", "Orpo")


def log_odds(x):
    return x - torch.log1p(-torch.exp(x))


def loss_of(name, pc, pr, rc, rr):
    """Policy and reference log-probabilities of the chosen and rejected answers, [B] each."""
    z = (pc - pr) - (rc - rr)
    if name == "KtoPair":
        chosen, rejected = pc - rc, pr - rr
        kl_c, kl_r = chosen.mean().clamp(min=0), rejected.mean().clamp(min=0)
        return torch.cat([1 - F.sigmoid(BETA * (chosen - kl_r)), 1 - F.sigmoid(BETA * (kl_c - rejected))]).mean()
    return {"Dpo": lambda: -F.logsigmoid(BETA * z),
            "Hinge": lambda: torch.relu(1 - BETA * z),
            "Ipo": lambda: (z - 1 / (2 * BETA)) ** 2,
            "Cpo": lambda: -F.logsigmoid(BETA * (pc - pr)),
            "SimPo": lambda: -F.logsigmoid(BETA * ((pc - pr) - GAMMA / BETA)),
            "Orpo": lambda: -pc - BETA * F.logsigmoid(log_odds(pc) - log_odds(pr))}[name]().mean()


def kto(policy, reference, desirable, kl_policy, kl_reference, weights):
    kl = (kl_policy - kl_reference).mean().detach().clamp(min=0)
    ratio = policy - reference
    good, bad = 1 - F.sigmoid(BETA * (ratio - kl)), 1 - F.sigmoid(BETA * (kl - ratio))
    return torch.where(desirable, weights[0] * good, weights[1] * bad).mean(), kl


def functions():
    """The losses of random numbers; the second batch has divergences below 0, the third starts at its reference."""
    gen = torch.Generator().manual_seed(5)

    def draw(n, shift):
        return (-3 + shift + torch.randn(n, generator=gen, dtype=torch.float64)).clamp(max=-0.05)

    out = []
    for n, shift, same in ((5, 1.0, False), (4, -1.0, False), (3, 0.0, True)):
        rc, rr = draw(n, 0.0), draw(n, 0.0)
        pc, pr = (rc.clone(), rr.clone()) if same else (draw(n, shift), draw(n, shift))
        pc.requires_grad_(), pr.requires_grad_()
        losses = {}
        for name in LOSSES:
            loss = loss_of(name, pc, pr, rc, rr)
            dc, dr = torch.autograd.grad(loss, (pc, pr))
            losses[name] = {"loss": loss.item(), "d_chosen": dc.tolist(), "d_rejected": dr.tolist()}
        desirable = torch.arange(n) % 3 != 1
        loss, kl = kto(pc, rc, desirable, pr.detach(), rr, KTO_WEIGHTS)
        losses["Kto"] = {"loss": loss.item(), "derivative": torch.autograd.grad(loss, pc)[0].tolist(),
                         "divergence": kl.item(), "is_desirable": desirable.tolist(), "weights": KTO_WEIGHTS}
        out.append({"policy_chosen": pc.tolist(), "policy_rejected": pr.tolist(), "reference_chosen": rc.tolist(),
                    "reference_rejected": rr.tolist(), "losses": losses})
    return out


def pairs():
    """Two pairs from the common sequences: chosen and rejected share their beginning."""
    seqs = common.sequences()
    out = []
    for s, n_shared, n_rejected in ((seqs[1], 8, 4), (seqs[2], 20, 9)):
        ids = s["ids"]
        rejected = ids[:n_shared] + [(7 * t + 5) % common.VOCAB for t in ids[n_shared:n_shared + n_rejected]]
        for answer in (ids, rejected):
            out.append({"ids": answer, "labels": [-100 if i < n_shared else t for i, t in enumerate(answer)]})
    return out


def log_probabilities(model, seqs, name):
    found = []
    for lg, s in zip(common.logits_of(model, seqs), seqs):
        labels = torch.tensor(s["labels"][1:])
        ce = F.cross_entropy(lg[:-1], labels, ignore_index=-100, reduction="sum")
        found.append(-ce if name in SUMMED else -ce / (labels != -100).sum())
    return torch.stack(found)


def key(name):
    return name.removeprefix("base_model.model.").replace(".default.", ".")


def models(seqs):
    """Every loss over the whole model and over its adapter; the reference is the model without the adapter, or for the
    whole model, which has none, what its own numbers would be after a change."""
    out = []
    for lora in (False, True):
        model = AutoModelForCausalLM.from_pretrained("llama-mha", dtype=torch.float32, attn_implementation="eager")
        with torch.no_grad():
            base = {name: log_probabilities(model, seqs, name) for name in LOSSES}
        change = torch.tensor([0.3, -0.2, -0.1, 0.4])
        if lora:
            model = PeftModel.from_pretrained(model, "llama-mha-lora", is_trainable=True)
        model.eval()
        for name in (*LOSSES, "Kto"):
            model.zero_grad(set_to_none=True)
            pi = log_probabilities(model, seqs, "Dpo" if name == "Kto" else name)
            if name == "Kto":
                # The first of each two answers is judged, the second stands for one to another prompt.
                rho = base["Dpo"] - (0 if lora else change)
                loss, _ = kto(pi[0::2], rho[0::2], torch.tensor([True, False]), pi[1::2].detach(), rho[1::2], KTO_WEIGHTS)
            else:
                rho = base[name] + (0 if lora else change)
                loss = loss_of(name, pi[0::2], pi[1::2], rho[0::2], rho[1::2])
            loss.backward()
            grads = {key(n): common.digest(p.grad) for n, p in common.trainable(model).items()}
            out.append({"model": "llama-mha" + ("-lora" if lora else ""), "loss_function": name, "loss": loss.item(),
                        "policy": pi.tolist(), "reference": rho.tolist(), "gradients": grads})
            print(out[-1]["model"], name, loss.item())
    return out


def main():
    os.chdir(HERE)
    seqs = pairs()
    common.write_json(HERE / "preferences.json",
                      {"versions": common.versions(peft=peft.__version__), "beta": BETA, "gamma": GAMMA, "kto_weights": KTO_WEIGHTS,
                       "functions": functions(), "sequences": seqs, "models": models(seqs)})


if __name__ == "__main__":
    main()
