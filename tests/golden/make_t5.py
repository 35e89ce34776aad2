#!/usr/bin/env python3
"""Write tiny random T5 models and adapters on them with their logits, losses, gradients, training steps and generations.

Run: python tests/golden/make_t5.py   (needs torch, transformers, peft and safetensors)
"""
import json
import os
import random
import shutil

import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

import common
from common import HERE, VOCAB
from make_lora import file_key, linear_names
from make_models import randomise

START, END = 0, 1
BASE = dict(vocab_size=VOCAB, d_model=32, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=START,
            pad_token_id=START, eos_token_id=END, dropout_rate=0.0)


def models():
    """Name and configuration of T5 1.0 with its tied head, and of 1.1."""
    yield "t5", T5Config(**BASE, d_kv=12, num_decoder_layers=1)
    yield "t5-gated", T5Config(**BASE, d_kv=8, num_decoder_layers=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
                               relative_attention_num_buckets=16, relative_attention_max_distance=40)


def sequences():
    """Sources of 7, 1 and 140 ids, and for each what the decoder is given: its start and the answer, which is learned.

    The third source is longer than all distances that have a bucket of their own.
    """
    rng = random.Random(21)
    out = []
    for n_source, n_answer, masked in ((7, 4, set()), (1, 12, {3}), (140, 39, set())):
        source = [rng.randrange(3, VOCAB) for _ in range(n_source)]
        answer = [rng.randrange(3, VOCAB) for _ in range(n_answer - 1)] + [END]
        out.append({"source": source, "ids": [START] + answer,
                    "labels": [-100] + [-100 if i in masked else t for i, t in enumerate(answer)]})
    return out


