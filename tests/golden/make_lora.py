#!/usr/bin/env python3
"""Write LoRA adapters on the tiny models with their logits, losses, gradients and merged logits.

Run after make_models.py: python tests/golden/make_lora.py [NAME...]   (needs torch, transformers and peft)
"""
import os
import shutil
import sys

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

import common
from common import HERE


def linear_names(model):
    """The last part of the name of every linear layer but the head, in order of appearance."""
    names = [n for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and "head" not in n]
    return list(dict.fromkeys(n.split(".")[-1] for n in names))


def file_key(name):
    """The key peft gives a parameter in adapter_model.safetensors: its name without the adapter's own."""
    return name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(".default.", ".")


def base_of(name):
    more = {"experts_implementation": "eager"} if "moe" in str(name) else {}
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, attn_implementation="eager", **more)


def config(name, targets, **more):
    return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, lora_dropout=0.0, bias="none", target_modules=targets,
                      fan_in_fan_out=name == "gpt2", **more)


# Seed, base, the ending of the adapter's folder, and what is special about it.
ADAPTERS = (
    (1, "llama-mha", "lora", {}), (2, "llama3-rope", "lora", {"use_rslora": True}), (3, "gpt2", "lora", {}),
    (4, "qwen2", "lora", {}), (5, "qwen3", "lora", {}), (6, "smollm3", "lora", {}), (7, "olmo2", "lora", {}),
    (8, "phi3", "lora", {}), (4, "llama-bias", "dora", {"use_dora": True, "use_rslora": True}),
    (5, "gpt2", "dora", {"use_dora": True}), (9, "gemma3", "lora", {}),
    (10, "gpt-neox", "lora", {}), (11, "gemma2", "lora", {}),
    (12, "qwen3-moe", "lora", {}),
)


def stored_adapters(seqs):
    for seed, name, ending, special in ADAPTERS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        folder = HERE / f"{name}-{ending}"
        shutil.rmtree(folder, ignore_errors=True)
        base = base_of(name)
        targets = linear_names(base)
        cfg = config(name, targets, **{"use_rslora": False, **special})
        model = get_peft_model(base, cfg)
        gen = torch.Generator().manual_seed(100 + seed)
        for n, p in common.trainable(model).items():
            noise = torch.randn(p.shape, generator=gen) * 0.1
            p.data = p.data * (1 + noise) if "magnitude" in n else noise
        cfg.target_modules = targets  # peft keeps a set, which would be written in any order
        model.save_pretrained(folder)
        (folder / "README.md").unlink()

        data, tensors = common.measure(model, seqs, lr=1e-2, weight_decay=0.0, key=file_key)
        assert set(get_peft_model_state_dict(model)) == {n[5:] for n in tensors if n.startswith("grad.")}
        merged = model.merge_and_unload()
        with torch.no_grad():
            for i, lg in enumerate(common.logits_of(merged, seqs)):
                tensors[f"merged.logits.{i}"] = lg
        worst = max((tensors[f"logits.{i}"] - tensors[f"merged.logits.{i}"]).abs().max().item() for i in range(3))
        assert worst < 1e-4, worst
        common.write(folder, {"versions": common.versions(peft=peft.__version__), "base": name, "targets": targets,
                              "sequences": seqs, **data, "merged_difference": worst}, tensors)
        print(folder.name, "losses", data["train_losses"], "noise", data["noise"], "merged", worst)


def principal(seqs):
    """Training losses from principal components. The sign of each is open, and makes no difference."""
    cases = []
    for name, special in (("llama-mha", {}), ("llama3-rope", {"use_rslora": True}), ("gpt2", {"use_dora": True})):
        base = base_of(name)
        model = get_peft_model(base, config(name, linear_names(base), init_lora_weights="pissa", **special))
        norms = {file_key(n): p.norm().item() for n, p in common.trainable(model).items()}
        data, _ = common.measure(model, seqs, lr=1e-3, weight_decay=0.0, key=file_key)
        cases.append({"model": name, "settings": special, "norms": norms, "train_lr": data["train_lr"],
                      "train_losses": data["train_losses"], "noise": data["noise"]["train_losses"]})
        print(name, "from principal components", data["train_losses"], data["noise"]["train_losses"])
    common.write_json(HERE / "pissa.json", {"versions": common.versions(peft=peft.__version__), "sequences": seqs,
                                            "cases": cases})


def main():
    os.chdir(HERE)  # so that adapter_config.json names its base model without a path
    seqs = common.sequences()
    stored_adapters(seqs)
    principal(seqs)


if __name__ == "__main__":
    main()
