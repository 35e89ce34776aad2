#!/usr/bin/env python3
"""Check every family all the way round: a model of transformers is trained here, exported, and opened there again.

Run: python tests/golden/check_round_trip.py PROGRAM [NAME...]   (needs torch, transformers and peft)

For each model of make_models.py and make_t5.py a random one of the same shape is written with a tokenizer, trained for some steps with an
adapter and once more whole, by PROGRAM. check_exports.py then opens what came out: the adapter in peft on the untouched model
has to give the logits of the merged model, and the whole model has to load without a missing or unexpected weight. Training
has to have moved both.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import T5ForConditionalGeneration

from common import HERE
from make_models import models
from make_t5 import models as t5_models, untie

TOKENIZER = HERE / "tokenizers" / "bpe-smollm"
T5_TOKENIZER = HERE / "tokenizers" / "spm-t5"
SETTINGS = {
    "dataset.validation_size": 0.2, "dataset.system_column": "None", "dataset.prompt_column": "prompt",
    "dataset.answer_column": "answer", "dataset.text_format": "chat_template", "dataset.parent_id_column": "None", "tokenizer.max_length": 64,
    "architecture.backbone_dtype": "float32", "environment.mixed_precision": "false", "environment.seed": 3,
    "environment.device": "cpu", "prediction.metric": "Perplexity", "training.learning_rate": 0.01, "training.batch_size": 4,
    "training.epochs": 3, "training.evaluate_before_training": "true",
}


def run(program, folder, name, model=None, problem_type="text_causal_language_modeling", **more):
    """Trains `model`, or that of `folder`, exports it merged or whole; both folders and the losses before and after."""
    settings = [f"--set={key}={value}" for key, value in {**SETTINGS, **more}.items()]
    (folder / "run.yaml").write_text(f"problem_type: {problem_type}\n")
    command = [program, "train", "-Y", folder / "run.yaml", "--model", model or folder / "base", "--data", folder / "rows.jsonl", "--output", folder / name]
    done = subprocess.run([*command, *settings], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    merged = folder / f"{name}-merged"
    subprocess.run([program, "export", folder / name, "--format", "merged", "--output", merged], check=True, capture_output=True)
    events = map(json.loads, (folder / name / "events.jsonl").read_text().splitlines())
    losses = [event["loss"] for event in events if event["event"] == "evaluation"]
    return folder / name, merged, losses[0], losses[-1]


def check(what, folder, before, after, *arguments, limit=1e-4):
    """Whether the exports are well and training has lowered the loss; prints what was found."""
    command = [sys.executable, HERE / "check_exports.py", "--base", folder / "base", "--limit", str(limit), *arguments]
    found = subprocess.run(command, capture_output=True, text=True)
    if not found.stdout:
        sys.exit(found.stderr)
    report = json.loads(found.stdout)
    is_well = found.returncode == 0 and after < before
    difference = report.get("worst_difference")
    print(f"{what}: loss {before:.3f} -> {after:.3f}; {'well' if is_well else report['faults'] or 'WRONG'}"
          + (f"; merged to adapter {difference:.1e} of {report['largest_logit']:.2f}" if difference is not None else ""), flush=True)
    return is_well


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    n_failed = 0
    all_models = [*models(), *((name, T5ForConditionalGeneration, config) for name, config in t5_models())]
    for seed, (name, kind, config) in enumerate(all_models, 1):
        if wanted and name not in wanted:
            continue
        folder = Path(tempfile.mkdtemp(prefix="round-trip-"))
        torch.manual_seed(seed)
        has_encoder = config.is_encoder_decoder
        tokenizer = T5_TOKENIZER if has_encoder else TOKENIZER
        n_tokens = len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])
        config.vocab_size = (n_tokens + 31) // 32 * 32
        made = kind(config)
        if has_encoder and not config.scale_decoder_outputs:
            untie(made, seed)
        made.save_pretrained(folder / "base")
        for file in tokenizer.iterdir():
            if file.name not in ("golden.json", "tokenizer.gguf"):
                shutil.copy(file, folder / "base")
        rows = [json.dumps({"prompt": f"Where is order {i}?", "answer": f"In box {i % 5}."}) for i in range(40)]
        (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
        kind = {}
        if has_encoder:
            kind = {"problem_type": "text_sequence_to_sequence_modeling", "dataset.text_format": "markers",
                    "tokenizer.tokenizer_kwargs": '{"add_prefix_space": true}', "llm_backbone": folder / "base"}
        lora = {"training.lora": "true", "training.lora_r": 4, **kind}
        adapted, merged, before, after = run(program, folder, "adapted", **lora)
        n_failed += not check(f"{name}, adapter", folder, before, after, "--adapter", adapted / "adapter_model", "--merged", merged)
        _, whole, before, after = run(program, folder, "whole", **{"training.lora": "false", "training.learning_rate": 0.003, **kind})
        n_failed += not check(f"{name}, whole", folder, before, after, "--merged", whole)
        shutil.rmtree(folder)
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
