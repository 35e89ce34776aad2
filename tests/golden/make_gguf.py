#!/usr/bin/env python3
"""Write GGUF files: one tensor of every quantisation, and tiny models with the logits they must give.

Run after make_tokenizers.py: python tests/golden/make_gguf.py [NAME...]   (needs torch, transformers and gguf)

quants.gguf      a tensor of 2 x 256 per type, named by the type; quants.safetensors has them as f32
llama-tiny.gguf  GQA, tied embedding, SentencePiece vocabulary
llama-blocks.gguf the same with matrices in Q8_0, Q4_0 and Q4_1, and the logits of the values that these hold
llama-five.gguf  the same in Q5_0, Q4_1 and Q5_1, of which products take the second only
llama3-tiny.gguf GQA, own output weights, head size 16 (hidden size / heads is 8), rope_freqs, Llama 3's vocabulary
gpt2-tiny.gguf   GPT-2 with biases and a byte-level vocabulary
qwen2-tiny.gguf  and so on: relatives of Llama, with the SentencePiece vocabulary
The weights of the others are F32, so that their logits are comparable to the last digits.
"""
import json
import math
import sys
from importlib.metadata import version
from itertools import cycle

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Olmo2Config, Olmo2ForCausalLM,
                          Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          SmolLM3Config, SmolLM3ForCausalLM)

import common
from common import HERE
from make_models import LLAMA3, randomise
from make_tokenizers import OUT as TOKENIZERS
from make_tokenizers import add_vocabulary

OUT = HERE / "gguf"
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
HALVES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # where a block keeps its f16 scales
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# As of Phi 4 mini: half of each head is rotated, and the sequences here are shorter than the original context.
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.0, 2.0, 4.0, 8.0]}
LLAMA_PARTS = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
RELATED_PARTS = {**LLAMA_PARTS, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
                 "attn_qkv": "self_attn.qkv_proj"}
