#!/usr/bin/env python3
"""Write scores as transformers' logits processors leave them, and texts that its beam search finds.

Run after make_models.py: python tests/golden/make_generation.py   (needs torch and transformers)
"""
import os

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

import common
from common import HERE, VOCAB

ENDS = [2, 5, 11]
# Scores of so many tokens show what the processors do.
N_SCORES = 40
SETTINGS = {
    "repetition_penalty": [1.0, 1.7, 0.8],
    "min_new_tokens": [0, 4],
    "temperature": [1.0, 0.6, 1.8],
    "top_k": [0, 7, 40],
    "top_p": [1.0, 0.7, 0.95],
    "min_p": [0.0, 0.05, 0.3],
}


def config(settings, **more):
    """0 and 1 are how min_p and the others are switched off here; transformers wants None for some."""
    settings = {k: v for k, v in settings.items() if not (k in ("min_p", "min_new_tokens") and v == 0)}
    return GenerationConfig(**settings, **more, pad_token_id=0, eos_token_id=ENDS)


def combinations():
    """Every value alone, then a fixed walk over combinations that meets each pair of values."""
    off = {name: values[0] for name, values in SETTINGS.items()}
    yield off
    for name, values in SETTINGS.items():
        for value in values[1:]:
            yield {**off, name: value}
    names = list(SETTINGS)
    for step in range(40):
        yield {name: SETTINGS[name][(step * (i + 1) + step // (i + 2)) % len(SETTINGS[name])]
               for i, name in enumerate(names)}


def processors(model):
    gen = torch.Generator().manual_seed(8)
    out = []
    for settings in combinations():
        logits = (torch.randn(1, N_SCORES, generator=gen) * 2.5).round(decimals=4)
        prompt = torch.randint(3, N_SCORES, (1, 9), generator=gen)
        n_new = int(torch.randint(0, 6, (1,), generator=gen))
        new = torch.randint(3, N_SCORES, (1, n_new), generator=gen)
        cfg = config(settings, do_sample=True)
        model._prepare_special_tokens(cfg, True, device="cpu")
        chain = model._get_logits_processor(cfg, input_ids_seq_length=prompt.shape[1], device="cpu", model_kwargs={})
        found = chain(torch.cat([prompt, new], 1), logits.clone())[0]
        numbers = [None if x == float("-inf") else round(x, 6) for x in found.tolist()]
        out.append({"settings": settings, "prompt": prompt[0].tolist(), "new_ids": new[0].tolist(),
                    "processors": [type(p).__name__ for p in chain],
                    "logits": [round(x, 4) for x in logits[0].tolist()],
                    "processed": numbers})
    return out


def beams():
    gen = torch.Generator().manual_seed(9)
    out = []
    for name in ("llama3-rope", "gpt2"):
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, attn_implementation="eager").eval()
        for case in range(14):
            prompt = torch.randint(3, VOCAB, (1, 2 + 3 * (case % 5)), generator=gen)
            # Few ends let texts grow to their limit, many make them finish at different lengths.
            ends = ENDS if case % 2 else torch.randperm(VOCAB - 3, generator=gen)[:30].add(3).tolist()
            settings = {"num_beams": 2 + case % 3, "max_new_tokens": 12, "min_new_tokens": (0, 0, 3)[case % 3],
                        "repetition_penalty": (1.0, 1.3)[case // 3 % 2]}
            cfg = GenerationConfig(**{k: v for k, v in settings.items() if v}, do_sample=False, pad_token_id=0,
                                   eos_token_id=ends)
            model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=ends)
            found = model.generate(prompt, generation_config=cfg, return_dict_in_generate=True, output_scores=True)
            new = found.sequences[0, prompt.shape[1]:].tolist()
            out.append({"model": name, "prompt": prompt[0].tolist(), "end_ids": ends, "settings": settings,
                        "new_ids": new, "score": found.sequences_scores[0].item()})
            print(name, settings, len(ends), new, out[-1]["score"])
    return out


def main():
    os.chdir(HERE)
    model = AutoModelForCausalLM.from_pretrained("llama3-rope", dtype=torch.float32)
    common.write_json(HERE / "generation.json",
                      {"versions": common.versions(), "processors": processors(model), "beams": beams()})


if __name__ == "__main__":
    main()
