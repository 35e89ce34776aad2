#!/usr/bin/env python3
"""Write six f32 steps of five torch optimizers on fixed gradients, learning-rate factors, and which parameters get which
rate and decay from peft and transformers.

Run: python tests/golden/make_optimizers.py   (needs torch, transformers, peft)
"""
import math

import peft
import torch
import transformers
from peft.optimizers import create_loraplus_optimizer

import common
from common import HERE

LR, DECAY, STEPS = 0.1, 0.01, 6
RULES = {
    "adamw": (torch.optim.AdamW, dict(betas=(0.9, 0.999), eps=1e-8)),
    "adam": (torch.optim.Adam, dict(betas=(0.9, 0.999), eps=1e-8)),
    "sgd": (torch.optim.SGD, dict(momentum=0.9, nesterov=True)),
    "rmsprop": (torch.optim.RMSprop, dict(alpha=0.9, momentum=0.9, eps=1e-8)),
    "adadelta": (torch.optim.Adadelta, dict(rho=0.9, eps=1e-6)),
    "adamw_other": (torch.optim.AdamW, dict(betas=(0.8, 0.95), eps=1e-3)),
    "adam_other": (torch.optim.Adam, dict(betas=(0.8, 0.95), eps=1e-3)),
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


def transformers_schedules():
    """Factors of schedules of transformers; their floors are lr_end and min_lr_ratio."""
    cases = [
        ("cosine_with_restarts", 0, 10, {"num_cycles": 1}),
        ("cosine_with_restarts", 3, 20, {"num_cycles": 3}),
        ("cosine_with_restarts", 2, 12, {"num_cycles": 2}),
        ("polynomial", 0, 10, {"power": 1.0, "lr_end": 0.0}),
        ("polynomial", 3, 20, {"power": 2.0, "lr_end": 0.1}),
        ("polynomial", 2, 9, {"power": 0.5, "lr_end": 0.25}),
        ("inverse_sqrt", 0, 10, {}),
        ("inverse_sqrt", 4, 20, {}),
        ("warmup_stable_decay", 0, 10, {"num_decay_steps": 2}),
        ("warmup_stable_decay", 4, 20, {"num_decay_steps": 10, "min_lr_ratio": 0.1}),
        ("warmup_stable_decay", 5, 20, {"num_decay_steps": 15}),
    ]
    out = []
    for name, warmup, total, more in cases:
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        needs_total = name != "inverse_sqrt"
        scheduler = transformers.get_scheduler(
            name, opt, num_warmup_steps=warmup, num_training_steps=total if needs_total else None,
            scheduler_specific_kwargs=more)
        factors = [scheduler.lr_lambdas[0](s) for s in range(total + 1)]
        out.append({"schedule": name, "warmup": warmup, "total": total, "settings": more, "factors": factors})
    return out


LLAMA = dict(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)


def lora_plus():
    """The multiple of the learning rate of every trained parameter, by its name in an adapter file."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=1, **LLAMA))
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], use_dora=True, task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name or "norm" in name:
            parameter.requires_grad_(True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    opt = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1.0, loraplus_lr_ratio=16.0)
    rates = {}
    for group in opt.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)].removeprefix("base_model.model.").replace(".default", "")
            rates[name] = {"rate": group["lr"], "shape": list(parameter.shape)}
    return {"ratio": 16.0, "parameters": dict(sorted(rates.items()))}


def decayed():
    """Whether the trainer of transformers decays a parameter, of models of many families."""
    small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=32)
    grouped = dict(num_key_value_heads=1, head_dim=8, pad_token_id=0, **small)
    t = transformers
    models = [
        t.LlamaForCausalLM(t.LlamaConfig(**grouped)),
        t.Gemma2ForCausalLM(t.Gemma2Config(**grouped)),
        t.Gemma3ForCausalLM(t.Gemma3TextConfig(**grouped)),
        t.Qwen2ForCausalLM(t.Qwen2Config(num_key_value_heads=1, pad_token_id=0, **small)),
        t.Qwen3ForCausalLM(t.Qwen3Config(**grouped)),
        t.Phi3ForCausalLM(t.Phi3Config(num_key_value_heads=1, pad_token_id=0, **small)),
        t.Olmo2ForCausalLM(t.Olmo2Config(num_key_value_heads=1, pad_token_id=0, **small)),
        t.SmolLM3ForCausalLM(t.SmolLM3Config(num_key_value_heads=1, pad_token_id=0, **small)),
        t.GPTNeoXForCausalLM(t.GPTNeoXConfig(pad_token_id=0, **small)),
        t.GPT2LMHeadModel(t.GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2)),
        t.T5ForConditionalGeneration(t.T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)),
    ]
    out = {}
    for model in models:
        decayed = set(transformers.Trainer.get_decay_parameter_names(None, model))
        for name, _ in model.named_parameters():
            assert out.get(name, name in decayed) == (name in decayed), name
            out[name] = name in decayed
    return dict(sorted(out.items()))


def main():
    made = {"versions": common.versions(peft=peft.__version__)}
    groups = {"lora_plus": lora_plus(), "decayed": decayed()}
    common.write_json(HERE / "optimizers.json", {**made, **optimizers(), **groups})
    common.write_json(HERE / "schedules.json", {"cases": schedules(), "transformers": transformers_schedules()})


if __name__ == "__main__":
    main()
