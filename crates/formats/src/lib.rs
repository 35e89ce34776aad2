//! Readers and writers of model files: safetensors, GGUF, config.json, PEFT adapters, tokenizers, chat templates, the hub.