def untie(model, seed):
    """Gives the model a head of its own, as T5 1.1 has it; this transformers makes all of them tied."""
    noise = torch.randn(model.shared.weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.2
    model.lm_head.weight = torch.nn.Parameter(noise)
    model.config.tie_word_embeddings = False


def check_loss(model, seqs):
    """The loss that the model gives itself for labels, which it shifts right, is the one measured here."""
    for seq in seqs:
        own = model(input_ids=torch.tensor([seq["source"]]), labels=torch.tensor([seq["labels"][1:]])).loss
        if -100 not in seq["labels"][1:]:
            assert abs(own - common.loss_of(model, [seq])[0]) < 1e-6


def generate(model, seed):
    """Greedy answers to three sources, plain and with a repetition penalty of 1.3, without a near tie."""
    gen = torch.Generator().manual_seed(seed)
    model.generation_config = GenerationConfig(decoder_start_token_id=START)
    out = []
    for length in (1, 5, 60):
        for penalty in (1.0, 1.3):
            for _ in range(400):
                source = torch.randint(3, VOCAB, (1, length), generator=gen)
                cfg = GenerationConfig(do_sample=False, max_new_tokens=20, repetition_penalty=penalty, pad_token_id=START,
                                       bos_token_id=None, eos_token_id=None, decoder_start_token_id=START,
                                       output_scores=True, return_dict_in_generate=True)
                got = model.generate(source, attention_mask=torch.ones_like(source), generation_config=cfg)
                top = torch.cat(got.scores).topk(2).values
                gap = (top[:, 0] - top[:, 1]).min().item()
                if gap > 0.01:
                    break
            else:
                raise SystemExit("no source without a near tie")
            new = got.sequences[0, 1:].tolist()
            assert len(new) == 20
            out.append({"prompt": source[0].tolist(), "repetition_penalty": penalty, "new_ids": new,
                        "smallest_top2_gap": gap})
    return out


def beams(model, seed):
    """Beam searches over a few sources, with so many ends that some texts end before their limit."""
    gen = torch.Generator().manual_seed(seed)
    out = []
    for case in range(6):
        source = torch.randint(3, VOCAB, (1, 2 + 5 * case), generator=gen)
        ends = [END, *torch.randperm(VOCAB - 3, generator=gen)[:25].add(3).tolist()]
        settings = {"num_beams": 2 + case % 3, "max_new_tokens": 12, "repetition_penalty": (1.0, 1.3)[case % 2]}
        cfg = GenerationConfig(**settings, do_sample=False, pad_token_id=START, eos_token_id=ends, decoder_start_token_id=START)
        model.generation_config = GenerationConfig(pad_token_id=START, eos_token_id=ends, decoder_start_token_id=START)
        found = model.generate(source, generation_config=cfg, return_dict_in_generate=True, output_scores=True)
        out.append({"prompt": source[0].tolist(), "end_ids": ends, "settings": settings,
                    "new_ids": found.sequences[0, 1:].tolist(), "score": found.sequences_scores[0].item()})
    return out


def buckets():
    """The bucket of each distance from -300 to 300 for both directions."""
    distances = torch.arange(-300, 301)
    cases = [(two, n, far) for two in (True, False) for n, far in ((32, 128), (16, 40), (8, 20))]
    return [{"is_bidirectional": two, "n_buckets": n, "max_distance": far,
             "buckets": T5Attention._relative_position_bucket(distances, two, n, far).tolist()} for two, n, far in cases]


def adapter(name, seqs, seed):
    base = AutoModelForSeq2SeqLM.from_pretrained(name, dtype=torch.float32, attn_implementation="eager")
    folder = HERE / f"{name}-lora"
    shutil.rmtree(folder, ignore_errors=True)
    targets = linear_names(base)
    cfg = LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=16, lora_dropout=0.0, bias="none", target_modules=targets)
    model = get_peft_model(base, cfg)
    gen = torch.Generator().manual_seed(seed)
    for _, p in common.trainable(model).items():
        p.data = torch.randn(p.shape, generator=gen) * 0.1
    cfg.target_modules = targets
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    data, tensors = common.measure(model, seqs, lr=1e-2, weight_decay=0.0, key=file_key)
    merged = model.merge_and_unload()
    with torch.no_grad():
        for i, lg in enumerate(common.logits_of(merged, seqs)):
            tensors[f"merged.logits.{i}"] = lg
    worst = max((tensors[f"logits.{i}"] - tensors[f"merged.logits.{i}"]).abs().max().item() for i in range(3))
    assert worst < 1e-4, worst
    common.write(folder, {"versions": common.versions(peft=peft.__version__), "base": name, "targets": targets,
                          "sequences": seqs, **data, "merged_difference": worst}, tensors)
    print(folder.name, "losses", data["train_losses"], "noise", data["noise"], "merged", worst)


def main():
    os.chdir(HERE)
    seqs = sequences()
    for seed, (name, cfg) in enumerate(models(), 1):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        cfg._attn_implementation = "eager"
        made = T5ForConditionalGeneration(cfg)
        if not cfg.scale_decoder_outputs:
            untie(made, seed)
        randomise(made, seed)
        # Without a scale on the scores of attention, weights as large as the others' would make it choose one token.
        for module in made.modules():
            if isinstance(module, T5Attention):
                module.q.weight.data *= 0.25
        made.tie_weights() if cfg.scale_decoder_outputs else None
        made.generation_config = GenerationConfig(decoder_start_token_id=START, pad_token_id=START, eos_token_id=END)
        made.save_pretrained(folder)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        assert (model.lm_head.weight is model.shared.weight) == cfg.scale_decoder_outputs
        check_loss(model, seqs)
        data, tensors = common.measure(model, seqs, lr=1e-2, weight_decay=0.01)
        data["generations"] = generate(model, seed)
        data["beams"] = beams(model, seed)
        if name == "t5":
            common.write_json(HERE / "t5-buckets.json", {"versions": common.versions(), "first_distance": -300,
                                                         "cases": buckets()})
        common.write(folder, {"versions": common.versions(), "sequences": seqs, **data}, tensors)
        print(name, "losses", data["train_losses"], "noise", data["noise"])
        adapter(name, seqs, 300 + seed)


if __name__ == "__main__":
    main()
