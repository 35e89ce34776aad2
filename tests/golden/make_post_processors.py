#!/usr/bin/env python3
"""Write tokenizers/post_processors.json and tokenizers/bpe-gpt2: what transformers puts around texts, and GPT-2's two files.

Run: python tests/golden/make_post_processors.py   (needs transformers, tokenizers and jinja2)

post_processors.json has for each post-processor the ids of "ab" by AutoTokenizer. They are the same for every class of
tokenizer and with every `add_bos_token` and `add_eos_token`, which this script checks. bpe-gpt2 has vocab.json,
merges.txt and no tokenizer.json, with the ids of GPT2Tokenizer and Qwen2Tokenizer.
"""
import json
import tempfile
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, Qwen2Tokenizer

OUT = Path(__file__).resolve().parent / "tokenizers"
VOCAB = {"a": 0, "b": 1, "<s>": 2, "</s>": 3, "<sop>": 4}
BOS, EOS, SOP = ("<s>", 2), ("</s>", 3), ("<sop>", 4)


def template(single, *special):
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=list(special))


POST_PROCESSORS = {
    "none (Qwen)": None,
    "ByteLevel (Qwen, GPT-2)": processors.ByteLevel(trim_offsets=False),
    "BOS (Gemma, Mistral)": template("<s> $A", BOS),
    "Sequence (Llama 3)": processors.Sequence([processors.ByteLevel(trim_offsets=False), template("<s> $A", BOS)]),
    "EOS (T5)": template("$A </s>", EOS),
    "both": template("<s> $A </s>", BOS, EOS),
    "two before (GLM)": template("<s> <sop> $A", BOS, SOP),
    "other than BOS": template("<sop> $A", SOP),
    "Roberta": processors.RobertaProcessing(EOS, BOS),
}
CLASSES = [None, "PreTrainedTokenizerFast", "LlamaTokenizer", "GemmaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer",
           "CohereTokenizer"]
FLAGS = [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True},
         {"add_bos_token": True, "add_eos_token": True}, {"add_bos_token": False, "add_eos_token": False}]
TEXTS = ["Hello world", " the  sea\n\n and 12345", "I don't know, WE'LL see", "café e\u0301 日本 😀", "<|endoftext|>a<tool>b",
         "\ttabs\t and   spaces  ", "def f(x):\n    return x"]


def around():
    found = []
    for name, post_processor in POST_PROCESSORS.items():
        tok = Tokenizer(models.BPE(vocab=VOCAB, merges=[]))
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        tok.add_special_tokens(["<s>", "</s>", "<sop>"])
        if post_processor is not None:
            tok.post_processor = post_processor
        answers = set()
        for cls in CLASSES:
            for flags in FLAGS:
                with tempfile.TemporaryDirectory() as folder:
                    tok.save(f"{folder}/tokenizer.json")
                    config = {"bos_token": "<s>", "eos_token": "</s>", **flags}
                    config |= {"tokenizer_class": cls} if cls else {}
                    Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
                    answers.add(tuple(AutoTokenizer.from_pretrained(folder)("ab")["input_ids"]))
        (ids,) = answers
        found.append({"of": name, "rules": json.loads(tok.to_str())["post_processor"], "ids": list(ids)})
    return {"tokenizer": json.loads(tok.to_str()), "cases": found}


def gpt2():
    folder = OUT / "bpe-gpt2"
    folder.mkdir(exist_ok=True)
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    corpus = ["Hello world, how are you today? I don't know what we'll see by the sea.", "the sea and the sun and the land",
              "def add(a, b):\n    return a + b", "12345 and 1999 and 2024", "café naïve"] * 20
    tok.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.model.save(str(folder))
    size = tok.get_vocab_size()
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": size}) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}\n')
    vocab = json.loads((folder / "vocab.json").read_text())
    merges = [tuple(m.split(" ")) for m in (folder / "merges.txt").read_text().splitlines() if not m.startswith("#")]
    cases = {}
    for cls in (GPT2Tokenizer, Qwen2Tokenizer):
        made = cls(vocab=vocab, merges=merges)
        made.add_tokens(["<tool>"])
        assert made.convert_tokens_to_ids("<tool>") == size
        cases[cls.__name__] = [{"text": t, "ids": made.encode(t, add_special_tokens=False)} for t in TEXTS]
    (folder / "golden.json").write_text(json.dumps({"versions": versions(), "cases": cases}, ensure_ascii=False) + "\n")


def versions():
    return {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}


def main():
    made = {"versions": versions(), **around()}
    (OUT / "post_processors.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")
    gpt2()


if __name__ == "__main__":
    main()
