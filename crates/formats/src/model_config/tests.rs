//! Defaults, refusals and both spellings of configurations.

use super::*;

fn config(change: Value) -> Result<ModelConfig> {
    let mut base = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    });
    for (key, value) in change.as_object().unwrap() {
        base[key] = value.clone();
    }
    ModelConfig::from_json(Path::new("config.json"), base)
}

#[test]
fn absent_keys_take_the_defaults_of_transformers() {
    let llama = config(json!({})).unwrap();
    assert_eq!((llama.n_kv_heads, llama.head_dim, llama.max_positions), (4, 8, 2048));
    assert_eq!((llama.norm_eps, llama.rope_theta, llama.layers[0].window), (1e-6, 10_000.0, None));
    assert!(!llama.tie_word_embeddings && !llama.attention_bias && !llama.mlp_bias);
    assert_eq!((llama.bos_id, llama.pad_id), (None, None));

    let mistral = |window| {
        let mut change = json!({ "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2 });
        if let Some(window) = window {
            change["sliding_window"] = window;
        }
        config(change).unwrap().layers[0].window
    };
    assert_eq!(
        [mistral(None), mistral(Some(Value::Null)), mistral(Some(json!(64)))],
        [Some(4096), None, Some(64)]
    );

    let gpt2 = json!({"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_head": 2, "n_layer": 1});
    let gpt2 = ModelConfig::from_json(Path::new("c"), gpt2).unwrap();
    assert_eq!((gpt2.intermediate_size, gpt2.max_positions, gpt2.head_dim), (32, 1024, 4));
    assert!(gpt2.tie_word_embeddings && gpt2.attention_bias && gpt2.mlp_bias);
    assert_eq!(gpt2.activation, Activation::GeluTanh);
}

#[test]
fn danube_models_are_llama_and_mistral() {
    // As the files on the hub have them: Danube 2 has no window, the first Danube one of 4096, Danube 3 is a Llama.
    let danube = |class: &str, width: u32, n_layers: u32, n_heads: u32, window: Value| {
        config(json!({
            "architectures": [class], "hidden_size": width, "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads, "num_key_value_heads": 8, "sliding_window": window,
            "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false,
        }))
        .unwrap()
    };
    let first = danube("MistralForCausalLM", 2560, 24, 32, json!(4096));
    assert_eq!((first.head_dim, first.layers[23].window), (80, Some(4096)));
    let second = danube("MistralForCausalLM", 2560, 24, 32, Value::Null);
    assert_eq!((second.head_dim, second.layers[23].window), (80, None));
    let third = danube("LlamaForCausalLM", 3840, 24, 32, Value::Null);
    assert_eq!(
        (third.architecture, third.head_dim, third.layers[23].window),
        (Architecture::Llama, 120, None)
    );
}

#[test]
fn windows_of_some_blocks_follow_from_either_spelling() {
    let windows = |change: Value| {
        let config = config(change).unwrap();
        config.layers.iter().map(|layer| layer.window).collect::<Vec<_>>()
    };
    let qwen = |more: Value| {
        let mut change = json!({ "architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 4 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        windows(change)
    };
    // Qwen's files name a window even where none is used.
    assert_eq!(qwen(json!({ "use_sliding_window": false, "sliding_window": 8 })), [None, None]);
    let window = json!({ "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1 });
    assert_eq!(qwen(window.clone()), [None, Some(8)]);
    let mut named = window;
    named["layer_types"] = json!(["sliding_attention", "full_attention"]);
    assert_eq!(qwen(named.clone()), [Some(8), None]);
    named["layer_types"] = json!(["sliding_attention"]);
    named["architectures"] = json!(["Qwen2ForCausalLM"]);
    assert!(config(named).unwrap_err().to_string().contains("layer_types: expected"));
}

#[test]
fn gemma3_looks_far_in_every_sixth_block_and_caps_nothing() {
    let gemma = |more: Value| {
        let mut change =
            json!({ "architectures": ["Gemma3ForCausalLM"], "num_hidden_layers": 7, "head_dim": 16 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(change)
    };
    let found = gemma(json!({ "sliding_window": 512, "rope_theta": null })).unwrap();
    let windows: Vec<_> = found.layers.iter().map(|layer| layer.window.is_some()).collect();
    assert_eq!(windows, [true, true, true, true, true, false, true]);
    // The scale is not that of the head's width unless the file says so.
    assert_eq!((found.rope_theta, found.window_rope_theta), (1e6, Some(1e4)));
    assert_eq!((found.attention_scale, found.activation), (1.0 / 16.0, Activation::GeluTanh));
    assert!(found.tie_word_embeddings);
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        let message = gemma(json!({ key: 30.0 })).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
        gemma(json!({ key: null })).unwrap();
    }
}

#[test]
fn gemma2_caps_scores_and_looks_far_in_every_other_block() {
    let gemma = |more: Value| {
        let mut change =
            json!({ "architectures": ["Gemma2ForCausalLM"], "num_hidden_layers": 3, "head_dim": 16 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(change)
    };
    let found = gemma(json!({})).unwrap();
    let windows: Vec<_> = found.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(4096), None, Some(4096)]);
    assert_eq!((found.attention_cap, found.logit_cap), (Some(50.0), Some(30.0)));
    assert_eq!((found.attention_scale, found.max_positions), (1.0 / 16.0, 8192));
    let free = gemma(json!({ "attn_logit_softcapping": null, "final_logit_softcapping": 20.0 })).unwrap();
    assert_eq!((free.attention_cap, free.logit_cap), (None, Some(20.0)));
    let message = gemma(json!({ "use_bidirectional_attention": true })).unwrap_err().to_string();
    assert!(message.contains("use_bidirectional_attention"), "{message}");
    // Another family has none, whatever its file says.
    assert_eq!(config(json!({ "attn_logit_softcapping": 5.0 })).unwrap().attention_cap, None);
}

#[test]
fn gpt_neox_rotates_a_quarter_of_each_head() {
    let neox = |more: Value| {
        let mut change = json!({ "architectures": ["GPTNeoXForCausalLM"], "num_attention_heads": 2 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(change)
    };
    let found = neox(json!({})).unwrap();
    assert_eq!((found.head_dim, found.rotary_dim, found.norm_eps), (16, 4, 1e-5));
    assert!(
        found.has_parallel_blocks && found.attention_bias && found.mlp_bias && !found.tie_word_embeddings
    );
    assert_eq!(found.activation, Activation::Gelu);
    let old = neox(json!({ "rotary_pct": 1.0, "rotary_emb_base": 500 })).unwrap();
    assert_eq!((old.rotary_dim, old.rope_theta), (16, 500.0));
    let again = ModelConfig::from_json(Path::new("c"), old.to_json(StoreDtype::F32)).unwrap();
    assert_eq!((again.rotary_dim, again.rope_theta), (16, 500.0));
    for wrong in [json!({ "rotary_pct": 1.5 }), json!({ "num_attention_heads": 3 })] {
        neox(wrong).unwrap_err();
    }
}

#[test]
fn experts_are_in_the_blocks_that_are_named() {
    let moe = |more: Value| {
        let mut change = json!({
            "architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 4, "num_experts": 6,
            "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(change)
    };
    let found = moe(json!({ "decoder_sparse_step": 2, "mlp_only_layers": [3] })).unwrap();
    let experts = found.experts.clone().unwrap();
    assert_eq!(experts.is_sparse, [false, true, false, false]);
    assert_eq!((experts.n_experts, experts.n_per_token, experts.intermediate_size), (6, 2, 24));
    assert_eq!((found.active_intermediate_size(), experts.has_normalised_weights), (48, false));
    let again = ModelConfig::from_json(Path::new("c"), found.to_json(StoreDtype::F32)).unwrap();
    assert_eq!(again.experts, found.experts);
    for (wrong, key) in [
        (json!({ "output_router_logits": true }), "output_router_logits"),
        (json!({ "num_experts_per_tok": 7 }), "num_experts_per_tok"),
        (json!({ "num_experts": 100_000 }), "num_experts"),
        (json!({ "mlp_only_layers": "all" }), "mlp_only_layers"),
    ] {
        let message = moe(wrong).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
    }
}

#[test]
fn smollm3_rotates_in_three_of_four_blocks() {
    let positions = |more: Value| {
        let mut change = json!({ "architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 5 });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = config(change).unwrap();
        config.layers.iter().map(|layer| layer.positions == Positions::Rotary).collect::<Vec<_>>()
    };
    assert_eq!(positions(json!({})), [true, true, true, false, true]);
    assert_eq!(positions(json!({ "no_rope_layers": [0, 1, 1, 0, 0] })), [false, true, true, false, false]);
}

#[test]
fn token_ids_may_be_numbers_lists_or_nothing() {
    let ids = |value| config(json!({ "eos_token_id": value, "pad_token_id": -1 })).unwrap();
    assert_eq!(ids(json!(2)).eos_ids, [2]);
    assert_eq!(ids(json!([128_001, 128_009])).eos_ids, [128_001, 128_009]);
    assert!(ids(Value::Null).eos_ids.is_empty());
    assert_eq!(ids(json!(2)).pad_id, None);
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let refusal = |change| config(change).unwrap_err().to_string();
    assert_eq!(
        refusal(json!({ "architectures": ["Qwen4ForCausalLM"] })),
        "config.json: unknown model architecture \"Qwen4ForCausalLM\"; the nearest known one is \"Qwen2ForCausalLM\""
    );
    assert!(refusal(json!({ "architectures": ["MixtralForCausalLM"] })).contains("\"MistralForCausalLM\""));
    let hint = config(json!({ "architectures": ["BloomForCausalLM"] })).unwrap_err().hint().unwrap();
    assert!(Architecture::ALL.iter().all(|known| hint.contains(known.class_name())), "{hint}");
    assert!(refusal(json!({ "hidden_act": "quick_gelu" })).contains("hidden_act: unknown activation"));
    assert!(refusal(json!({ "num_key_value_heads": 3 })).contains("3 does not divide"));
    assert!(refusal(json!({ "head_dim": 7 })).contains("odd"));
    assert!(refusal(json!({ "num_attention_heads": 5 })).contains("5 does not divide hidden_size, 32"));
    assert!(refusal(json!({ "num_attention_heads": 0 })).contains("expected a count from 1"));
    assert!(refusal(json!({ "vocab_size": 1u64 << 40 })).contains("expected a count from 1"));
    assert!(refusal(json!({ "vocab_size": null })).contains("vocab_size: the key is missing"));
    assert!(
        refusal(json!({ "rms_norm_eps": "x" }))
            .contains("rms_norm_eps: expected a number above 0, found \"x\"")
    );
    let quantised = json!({ "quantization_config": { "quant_method": "bitsandbytes" } });
    assert!(refusal(quantised).contains("quantised by bitsandbytes"));
}

#[test]
fn written_configurations_keep_everything_and_speak_both_dialects() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let change = json!({ "rope_theta": 500000.0, "rope_scaling": scaling, "initializer_range": 0.02 });
    let original = config(change).unwrap();
    let written = original.to_json(StoreDtype::BF16);
    assert_eq!(written["dtype"], "bfloat16");
    assert_eq!(written["torch_dtype"], "bfloat16");
    assert_eq!(written["initializer_range"], 0.02);
    assert_eq!(written["rope_parameters"]["rope_theta"], 500000.0);
    assert_eq!(written["rope_parameters"]["rope_type"], "llama3");
    for dropped in [["rope_parameters", "rope_parameters"], ["rope_theta", "rope_scaling"]] {
        let mut one_dialect = written.clone();
        for key in dropped {
            one_dialect.as_object_mut().unwrap().remove(key);
        }
        let read = ModelConfig::from_json(Path::new("c"), one_dialect).unwrap();
        assert_eq!(
            ModelConfig { raw: Value::Null, ..read },
            ModelConfig { raw: Value::Null, ..original.clone() }
        );
    }
}

#[test]
fn t5_has_defaults_of_its_own() {
    let t5 = |change: Value| {
        let mut base = json!({
            "architectures": ["T5ForConditionalGeneration"], "vocab_size": 100, "d_model": 32, "d_kv": 6, "d_ff": 48,
            "num_layers": 2, "num_heads": 4,
        });
        for (key, value) in change.as_object().unwrap() {
            base[key] = value.clone();
        }
        ModelConfig::from_json(Path::new("config.json"), base)
    };
    let first = t5(json!({})).unwrap();
    let parts = first.encoder_decoder.clone().unwrap();
    assert_eq!((first.n_layers, parts.n_encoder_layers, parts.n_decoder_layers), (4, 2, 2));
    assert_eq!((first.head_dim, first.attention_scale, first.activation), (6, 1.0, Activation::Relu));
    assert_eq!((parts.n_buckets, parts.max_distance, parts.start_id, parts.dropout), (32, 128, 0, 0.1));
    assert!(parts.scales_head_input && !parts.is_gated && first.tie_word_embeddings);
    assert_eq!((first.eos_ids.as_slice(), first.pad_id), (&[1][..], Some(0)));
    assert_eq!(first.to_json(StoreDtype::F32)["rope_theta"], Value::Null);

    let flan = t5(json!({
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "num_decoder_layers": 3, "architectures": ["T5WithLMHeadModel"],
    }));
    let flan = flan.unwrap();
    let parts = flan.encoder_decoder.clone().unwrap();
    assert_eq!((flan.n_layers, flan.activation, parts.is_gated), (5, Activation::GeluTanh, true));
    assert!(!parts.scales_head_input);
    let written = flan.to_json(StoreDtype::F32);
    assert_eq!(written["architectures"], json!(["T5ForConditionalGeneration"]));
    assert_eq!(
        ModelConfig::from_json(Path::new("c"), written).unwrap().encoder_decoder,
        flan.encoder_decoder
    );

    for (key, value) in [
        ("feed_forward_proj", json!("gated-maxout")),
        ("relative_attention_num_buckets", json!(30)),
        ("relative_attention_max_distance", json!(16)),
        ("dropout_rate", json!(1.0)),
        ("is_encoder_decoder", json!(false)),
    ] {
        let error = t5(json!({ key: value })).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
