#!/usr/bin/env python3
"""Write a LoRA adapter whose start any program can rebuild: A[k] = (frac(k * 2654435761 / 2^32) - 0.5) * 2 / sqrt(in), B = 0.

k counts A's elements row by row in [r, in]. Both trainers of a comparison then begin at the same point.
Needs numpy and safetensors:  hash_adapter.py --out adapter
"""
import argparse
import json
import os

import numpy as np
from safetensors.numpy import save_file

# SmolLM2-135M: module, output width, input width.
MODULES = [("self_attn.q_proj", 576, 576), ("self_attn.k_proj", 192, 576), ("self_attn.v_proj", 192, 576),
           ("self_attn.o_proj", 576, 576), ("mlp.gate_proj", 1536, 576), ("mlp.up_proj", 1536, 576),
           ("mlp.down_proj", 576, 1536)]


def hashed(rows, cols):
    k = np.arange(rows * cols, dtype=np.int64)
    u = ((k * 2654435761) % 2**32).astype(np.float64) / 2**32
    return ((u - 0.5) * 2 / cols**0.5).astype(np.float32).reshape(rows, cols)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--layers", type=int, default=30)
    p.add_argument("--r", type=int, default=4)
    p.add_argument("--alpha", type=int, default=16)
    a = p.parse_args()
    tensors = {}
    for layer in range(a.layers):
        for module, n_out, n_in in MODULES:
            key = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{key}.lora_A.weight"] = hashed(a.r, n_in)
            tensors[f"{key}.lora_B.weight"] = np.zeros((n_out, a.r), np.float32)
    os.makedirs(a.out, exist_ok=True)
    save_file(tensors, os.path.join(a.out, "adapter_model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(a.out, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "SmolLM2-135M-Instruct",
                   "r": a.r, "lora_alpha": a.alpha, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
                   "use_dora": False, "use_rslora": False, "inference_mode": False,
                   "target_modules": sorted({m.split(".")[1] for m, _, _ in MODULES})}, f, indent=2)


if __name__ == "__main__":
    main()
