#!/usr/bin/env python3
"""Print the codes that bitsandbytes gives 192 numbers in NF4, one hexadecimal digit each, and its largest number of each 64.

Run: python tests/golden/make_nf4.py   (needs torch and bitsandbytes)

The test `nf4_is_that_of_bitsandbytes` of crates/kernels/src/weight.rs has what it prints.
"""
import bitsandbytes.functional as F
import torch

x = torch.tensor([((i * 37) % 101 - 50) / 31 * (1 + i // 64) for i in range(192)], dtype=torch.float32)
packed, state = F.quantize_4bit(x, quant_type="nf4", blocksize=64)
print("".join(f"{byte:02x}" for byte in packed.flatten().tolist()))
print(state.absmax.tolist())
back = F.dequantize_4bit(packed, state)
print("sum of what comes back", back.double().sum().item())
