#!/usr/bin/env python3
"""Write adapter-settings.json: which modules, ranks and scales PEFT makes of an adapter's settings, and what it computes.

Run after make_models.py: python tests/golden/make_adapter_settings.py   (needs torch, transformers and peft)
"""
import json
import os
import tempfile
import warnings

import peft
import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import common
from common import HERE

BASE = "llama-mha"
# What does not look like a setting of an adapter, or says only how it came about.
NOT_STORED = ("peft_version", "base_model_name_or_path", "revision", "auto_mapping")
Q_V = ["q_proj", "v_proj"]

# Name, and settings besides r 4 and lora_alpha 16.
PATTERNS = (
    ("plain", {"target_modules": Q_V}),
    ("alpha-suffix", {"target_modules": Q_V, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}}),
    ("alpha-regex", {"target_modules": Q_V, "alpha_pattern": {r"layers\.1\.self_attn\.(q|v)_proj": 32}}),
    ("alpha-anchored", {"target_modules": Q_V, "alpha_pattern": {r"^model\.layers\.1\.self_attn\.q_proj": 32}}),
    ("alpha-lookahead", {"target_modules": Q_V, "alpha_pattern": {r"(?!q_)\w+_proj": 32}}),
    ("alpha-nowhere", {"target_modules": Q_V, "alpha_pattern": {"self_attn": 32}}),
    ("alpha-order", {"target_modules": Q_V, "alpha_pattern": {"layers.1.self_attn.q_proj": 64, "q_proj": 8}}),
    ("rank-regex", {"target_modules": Q_V, "rank_pattern": {".*q_proj": 8}}),
    ("rank-and-alpha", {"target_modules": Q_V, "rank_pattern": {r"layers\.0\..*": 2}, "use_rslora": True,
                        "alpha_pattern": {"v_proj": 2}}),
    ("regex-targets", {"target_modules": r"model\.layers\.1\.(self_attn\.[qk]|mlp\.up)_proj"}),
    ("all-linear", {"target_modules": "all-linear"}),
    ("excluded", {"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj", "layers.0.self_attn.q_proj"]}),
    ("excluded-regex", {"target_modules": Q_V, "exclude_modules": r".*layers\.0\..*"}),
    ("layers", {"target_modules": Q_V, "layers_to_transform": [1]}),
    ("layers-pattern", {"target_modules": Q_V, "layers_to_transform": 0, "layers_pattern": "layers"}),
)
# Starts; those that change the base are known to give something else beside the base as it is.
STARTS = (
    (False, {}), ("gaussian", {}), ("orthogonal", {}), ("mica", {}), ("eva", {}), ("olora", {}), ("pissa", {}),
    ("pissa_niter_4", {}), ("lora_ga", {"lora_ga_config": LoraGAConfig()}),
)


def base():
    return AutoModelForCausalLM.from_pretrained(HERE / BASE, dtype=torch.float32, attn_implementation="eager")


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def values(shape, tensor_idx):
    """Value i of tensor k in order of the names: 0.2 sin(1.3 (i + 1) + 0.7 k)."""
    n = 1
    for size in shape:
        n *= size
    i = torch.arange(1, n + 1, dtype=torch.float64)
    return (0.2 * torch.sin(1.3 * i + 0.7 * tensor_idx)).to(torch.float32).reshape(shape)


def stored(config):
    """The settings as PEFT writes them, with lists in a fixed order."""
    return {key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
            for key, value in config.items() if key not in NOT_STORED}


def of_patterns(ids):
    for name, settings in PATTERNS:
        torch.manual_seed(0)
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, **settings))
        folder = tempfile.mkdtemp()
        model.save_pretrained(folder)
        tensors = load_file(f"{folder}/adapter_model.safetensors")
        for k, key in enumerate(sorted(tensors)):
            tensors[key] = values(tensors[key].shape, k)
        save_file(tensors, f"{folder}/adapter_model.safetensors")
        config = json.load(open(f"{folder}/adapter_config.json"))
        loaded = PeftModel.from_pretrained(base(), folder)
        modules = {}
        for path, module in loaded.base_model.model.named_modules():
            if isinstance(module, LoraLayer):
                modules[path] = [module.r["default"], module.scaling["default"]]
        yield {"name": name, "config": stored(config), "modules": dict(sorted(modules.items())),
               "shapes": {key: list(tensors[key].shape) for key in sorted(tensors)}, "logits": logits(loaded, ids).tolist()}


def of_starts(ids):
    for start, more in STARTS:
        torch.manual_seed(0)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, target_modules=Q_V, init_lora_weights=start, **more)
        model = get_peft_model(base(), config)
        gen = torch.Generator().manual_seed(1)
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.data += 0.1 * torch.randn(p.shape, generator=gen)
        folder = tempfile.mkdtemp()
        trained = logits(model, ids)
        model.save_pretrained(folder)
        loaded = logits(PeftModel.from_pretrained(base(), folder), ids)
        settings = json.load(open(f"{folder}/adapter_config.json"))
        plain = dict(settings, init_lora_weights=True, loftq_config={}, lora_ga_config=None)
        json.dump(plain, open(f"{folder}/adapter_config.json", "w"))
        beside_base = logits(PeftModel.from_pretrained(base(), folder), ids)
        yield {"start": start, "config": stored(settings),
               "trained_to_loaded": (trained - loaded).abs().max().item(),
               "loaded_to_beside_base": (loaded - beside_base).abs().max().item()}


def main():
    os.chdir(HERE)
    warnings.filterwarnings("ignore")
    ids = [3, 5, 7, 9, 11, 13, 17, 2]
    common.write_json(HERE / "adapter-settings.json", {
        "versions": common.versions(peft=peft.__version__), "base": BASE, "ids": ids,
        "patterns": list(of_patterns(ids)), "starts": list(of_starts(ids)),
    })


if __name__ == "__main__":
    main()
