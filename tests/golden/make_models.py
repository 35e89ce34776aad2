#!/usr/bin/env python3
"""Write tiny random models with their logits, losses, gradients, training steps and generations.

Run: python tests/golden/make_models.py [NAME...]   (needs torch, transformers and safetensors)
"""
import json
import shutil
import sys

import torch
from transformers import (AutoConfig, AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig, GPT2Config, GPT2LMHeadModel,
                          GPTNeoXConfig, GPTNeoXForCausalLM,
                          LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config,
                          Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, SmolLM3Config, SmolLM3ForCausalLM)

import common
from common import HERE, VOCAB

BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 0.5,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5], "long_factor": [1.0, 2.0, 4.0, 8.0, 12.0, 16.0]}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.5}
GEMMA_ROPE = {"full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 2.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}


def models():
    """Name, class and configuration of each model; new ones at the end, as the place is the seed.

    llama3-rope has one frequency in each of the three bands of its scaling thanks to head_dim 16.
    """
    def llama(**more):
        return LlamaForCausalLM, LlamaConfig(**{**BASE, **more})

    yield "llama-mha", *llama()
    yield "llama3-rope", *llama(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5,
                                max_position_embeddings=256, rope_parameters=LLAMA3)
    yield "llama-linear-rope", *llama(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
                                      rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0})
    yield "llama-bias", *llama(num_key_value_heads=2, attention_bias=True, mlp_bias=True,
                               hidden_act="gelu_pytorch_tanh")
    yield "mistral-window", MistralForCausalLM, MistralConfig(**{**BASE, "num_key_value_heads": 2,
                                                                 "sliding_window": 8, "head_dim": None})
    yield "gpt2", GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_embd=32, n_head=4, n_layer=2, n_positions=64,
                                              activation_function="gelu_new", embd_pdrop=0.0, attn_pdrop=0.0,
                                              resid_pdrop=0.0, bos_token_id=1, eos_token_id=2)

    grouped = {**BASE, "num_key_value_heads": 2}
    yield "qwen2", Qwen2ForCausalLM, Qwen2Config(**{**grouped, "tie_word_embeddings": True})
    yield "qwen2-window", Qwen2ForCausalLM, Qwen2Config(**grouped, use_sliding_window=True, sliding_window=8,
                                                        max_window_layers=1)
    yield "qwen3", Qwen3ForCausalLM, Qwen3Config(**grouped, head_dim=16)
    yield "smollm3", SmolLM3ForCausalLM, SmolLM3Config(**{**grouped, "tie_word_embeddings": True},
                                                       no_rope_layer_interval=2, pad_token_id=None)
    yield "olmo2", Olmo2ForCausalLM, Olmo2Config(**grouped, pad_token_id=None)
    yield "phi3", Phi3ForCausalLM, Phi3Config(**grouped, sliding_window=8, pad_token_id=None)
    yield "phi3-longrope", Phi3ForCausalLM, Phi3Config(**{**grouped, "hidden_size": 64, "tie_word_embeddings": True},
                                                       original_max_position_embeddings=48, pad_token_id=None,
                                                       rope_parameters=LONGROPE)
    yield "gemma3", Gemma3ForCausalLM, Gemma3TextConfig(**{**grouped, "tie_word_embeddings": True}, head_dim=16,
                                                        query_pre_attn_scalar=24, sliding_window=8, pad_token_id=0,
                                                        layer_types=["sliding_attention", "full_attention"],
                                                        rope_parameters=GEMMA_ROPE)
    yield "gpt-neox", GPTNeoXForCausalLM, GPTNeoXConfig(**BASE, rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                                                                               "partial_rotary_factor": 0.25})
    yield "gpt-neox-serial", GPTNeoXForCausalLM, GPTNeoXConfig(**{**BASE, "tie_word_embeddings": True, "hidden_size": 64},
                                                               use_parallel_residual=False, attention_bias=False,
                                                               hidden_act="gelu_pytorch_tanh",
                                                               rope_parameters={"rope_type": "linear", "rope_theta": 20000.0,
                                                                                "factor": 2.0, "partial_rotary_factor": 0.5})
    yield "gemma2", Gemma2ForCausalLM, Gemma2Config(**{**grouped, "tie_word_embeddings": True}, head_dim=16,
                                                    query_pre_attn_scalar=24, sliding_window=8, pad_token_id=0,
                                                    attn_logit_softcapping=1.5, final_logit_softcapping=3.0)
    experts = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)
    yield "qwen3-moe", Qwen3MoeForCausalLM, Qwen3MoeConfig(**grouped, **experts, head_dim=16, norm_topk_prob=True)
    yield "qwen3-moe-mixed", Qwen3MoeForCausalLM, Qwen3MoeConfig(**{**grouped, "tie_word_embeddings": True}, **experts,
                                                                 mlp_only_layers=[0])
    yield "llama-yarn", *llama(num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rope_parameters=YARN)


