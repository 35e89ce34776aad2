#!/usr/bin/env python3
"""Write small tokenizers as Hugging Face folders and as GGUF, with the ids and text they must give.

Run: python tests/golden/make_tokenizers.py   (needs transformers, tokenizers, sentencepiece and gguf)

bpe-smollm  byte-level BPE, digits split one by one, saved as transformers 5 saves it
bpe-llama3  byte-level BPE with Llama 3's splitting pattern, ignore_merges and a template that adds <s>
spm-llama   SentencePiece BPE with byte fallback, laid out as Llama 2's tokenizer.json of transformers 4
spm-t5      SentencePiece unigrams without bytes, as transformers' T5 tokenizer makes them; no GGUF
Each other folder also holds the vocabulary as tokenizer.gguf, which has no weights but one tensor of 32 zeros.
"""
import io
import json
import random
import shutil
from importlib.metadata import version

import gguf
import numpy as np
import sentencepiece
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5Tokenizer

import common
from common import HERE

OUT = HERE / "tokenizers"
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
          "{% endif %}")
LLAMA2 = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
          "message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
          "{% endfor %}")
SENTENCES = """The quick brown fox jumps over the lazy dog.
Hello world, how are you today?
I don't think you're right; they've said it's theirs and we'll see.
What is the capital of France? The capital of France is Paris.
Write a short story about the sea, the sun and the other side of the river.
def add(a, b):
    return a + b
for i in range(10):
    print(i, i * i)
There were 12 apples, 345 pears and 1999 nuts in 3.5 boxes.
Un café à la crème, s'il vous plaît; naïve façade.
Größe, Übung und Straße sind deutsche Wörter.
In the beginning there was nothing, then there was something.
She sells sea shells on the sea shore, and that is that.
Give me three tips for staying healthy: sleep, eat well, and walk.""".split("\n")
TEXTS = [
    "", " ", "   ", "\n", "\n\n", "Hello", " Hello", "Hello world", "hello  world   three    spaces ", "HELLO World",
    "The quick brown fox jumps over the lazy dog.", "line one\nline two\r\n\ttabbed\n\n\n  end\n",
    "def f(x):\n    return x + 1\n", "1234567 3.14 007 1,000,000", "x=1+2; y!=3 && z||w", "Don't you're WE'LL I'D he'S",
    "café naïve Größe Ünïcödé", "e\u0301 and n\u0303 combine", "日本語のテキストです。漢字", "Привет, мир!",
    "مرحبا بالعالم", "emoji 😀👍🏽 and 👨‍👩‍👧 family", "<|im_start|>user\nhi there<|im_end|>\n",
    "text<|im_end|>after <|im_end|> it",
    "<s>bos and</s>eos <s> again", "<unk><pad><0x0A>", "a <tool> b<tool>c", "nbsp\u00a0em\u2003zero\u200bwidth",
    "ﬁ ① ½ ² ٣٤٥ Ⅷ", "▁under ▁ score_", "aaaaaaaaaaaaaaaaa", "a hippopotamus the hippopotamus",
    "https://example.com/a_b?c=%20#d", "\u0000\u0001\u007f", "tab\t\ttab \t mix", "(((nested [brackets] {here})))"]


def corpus():
    rng = random.Random(3)
    return [" ".join(rng.choices(SENTENCES, k=3)) if i % 2 else SENTENCES[i // 2 % len(SENTENCES)] for i in range(300)]


def byte_level(split, specials, size, ignore_merges):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tok.pre_tokenizer = split
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return tok


def add_to_vocab(tok, word):
    """Add a word that no merge makes: only a tokenizer that ignores merges for whole words finds it."""
    data = json.loads(tok.to_str())
    data["model"]["vocab"][word] = len(data["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(data))


def bpe_smollm(folder):
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok = add_to_vocab(byte_level(split, specials, 400, False), "Ġhippopotamus")
    tok.add_tokens(["<tool>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<|im_end|>",
                                   pad_token="<|im_end|>", unk_token="<|endoftext|>", model_max_length=128)
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def bpe_llama3(folder):
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok = add_to_vocab(byte_level(split, [], 397, True), "Ġhippopotamus")
    tok.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    bos = ("<s>", tok.token_to_id("<s>"))
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[bos])])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="<|im_end|>", model_max_length=128)
    fast.save_pretrained(folder)
    # the template inside tokenizer_config.json, as transformers 4 wrote it
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHATML}, indent=2) + "\n")


