#!/usr/bin/env python3
"""Write rope.json: rotary frequencies and the factor on sines and cosines for many scalings.

Run: python tests/golden/make_rope.py   (needs torch and transformers)
"""
import torch
import transformers
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import common
from common import HERE

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
SHORT, LONG = [1.0 + 0.1 * i for i in range(16)], [1.0 + i for i in range(16)]
# Keys of config.json besides the sizes.
CASES = (
    {"rope_theta": 1e6, "max_position_embeddings": 32768, "rope_scaling": YARN},
    {"rope_theta": 1e6, "max_position_embeddings": 131072, "rope_scaling": {**YARN, "type": "yarn"}},
    {"rope_theta": 1e4, "max_position_embeddings": 4096, "rope_scaling": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
        "mscale": 1.0, "mscale_all_dim": 1.0}},
    {"rope_theta": 1e4, "max_position_embeddings": 163840, "rope_scaling": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
        "mscale_all_dim": 0.3}},
    {"rope_theta": 150000.0, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}},
    {"rope_theta": 1e4, "max_position_embeddings": 4096, "rope_scaling": {**YARN, "attention_factor": 1.25}},
    {"rope_theta": 1e4, "max_position_embeddings": 4096, "rope_scaling": {**YARN, "mscale": 1.3}},
    {"rope_theta": 1e4, "max_position_embeddings": 4096, "rope_scaling": {
        **YARN, "original_max_position_embeddings": 64, "beta_fast": 0, "beta_slow": 0}},
    {"rope_theta": 1e4, "max_position_embeddings": 64, "rope_scaling": {
        **YARN, "original_max_position_embeddings": 16, "beta_fast": 2.0, "beta_slow": 2.0}},
    {"rope_theta": 1e4, "max_position_embeddings": 64, "rope_scaling": {
        **YARN, "original_max_position_embeddings": 16, "beta_fast": 3.0, "beta_slow": 3.0, "truncate": False}},
    {"rope_theta": 1e4, "max_position_embeddings": 2048, "rope_scaling": {
        "rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 2048}},
    {"rope_theta": 5e5, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}},
    {"rope_theta": 1e4, "max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    {"model_type": "phi3", "rope_theta": 1e4, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
     "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}},
    {"model_type": "phi3", "rope_theta": 1e4, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
     "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 4.0}},
    {"model_type": "phi3", "rope_theta": 1e4, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
     "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG, "attention_factor": 1.5}},
)
SIZES = dict(vocab_size=96, hidden_size=128, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
             tie_word_embeddings=False)


def main():
    cases = []
    for keys in CASES:
        kind = Phi3Config if keys.get("model_type") == "phi3" else LlamaConfig
        settings = {key: value for key, value in keys.items() if key != "model_type"}
        config = kind(**SIZES, **(dict(pad_token_id=None) if kind is Phi3Config else {}),
                      **{key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()})
        inv_freq, factor = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, "cpu")
        cases.append({"config": {"model_type": kind.model_type, **SIZES, **settings},
                      "inv_freq": inv_freq.to(torch.float64).tolist(), "attention_factor": factor})
    common.write_json(HERE / "rope.json", {"versions": {"transformers": transformers.__version__}, "cases": cases})


if __name__ == "__main__":
    main()