# What of RELATED_PARTS an architecture calls otherwise.
RENAMED = {"olmo2": {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"},
           "phi3": {"ffn_up": "mlp.gate_up_proj"}}
GPT2_PARTS = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
              "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quants():
    """The K types, which the gguf package cannot make, are random bytes with sensible f16 scales."""
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(OUT / "quants.gguf", "llama")
    truth = {}
    for name in TYPES:
        qtype = gguf.GGMLQuantizationType[name]
        if name in HALVES:
            raw = rng.integers(0, 256, (2, gguf.GGML_QUANT_SIZES[qtype][1]), dtype=np.uint8)
            for at in HALVES[name]:
                raw[:, at:at + 2] = rng.uniform(-0.02, 0.02, (2, 1)).astype(np.float16).view(np.uint8)
        else:
            values = (rng.standard_normal((2, 256)) * 0.3).astype(np.float32)
            raw = values if name == "F32" else values.astype(np.float16) if name == "F16" else quantize(values, qtype)
        if raw.dtype == np.uint8:
            writer.add_tensor(name, raw, raw_dtype=qtype)
        else:
            writer.add_tensor(name, raw)
        truth[name] = torch.from_numpy(dequantize(raw, qtype).astype(np.float32))
        assert truth[name].shape == (2, 256) and truth[name].isfinite().all()
    finish(writer)
    save_file(truth, OUT / "quants.safetensors")
    for t in gguf.GGUFReader(OUT / "quants.gguf").tensors:
        assert np.array_equal(dequantize(t.data, t.tensor_type), truth[t.name].numpy()), t.name


def permute(w, heads):
    """llama.cpp's order of the rows of a query or key projection: the two halves of each head interleaved."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def vocabulary(name):
    """How add_vocabulary is called for a tokenizer, with the pieces read back from its tokenizer.gguf."""
    folder = TOKENIZERS / name
    field = gguf.GGUFReader(folder / "tokenizer.gguf").get_field
    if field("tokenizer.ggml.model").contents() == "gpt2":
        return {"folder": folder, "pre": field("tokenizer.ggml.pre").contents()}
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    return {"folder": folder, "pieces": list(zip(field("tokenizer.ggml.tokens").contents(),
                                                 field("tokenizer.ggml.scores").contents()))[:size]}


def rope_freqs(rope, head_dim):
    """The divisors of the rotary frequencies that llama.cpp's converter stores for Llama 3's scaling."""
    out = []
    for i in range(0, head_dim, 2):
        turns = rope["original_max_position_embeddings"] * rope["rope_theta"] ** (-i / head_dim) / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, np.float32)


def settings(writer, cfg, vocab):
    """What the files of Llama and its relatives say about the model."""
    head_dim = getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads
    rope = cfg.rope_parameters
    writer.add_vocab_size(vocab)
    writer.add_context_length(cfg.max_position_embeddings)
    writer.add_embedding_length(cfg.hidden_size)
    writer.add_block_count(cfg.num_hidden_layers)
    writer.add_feed_forward_length(cfg.intermediate_size)
    writer.add_head_count(cfg.num_attention_heads)
    writer.add_head_count_kv(cfg.num_key_value_heads)
    if head_dim * cfg.num_attention_heads != cfg.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def add_quantised(writer, name, w, kind, heads=None):
    """Writes a matrix in blocks, and gives it the values that they hold."""
    raw = quantize(permute(w, heads) if heads else w, kind)
    writer.add_tensor(name, raw, raw_dtype=kind)
    places = np.arange(len(w))
    w[permute(places[:, None], heads)[:, 0] if heads else places] = dequantize(raw, kind)


def llama(path, tokenizer, rope, kinds=(), **more):
    """With `kinds` the matrices are in these block formats, one after the other."""
    writer = gguf.GGUFWriter(path, "llama")
    vocab = add_vocabulary(writer, **vocabulary(tokenizer))
    cfg = LlamaConfig(**{"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
                         "rms_norm_eps": 1e-5, "attn_implementation": "eager", "rope_parameters": rope, **more})
    model = LlamaForCausalLM(cfg)
    randomise(model, 21)
    model.tie_weights()
    settings(writer, cfg, vocab)
    state = {n: p.detach().numpy() for n, p in model.named_parameters()}
    kinds = cycle(kinds)
    if kind := next(kinds, None):
        add_quantised(writer, "token_embd.weight", state["model.embed_tokens.weight"], kind)
    else:
        writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    if not cfg.tie_word_embeddings:
        writer.add_tensor("output.weight", state["lm_head.weight"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_freqs(rope, cfg.head_dim))
    for i in range(cfg.num_hidden_layers):
        for part, theirs in LLAMA_PARTS.items():
            w = state[f"model.layers.{i}.{theirs}.weight"]
            heads = {"attn_q": cfg.num_attention_heads, "attn_k": cfg.num_key_value_heads}.get(part)
            name = f"blk.{i}.{part}.weight"
            if w.ndim == 2 and (kind := next(kinds, None)):
                add_quantised(writer, name, w, kind, heads)
            else:
                writer.add_tensor(name, permute(w, heads) if heads else w)
    finish(writer)
    return model, vocab


def relative(path, tokenizer, architecture, model_class, config_class, **more):
    writer = gguf.GGUFWriter(path, architecture)
    vocab = add_vocabulary(writer, **vocabulary(tokenizer))
    cfg = config_class(**{"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
                          "rms_norm_eps": 1e-5, "attn_implementation": "eager", "pad_token_id": None,
                          "rope_parameters": dict(PLAIN_ROPE), **more})
    model = model_class(cfg)
    randomise(model, 23)
    model.tie_weights()
    settings(writer, cfg, vocab)
    if architecture == "phi3":
        rope = cfg.rope_parameters
        original = cfg.original_max_position_embeddings
        writer.add_sliding_window(cfg.sliding_window or 0)
        writer.add_rope_scaling_orig_ctx_len(original)
        growth = cfg.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(growth) / math.log(original)))
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], np.float32))
    state = {n: p.detach().numpy() for n, p in model.named_parameters()}
    writer.add_tensor("token_embd.weight", state.pop("model.embed_tokens.weight"))
    writer.add_tensor("output_norm.weight", state.pop("model.norm.weight"))
    if not cfg.tie_word_embeddings:
        writer.add_tensor("output.weight", state.pop("lm_head.weight"))
    ours = {theirs: part for parts in (RELATED_PARTS, RENAMED.get(architecture, {})) for part, theirs in parts.items()}
    for name, w in state.items():
        _, _, i, module = name.split(".", 3)
        module, kind = module.rsplit(".", 1)
        heads = {"self_attn.q_proj": cfg.num_attention_heads, "self_attn.k_proj": cfg.num_key_value_heads}.get(module)
        w = permute(w, heads) if heads and architecture == "smollm3" else w
        writer.add_tensor(f"blk.{i}.{ours[module]}.{kind}", w)
    finish(writer)
    return model, vocab


def gpt2(path, tokenizer):
    writer = gguf.GGUFWriter(path, "gpt2")
    vocab = add_vocabulary(writer, **vocabulary(tokenizer))
    cfg = GPT2Config(vocab_size=vocab, n_embd=32, n_head=4, n_layer=2, n_positions=64, bos_token_id=1,
                     eos_token_id=2, attn_implementation="eager")
    model = GPT2LMHeadModel(cfg)
    randomise(model, 22)
    model.tie_weights()
    writer.add_vocab_size(vocab)
    writer.add_context_length(cfg.n_positions)
    writer.add_embedding_length(cfg.n_embd)
    writer.add_block_count(cfg.n_layer)
    writer.add_feed_forward_length(4 * cfg.n_embd)
    writer.add_head_count(cfg.n_head)
    writer.add_layer_norm_eps(cfg.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    state = {n.removeprefix("transformer."): p.detach().numpy() for n, p in model.named_parameters()}
    writer.add_tensor("token_embd.weight", state["wte.weight"])
    writer.add_tensor("position_embd.weight", state["wpe.weight"])
    writer.add_tensor("output.weight", state["wte.weight"])  # llama.cpp's converter writes the tied head as well
    for kind in ("weight", "bias"):
        writer.add_tensor(f"output_norm.{kind}", state[f"ln_f.{kind}"])
        for i in range(cfg.n_layer):
            for part, theirs in GPT2_PARTS.items():  # GPT-2 keeps its matrices as input x output
                writer.add_tensor(f"blk.{i}.{part}.{kind}", np.ascontiguousarray(state[f"h.{i}.{theirs}.{kind}"].T))
    finish(writer)
    return model, vocab


def tiny(name, made, tokenizer, *rest, **more):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    model, vocab = made(OUT / f"{name}.gguf", tokenizer, *rest, **more)
    model.eval()
    gen = torch.Generator().manual_seed(9)
    ids = torch.randint(3, vocab, (40,), generator=gen)
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    versions = common.versions(gguf=version("gguf"))
    common.write_json(OUT / f"{name}.json", {"versions": versions, "tokenizer": tokenizer, "ids": ids.tolist()})
    save_file({"logits": logits.contiguous()}, OUT / f"{name}.safetensors")
    print(name, "vocabulary of", vocab)


def main():
    OUT.mkdir(exist_ok=True)
    if not sys.argv[1:]:
        quants()
    tiny("llama-tiny", llama, "spm-llama", PLAIN_ROPE, tie_word_embeddings=True)
    of_blocks = [gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "Q4_1")]
    tiny("llama-blocks", llama, "spm-llama", PLAIN_ROPE, of_blocks, tie_word_embeddings=True, intermediate_size=64)
    five = [gguf.GGMLQuantizationType[name] for name in ("Q5_0", "Q4_1", "Q5_1")]
    tiny("llama-five", llama, "spm-llama", PLAIN_ROPE, five, tie_word_embeddings=True, intermediate_size=64)
    tiny("llama3-tiny", llama, "bpe-llama3", LLAMA3, head_dim=16)
    tiny("gpt2-tiny", gpt2, "bpe-smollm")

    def related(architecture, *classes, **more):
        tiny(f"{architecture}-tiny", relative, "spm-llama", architecture, *classes, **more)

    related("qwen2", Qwen2ForCausalLM, Qwen2Config, tie_word_embeddings=True)
    related("qwen3", Qwen3ForCausalLM, Qwen3Config, head_dim=16)
    related("smollm3", SmolLM3ForCausalLM, SmolLM3Config, num_hidden_layers=4)  # the fourth block rotates nothing
    related("olmo2", Olmo2ForCausalLM, Olmo2Config)
    related("phi3", Phi3ForCausalLM, Phi3Config, hidden_size=64, max_position_embeddings=512,
            original_max_position_embeddings=256, rope_parameters=dict(LONGROPE))


if __name__ == "__main__":
    main()