def randomise(model, seed):
    """Weights of std 0.2, norm weights around 1 and biases around 0, none of them exactly so."""
    gen = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=gen) * 0.2
        is_norm = p.dim() == 1 and name.endswith("weight")
        p.data = 1.0 + noise if is_norm else noise


def old_config(folder):
    """Write config.v4.json: the same settings under the names that transformers 4 and the hub use."""
    cfg = json.loads((folder / "config.json").read_text())
    rope = cfg.pop("rope_parameters", None)
    cfg["torch_dtype"] = cfg.pop("dtype")
    if rope and "full_attention" in rope:
        cfg["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope:
        cfg["rope_theta"] = rope.pop("rope_theta")
        if cfg["model_type"] == "gpt_neox":
            cfg["rotary_emb_base"] = cfg.pop("rope_theta")
            cfg["rotary_pct"] = rope.pop("partial_rotary_factor")
        elif "partial_rotary_factor" in rope:
            cfg["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        if rope["rope_type"] == "longrope":
            rope = {"type": "longrope", "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}
        cfg["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    if "num_local_experts" in cfg:
        cfg["num_experts"] = cfg.pop("num_local_experts")
    if "head_dim" in cfg and cfg["head_dim"] * cfg["num_attention_heads"] == cfg["hidden_size"]:
        del cfg["head_dim"]
    cfg["transformers_version"] = "4.40.0"
    path = folder / "config.v4.json"
    path.write_text(json.dumps(dict(sorted(cfg.items())), indent=2) + "\n")
    return AutoConfig.from_pretrained(path)


def stored_name(cfg):
    """The name in files of a parameter; transformers 5 calls the head of GPT-NeoX otherwise in memory."""
    return lambda name: name.replace("lm_head.", "embed_out.") if cfg.model_type == "gpt_neox" else name


def by_expert(tensors):
    """The gradients of experts one by one, as files have their weights; transformers 5 keeps them as one in memory."""
    for name in [name for name in tensors if ".mlp.experts." in name]:
        at, part = name.rsplit(".", 1)
        for i, expert in enumerate(tensors.pop(name)):
            halves = expert.chunk(2) if part == "gate_up_proj" else (expert,)
            for half, named in zip(halves, ("gate_proj", "up_proj") if len(halves) == 2 else ("down_proj",)):
                tensors[f"{at}.{i}.{named}.weight"] = half.contiguous()


def generate(model, seed):
    """Greedy continuations of three prompts, plain and with a repetition penalty of 1.3.

    A prompt is taken only when no step came near a tie, so that rounding cannot change the outcome.
    """
    gen = torch.Generator().manual_seed(seed)
    model.generation_config = GenerationConfig()  # else its end token would stop a run early
    out = []
    for length in (1, 4, 12):
        for penalty in (1.0, 1.3):
            for _ in range(200):
                prompt = torch.randint(3, VOCAB, (1, length), generator=gen)
                cfg = GenerationConfig(do_sample=False, max_new_tokens=20, repetition_penalty=penalty, pad_token_id=0,
                                       bos_token_id=None, eos_token_id=None, output_scores=True,
                                       return_dict_in_generate=True)
                got = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=cfg)
                top = torch.cat(got.scores).topk(2).values
                gap = (top[:, 0] - top[:, 1]).min().item()
                if gap > 0.02:
                    break
            else:
                raise SystemExit("no prompt without a near tie")
            new = got.sequences[0, length:].tolist()
            assert len(new) == 20
            out.append({"prompt": prompt[0].tolist(), "repetition_penalty": penalty, "new_ids": new,
                        "smallest_top2_gap": gap})
    return out


def main():
    seqs = common.sequences()
    for seed, (name, cls, cfg) in enumerate(models(), 1):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        cfg._attn_implementation = "eager"
        made = cls(cfg)
        randomise(made, seed)
        made.tie_weights()
        made.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2)
        made.save_pretrained(folder)
        old = old_config(folder)
        more = {"experts_implementation": "eager"} if hasattr(cfg, "num_experts") else {}

        model, same = (AutoModelForCausalLM.from_pretrained(folder, config=c, dtype=torch.float32,
                                                            attn_implementation="eager", **more).eval() for c in (None, old))
        ids = torch.tensor([seqs[2]["ids"]])
        assert torch.equal(model(ids).logits, same(ids).logits)
        data, tensors = common.measure(model, seqs, lr=1e-2, weight_decay=0.01, key=stored_name(cfg))
        by_expert(tensors)
        if name in ("llama3-rope", "mistral-window", "gpt2"):
            data["generations"] = generate(model, seed)
        common.write(folder, {"versions": common.versions(), "sequences": seqs, **data}, tensors)

        if name == "llama-mha":
            sharded = HERE / "llama-sharded"
            shutil.rmtree(sharded, ignore_errors=True)
            made.save_pretrained(sharded, max_shard_size="40KB")
            only = {"versions": common.versions(), "sequences": seqs, "same_weights_as": name}
            common.write(sharded, only, {n: t for n, t in tensors.items() if n.startswith("logits.")})
        print(name, "losses", data["train_losses"], "noise", data["noise"])


if __name__ == "__main__":
    main()
