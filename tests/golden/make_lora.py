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


# The model and whether its scale is rank-stabilised; new ones at the end, as the place is the seed.
ADAPTED = (("llama-mha", False), ("llama3-rope", True), ("gpt2", False), ("qwen2", False), ("qwen3", False),
           ("smollm3", False), ("olmo2", False), ("phi3", False))


def linear_names(model):
    """The last part of the name of every linear layer but the head, in order of appearance."""
    names = [n for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and "head" not in n]
    return list(dict.fromkeys(n.split(".")[-1] for n in names))


def file_key(name):
    """The key peft gives a parameter in adapter_model.safetensors: its name without the adapter's own."""
    return name.replace(".default.", ".")


def main():
    os.chdir(HERE)  # so that adapter_config.json names its base model without a path
    seqs = common.sequences()
    for seed, (name, rslora) in enumerate(ADAPTED, 1):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        folder = HERE / f"{name}-lora"
        shutil.rmtree(folder, ignore_errors=True)
        base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, attn_implementation="eager")
        targets = linear_names(base)
        cfg = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, lora_dropout=0.0, bias="none",
                         target_modules=targets, use_rslora=rslora, fan_in_fan_out=name == "gpt2")
        model = get_peft_model(base, cfg)
        gen = torch.Generator().manual_seed(100 + seed)
        for p in common.trainable(model).values():
            p.data = torch.randn(p.shape, generator=gen) * 0.1
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
        print(name, "losses", data["train_losses"], "noise", data["noise"], "merged", worst)


if __name__ == "__main__":
    main()
