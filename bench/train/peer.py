#!/usr/bin/env python3
"""The peer: fine-tuning with transformers and peft in a plain PyTorch loop. Prints one JSON object.

Number formats:
  fp32  everything in float32
  amp   float32 weights, computed under autocast to bfloat16
  bf16  weights in bfloat16; with LoRA the frozen ones only, because peft keeps adapters in float32

Runs in an environment with torch, transformers and peft; nothing is fetched.
"""
import argparse
import contextlib
import json
import platform
import time
from typing import Any

import torch
import transformers

import batches

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5}  # those of the experiment files in bench/gsm8k


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--data", required=True, help="JSONL with the keys question and answer")
    parser.add_argument("--mode", choices=["lora", "full"], default="lora")
    parser.add_argument("--dtype", choices=["fp32", "amp", "bf16"], default="fp32")
    parser.add_argument("--layout", choices=["pack", "pad"], default="pack")
    parser.add_argument("--batch", type=int, default=4, help="blocks a step")
    parser.add_argument("--seq", type=int, default=512, help="tokens a block")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--lr", type=float, help="default: 2e-4 with LoRA, 2e-5 without")
    parser.add_argument("--adapter", help="PEFT folder to start LoRA from, see bench/gsm8k/hash_adapter.py")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", action="store_true", help="only say how many rows of the data the steps take")
    return parser.parse_args()


def build_model(args: argparse.Namespace) -> torch.nn.Module:
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    model.config.use_cache = False
    if args.mode == "full":
        return model.train()
    import peft

    if args.adapter:
        return peft.PeftModel.from_pretrained(model, args.adapter, is_trainable=True).train()
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=16, lora_dropout=0.0
    )
    return peft.get_peft_model(model, config).train()


def model_input(blocks: list[batches.Block]) -> dict[str, torch.Tensor]:
    """One batch. Without padding there is no mask, so that attention takes its fast causal path."""
    batch = {
        "input_ids": torch.tensor([block.ids for block in blocks]),
        "labels": torch.tensor([block.labels for block in blocks]),
    }
    seq = batch["input_ids"].shape[1]
    if any(block.n_real < seq for block in blocks):
        n_real = torch.tensor([block.n_real for block in blocks])
        batch["attention_mask"] = (torch.arange(seq)[None, :] < n_real[:, None]).long()
    return batch


def train(model: torch.nn.Module, data: list[batches.Block], args: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry a step: seconds, the moment it was done (seconds since 1970), tokens that are no padding, loss."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    rate = args.lr or LEARNING_RATES[args.mode]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    steps = []
    for first in range(0, len(data), args.batch):
        chosen = data[first : first + args.batch]
        started = time.perf_counter()
        autocast = torch.autocast("cpu", torch.bfloat16) if args.dtype == "amp" else contextlib.nullcontext()
        with autocast:
            loss = model(**model_input(chosen)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        secs = time.perf_counter() - started
        n_tokens = sum(block.n_real for block in chosen)
        steps.append({"secs": secs, "done_unix_secs": time.time(), "n_tokens": n_tokens, "loss": value})
    return steps


def versions() -> dict[str, str]:
    import peft

    modules = {"torch": torch, "transformers": transformers, "peft": peft}
    found = {name: str(module.__version__) for name, module in modules.items()}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"python": platform.python_version(), **found, "torch instruction set": capability}


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    rows = batches.read_rows(args.data)
    data, n_rows = batches.blocks(tokenizer, rows, args.layout, args.seq, args.batch * args.steps)
    if args.plan:
        print(json.dumps({"n_rows": n_rows, "versions": versions()}))
        return
    model = build_model(args)
    n_trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    steps = train(model, data, args)
    threads = torch.get_num_threads()
    print(json.dumps({"steps": steps, "n_trainable_parameters": n_trainable, "threads": threads}))


if __name__ == "__main__":
    main()