def spm_llama(folder):
    """Train with sentencepiece itself and lay its pieces out as Llama 2's tokenizer.json does."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, model_type="bpe", vocab_size=420, byte_fallback=True,
        character_coverage=0.999, split_digits=True, normalization_rule_name="identity", num_threads=1,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2)
    spm = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    pieces = [(p.piece, p.score) for p in sentencepiece_model_pb2.ModelProto.FromString(out.getvalue()).pieces]
    vocab = {p: i for i, (p, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        if not spm.is_byte(vocab[piece]) and not spm.is_control(vocab[piece]):
            merges += [(score, pair) for pair in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    merges = [pair for _, pair in sorted(merges, key=lambda m: -m[0])]

    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                       special_tokens=[("<s>", 1)])
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {i: {"content": t, **plain, "special": True} for i, t in enumerate(("<unk>", "<s>", "</s>"))}
    added[len(vocab)] = {"content": "<|user|>", **plain, "rstrip": True, "special": True}
    tok.add_special_tokens([AddedToken(**a) for a in added.values()])
    folder.mkdir(parents=True)
    tok.save(str(folder / "tokenizer.json"))
    named = {f"{k}_token": {"content": t, **plain} for k, t in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))}
    typed = {k: {"__type": "AddedToken", **t} for k, t in named.items()}
    config = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added, **typed,
              "chat_template": LLAMA2, "clean_up_tokenization_spaces": False, "legacy": True, "model_max_length": 128,
              "pad_token": None, "sp_model_kwargs": {}, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=2) + "\n")
    return spm, pieces


def spm_t5(folder):
    """Train with sentencepiece itself as T5 was: pad, end and unknown first, and a table of what letters become.

    T5's table is NFKC, of 240 kB; here a few of its lines will do.
    """
    out = io.BytesIO()
    rules = folder.parent / "rules.tsv"
    rules.parent.mkdir(parents=True, exist_ok=True)
    lines = [(0xFB01, "66 69"), (0x2460, "31"), (0xA0, "20"), (0x2003, "20"), (0x2167, "56 49 49 49"), (0x9, "20"),
             (0xA, "20"), (0xD, "20")]
    rules.write_text("".join(f"{letter:X}\t{becomes}\n" for letter, becomes in lines))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, model_type="unigram", vocab_size=300, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, character_coverage=1.0, num_threads=1, minloglevel=2, hard_vocab_limit=False,
        normalization_rule_tsv=str(rules))
    rules.unlink()
    proto = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
    pieces = [(p.piece, p.score) for p in proto.pieces]
    # Those that T5 puts in the holes of its data, the highest number first.
    vocab = pieces + [(f"<extra_id_{i}>", 0.0) for i in range(9, -1, -1)]
    made = T5Tokenizer(vocab=vocab, extra_ids=10, _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)
    made.save_pretrained(folder)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def write_t5():
    folder = OUT / "spm-t5"
    shutil.rmtree(folder, ignore_errors=True)
    spm = spm_t5(folder)
    texts = TEXTS + ["translate English to German: The house is <extra_id_0> and <extra_id_9>.", "</s>", "a</s>"]
    found = cases(folder, texts)
    for case in found:
        if not any(mark in case["text"] for mark in ("<extra_id", "</s>", "<unk>", "<pad>", "▁")):
            assert case["ids"] == spm.encode(case["text"]), (case, spm.encode(case["text"]))
    size = len(AutoTokenizer.from_pretrained(folder))
    versions = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
                "sentencepiece": sentencepiece.__version__}
    common.write_json(folder / "golden.json", {"versions": versions, "vocab_size": size, "cases": found,
                                               "prefixes": prefixes(folder, "a river café")})
    print("spm-t5", "vocabulary of", size)


def add_vocabulary(writer, folder, pre=None, pieces=None):
    """Put the tokenizer of `folder` into a GGUF file: byte-level BPE with `pre`, SentencePiece with `pieces`."""
    data = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = {a["content"]: a for a in data["added_tokens"]}
    ids = {**data["model"]["vocab"], **{t: a["id"] for t, a in added.items()}}
    tokens = sorted(ids, key=ids.get)
    types = [gguf.TokenType.NORMAL if t not in added else gguf.TokenType.CONTROL if added[t]["special"]
             else gguf.TokenType.USER_DEFINED for t in tokens]
    if pieces is None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]])
    else:
        for i, (p, _) in enumerate(pieces):
            if p.startswith("<0x"):
                types[i] = gguf.TokenType.BYTE
        types[0] = gguf.TokenType.UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores([s for _, s in pieces] + [-1000.0] * (len(tokens) - len(pieces)))
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(True)
    writer.add_token_types(types)

    def id_of(name):
        t = config[name]
        return ids[t if isinstance(t, str) else t["content"]]

    writer.add_bos_token_id(id_of("bos_token"))
    writer.add_eos_token_id(id_of("eos_token"))
    writer.add_add_bos_token(len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("").ids) == 1)
    writer.add_add_eos_token(False)
    jinja = folder / "chat_template.jinja"
    writer.add_chat_template(jinja.read_text() if jinja.exists() else config["chat_template"])
    return len(tokens)


def naive_spm(text, pieces, specials):
    """Encode as llama.cpp does: split at special tokens, then merge the best-scored adjacent pair until none is left.

    A leading space is added to each part that starts the text or follows a special token.
    """
    if not text:
        return []
    for name, i in specials:
        if name in text:
            left, right = text.split(name, 1)
            return naive_spm(left, pieces, specials) + [i] + naive_spm(right, pieces, specials)
    ids = {p: i for i, (p, _) in enumerate(pieces)}
    parts = list(("▁" + text).replace(" ", "▁"))
    while True:
        best = max(((pieces[ids[a + b]][1], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ids),
                   default=None)
        if best is None:
            break
        i = -best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return [i for p in parts for i in ([ids[p]] if p in ids else [ids[f"<0x{b:02X}>"] for b in p.encode()])]


def cases(folder, texts):
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(folder)
    out = []
    for text in texts:
        ids, whole = (tok.encode(text, add_special_tokens=special).ids for special in (False, True))
        assert ids == auto.encode(text, add_special_tokens=False) and whole == auto.encode(text), text
        decoded, short = (tok.decode(ids, skip_special_tokens=skip) for skip in (False, True))
        assert decoded == auto.decode(ids, skip_special_tokens=False), (text, decoded)
        out.append({"text": text, "ids": ids, "ids_with_special": whole, "decoded": decoded,
                    "decoded_skip_special": short})
    return out


def prefixes(folder, text):
    """What the first 0, 1, 2... ids of a text decode to, cut inside characters too, as streaming output needs it."""
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tok.encode(text, add_special_tokens=False).ids
    return {"text": text, "ids": ids, "decoded": [tok.decode(ids[:n]) for n in range(len(ids) + 1)]}


def write(name, made, **gguf_kind):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    spm, pieces = made(folder) or (None, None)
    texts = TEXTS + (["<|user|>hello", "<|user|>\n hello"] if spm else [])
    found = cases(folder, texts)
    writer = gguf.GGUFWriter(folder / "tokenizer.gguf", "llama")
    size = add_vocabulary(writer, folder, pieces=pieces, **gguf_kind)
    writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    if spm:
        specials = [("<|user|>", len(pieces)), ("<unk>", 0), ("</s>", 2), ("<s>", 1)]
        in_gguf = [{"text": t, "ids": naive_spm(t, pieces, specials)} for t in texts]
        for got, want in zip(in_gguf, found):
            assert got["ids"] == want["ids"] or got["text"] == "<|user|>\n hello", got
            assert got["ids"] == spm.encode(got["text"]) or any(s in got["text"] for s, _ in specials), got
    else:
        in_gguf = [{"text": c["text"], "ids": c["ids"]} for c in found]
    versions = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__, "gguf": version("gguf")}
    if spm:
        versions["sentencepiece"] = sentencepiece.__version__
    common.write_json(folder / "golden.json", {"versions": versions, "vocab_size": size, "cases": found,
                                               "gguf_cases": in_gguf, "prefixes": prefixes(folder, "a 😀é日本 b\n")})
    print(name, "vocabulary of", size)


def main():
    write("bpe-smollm", bpe_smollm, pre="smollm")
    write("bpe-llama3", bpe_llama3, pre="llama-bpe")
    write("spm-llama", spm_llama)
    write_t5()


if __name__ == "__main__":
    main()
