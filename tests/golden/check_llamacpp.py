#!/usr/bin/env python3
"""Check the GGUF goldens against llama.cpp itself: the ids of every text and the logits of each tiny model.

Run: python tests/golden/check_llamacpp.py   (needs xllamacpp, numpy and safetensors; a few seconds)

llama.cpp computes GPT-2's activation with a table of half-precision values, hence that model's wider limit.
"""
import json
import urllib.request
from pathlib import Path

import numpy as np
import xllamacpp
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
LIMITS = {"llama-tiny": 1e-5, "llama3-tiny": 1e-5, "gpt2-tiny": 3e-3, "qwen2-tiny": 1e-5, "qwen3-tiny": 1e-5,
          "smollm3-tiny": 1e-5, "olmo2-tiny": 1e-5, "phi3-tiny": 1e-5}


def serve(path):
    p = xllamacpp.CommonParams()
    p.model.path = str(path)
    p.n_ctx, p.n_parallel, p.warmup, p.cpuparams.n_threads = 64, 1, False, 1
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(p)


def check(name, limit):
    meta = json.loads((HERE / f"gguf/{name}.json").read_text())
    golden = json.loads((HERE / f"tokenizers/{meta['tokenizer']}/golden.json").read_text())
    logits = load_file(HERE / f"gguf/{name}.safetensors")["logits"].astype(np.float64)
    server = serve(HERE / f"gguf/{name}.gguf")

    def ask(path, **body):
        request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))

    for c in golden["gguf_cases"]:
        got = ask("/tokenize", content=c["text"], add_special=False, parse_special=True)["tokens"]
        assert got == c["ids"], (name, c, got)
    worst = 0.0
    for n in (1, 10, 40):
        reply = ask("/completion", prompt=meta["ids"][:n], n_predict=1, n_probs=logits.shape[1], temperature=1.0,
                    top_k=0, top_p=1.0, min_p=0.0, seed=7, ignore_eos=True, cache_prompt=False)
        want = logits[n - 1] - np.logaddexp.reduce(logits[n - 1])
        found = reply["completion_probabilities"][0]["top_logprobs"]
        assert len(found) == len(want)
        worst = max(worst, *(abs(want[t["id"]] - t["logprob"]) for t in found))
    assert worst < limit, (name, worst)
    print(name, len(golden["gguf_cases"]), "texts agree, largest difference of a log-probability", worst)


def main():
    for name, limit in LIMITS.items():
        check(name, limit)


if __name__ == "__main__":
    main()
