#!/usr/bin/env python3
"""Check with transformers and peft that exported model folders load and agree.

Run: python tests/golden/check_exports.py --base MODEL_DIR --adapter ADAPTER_DIR --merged MERGED_DIR [--scores]

Loads the adapter onto the base and the merged model on its own, and the tokenizer wherever a folder has one.
Prints as JSON the largest difference of their logits on several sequences; the exit code is 1 when it is above
--limit or when something was left out or made up in loading. --adapter may be left out: then --merged is only
compared with --base when --same is given, else just loaded. With --scores the folders are those of sequence classifiers:
--base is still a language model, and scores are compared.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForSeq2SeqLM, PeftModel
from safetensors import safe_open
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification,
                          AutoTokenizer)

TEXT = "Hello world, 12 + 30 is 42.\n  Grüße 日本 😀"


def load(folder, kind=None, **more):
    """The model in f32, and the names of weights that were missing, unexpected or of another shape."""
    if kind is None:
        has_encoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
        kind = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                       output_loading_info=True, **more)
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v}
    return model.eval(), wrong


def adapter_names(folder):
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as f:
        return set(f.keys())


def tokenizer(folder):
    """What the folder's tokenizer makes of a text, or None where there is no tokenizer."""
    if not (Path(folder) / "tokenizer_config.json").exists() and not (Path(folder) / "tokenizer.json").exists():
        return None
    tok = AutoTokenizer.from_pretrained(folder)
    ids = tok.encode(TEXT, add_special_tokens=False)
    found = {"vocabulary": len(tok), "eos_token_id": tok.eos_token_id, "ids": ids,
             "text_back": tok.decode(ids) == TEXT, "chat": None}
    if tok.chat_template:
        found["chat"] = tok.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    return found


def differs(base, merged):
    """Whether two tokenizers differ; one that had no chat template may have got one for its markers."""
    if base is None or merged is None:
        return False
    return any(base[k] != merged[k] for k in base if k != "chat" or base[k] is not None)


def classifier_base(a):
    """The base as a sequence classifier, its fresh head yet to be replaced by the adapter's."""
    with safe_open(Path(a.adapter) / "adapter_model.safetensors", "pt") as f:
        n_outputs = f.get_slice("base_model.model.score.weight").get_shape()[0]
    pad_id = AutoConfig.from_pretrained(a.merged).pad_token_id
    model, wrong = load(a.base, AutoModelForSequenceClassification, num_labels=n_outputs, pad_token_id=pad_id)
    strange = {k: [n for n in v if "score.weight" not in n and "lm_head.weight" not in n] for k, v in wrong.items()}
    return model, {k: v for k, v in strange.items() if v}


def logits(model, seqs):
    """The scores of each sequence; an encoder reads it backwards, and the decoder has it after its start token."""
    def inputs(s):
        if model.config.is_encoder_decoder:
            start = model.config.decoder_start_token_id
            return {"input_ids": torch.tensor([s[::-1]]), "decoder_input_ids": torch.tensor([[start] + s])}
        return {"input_ids": torch.tensor([s])}

    with torch.no_grad():
        return [model(**inputs(s)).logits[0].float() for s in seqs]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--base", required=True)
    p.add_argument("--adapter")
    p.add_argument("--merged", required=True)
    p.add_argument("--same", action="store_true", help="without an adapter: the merged folder must equal the base")
    p.add_argument("--scores", action="store_true", help="the folders are those of sequence classifiers")
    p.add_argument("--limit", type=float, default=1e-3)
    a = p.parse_args()
    torch.set_num_threads(2)
    out, faults = {}, []

    base, wrong = classifier_base(a) if a.scores else load(a.base)
    faults += [f"base: {k}: {v}" for k, v in wrong.items()]
    gen = torch.Generator().manual_seed(1)
    places = getattr(base.config, "max_position_embeddings", 64)
    seqs = [torch.randint(0, base.config.vocab_size, (min(n, places),), generator=gen).tolist() for n in (1, 7, 33, 60)]
    plain = logits(base, seqs)
    expected = plain if a.same else None
    if a.adapter:
        model = PeftModel.from_pretrained(base, a.adapter).eval()
        used = {n.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(".default.", ".")
                 .replace(".modules_to_save.", ".") for n, _ in model.named_parameters()
                if "lora_" in n or "modules_to_save" in n}
        faults += [f"adapter file only: {n}" for n in sorted(adapter_names(a.adapter) - used)]
        faults += [f"not in adapter file: {n}" for n in sorted(used - adapter_names(a.adapter))]
        expected = logits(model, seqs)
        out["adapter_changes_logits_by"] = max((x - y).abs().max().item() for x, y in zip(expected, plain))
        if base.config.is_encoder_decoder:
            # Which peft gives only to adapters that say what they are for.
            own = logits(AutoPeftModelForSeq2SeqLM.from_pretrained(a.adapter, dtype=torch.float32).eval(), seqs)
            out["by_itself_differs_by"] = max((x - y).abs().max().item() for x, y in zip(expected, own))
        cfg = model.peft_config["default"]
        out["adapter"] = {"r": cfg.r, "lora_alpha": cfg.lora_alpha, "targets": sorted(cfg.target_modules),
                          "tensors": len(used)}

    merged, wrong = load(a.merged, AutoModelForSequenceClassification if a.scores else None)
    faults += [f"merged: {k}: {v}" for k, v in wrong.items()]
    got = logits(merged, seqs)
    out["finite"] = all(bool(x.isfinite().all()) for x in got)
    if expected is not None:
        out["worst_difference"] = max((x - y).abs().max().item() for x, y in zip(expected, got))
        out["largest_logit"] = max(x.abs().max().item() for x in expected)
    out["tokenizer"] = {k: tokenizer(v) for k, v in (("base", a.base), ("adapter", a.adapter), ("merged", a.merged))
                        if v is not None}
    if differs(out["tokenizer"]["base"], out["tokenizer"]["merged"]):
        faults.append("the merged folder's tokenizer differs from the base's")
    out["faults"] = faults
    out["ok"] = not faults and out["finite"] and max(out.get("worst_difference", 0.0), out.get("by_itself_differs_by", 0.0)) <= a.limit
    print(json.dumps(out, ensure_ascii=False, indent=1))
    return 0 if out["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
