#!/usr/bin/env python3
"""Write pretokenizers.json: how llama.cpp cuts texts into words for every name of `tokenizer.ggml.pre`.

Run: python tests/golden/make_pretokenizers.py LLAMA_CPP   (needs tokenizers, g++ and the sources of llama.cpp)

The names and their patterns are read from src/llama-vocab.cpp, and src/unicode.cpp is compiled to apply them. Where a
comment there gives the pattern of the model's own tokenizer.json because std::regex knows less, or llama.cpp takes spaces
for others (UNCHANGED), that pattern is applied with the tokenizers package instead; such kinds have "own". Names whose rules are a function of llama.cpp, or whose
vocabulary is no byte-level BPE, are left out.
"""
import ast
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tokenizers import Regex, pre_tokenizers


HERE = Path(__file__).resolve().parent
LEFT_OUT = {"KIMI_K2", "AFMOE", "GEMMA4", "SARVAM_MOE", "WHITESPACE", "CHAMELEON", "DEFAULT", "GRANITE_EMB_MULTI"}
UNCHANGED = {"DEEPSEEK_LLM", "DEEPSEEK_CODER"}
TEXTS = [
    "", " ", "   ", "\n", "\n\n", "Hello", " Hello", "Hello world", "hello  world   three    spaces ", "HELLO World",
    "The quick brown fox jumps over the lazy dog.", "line one\nline two\r\n\ttabbed\n\n\n  end\n",
    "def f(x):\n    return x + 1\n", "1234567 3.14 007 1,000,000", "x=1+2; y!=3 && z||w", "Don't you're WE'LL I'D he'S",
    "café naïve Größe Ünïcödé", "e\u0301 and n\u0303 combine", "日本語のテキストです。漢字", "Привет, мир!",
    "مرحبا بالعالم", "emoji 😀👍🏽 and 👨‍👩‍👧 family", "<|im_start|>user\nhi there<|im_end|>\n",
    "text<|im_end|>after <|im_end|> it",
    "<s>bos and</s>eos <s> again", "<unk><pad><0x0A>", "a <tool> b<tool>c", "nbsp\u00a0em\u2003zero\u200bwidth",
    "ﬁ ① ½ ² ٣٤٥ Ⅷ", "▁under ▁ score_", "aaaaaaaaaaaaaaaaa", "a hippopotamus the hippopotamus",
    "https://example.com/a_b?c=%20#d", "\u0000\u0001\u007f", "tab\t\ttab \t mix", "(((nested [brackets] {here})))",
    "DON'T I'Ll we'RE it'S o'clock 's", "don’t “quoted” – dash", "1 12 123 1234 12345 123456 1234567 12,345.678",
    "x1y22z333", "CamelCaseWords and HTTPServer iPhone ABCdef", "/path/to/file.txt\n//comment\r\n/* x */",
    "ÉCOLE École ÀÉÎõü ǅungla ʰʲ", "नमस्ते दुनिया", "สวัสดีชาวโลก", "한국어 문장입니다 ㄱㄴ", "日本語カタカナ ひらがな123。", "中文，标点！",
    "a\n\nb \n c\n \nd\t\n", "trail   \n", "end  ", "\r\n\r\n", "a\u3000b\u00a0c", "(x|y).z, w! q? …。", "$100 + €20 = `code`",
    "#include <a.h>\n\tint x=0;//y", "tabs\t\t\tand   spaces", "x²y³ ½ Ⅷ ①", "e\u0301a\u0308 o\u0302", "😀👍🏽x", "'tis 'quoted' 'll",
    "_snake_case_ __init__", "   leading", "a.b.c...d", "A1B2", "?!?!\n\n!!", "the end.\n"]
HARNESS = r"""
#include "unicode.h"
#include <iostream>
static std::string unhex(const std::string &h){std::string o;for(size_t i=0;i+1<h.size();i+=2)o+=(char)std::stoi(h.substr(i,2),nullptr,16);return o;}
int main(){std::string line;while(std::getline(std::cin,line)){auto tab=line.find('\t');std::vector<std::string> exprs;std::string part;
for(char c:line.substr(0,tab)){if(c==','){exprs.push_back(unhex(part));part="";}else part+=c;}exprs.push_back(unhex(part));
for(auto&w:unicode_regex_split(unhex(line.substr(tab+1)),exprs,false))std::cout<<w.size()<<' ';std::cout<<'\n';}}
"""


def literals(lines):
    return [ast.literal_eval(m) for line in lines for m in re.findall(r'"(?:[^"\\]|\\.)*"', line)]


def original(comment):
    text = re.search(r'"(.*)"', comment).group(1)
    return text.replace("\\\\", "\\")


def kinds(source):
    """For each kind of llama-vocab.cpp: its names, its patterns and, where a comment has them, the original ones."""
    body = source[source.index("struct llm_tokenizer_bpe "):]
    body = body[:body.index("bool byte_encode = true")]
    found, cases, patterns, comments = {}, [], [], []
    for line in body.splitlines():
        line = line.strip()
        if m := re.match(r"case LLAMA_VOCAB_PRE_TYPE_(\w+):", line):
            cases.append(m.group(1))
        elif line.startswith("default:"):
            cases.append("DEFAULT")
        elif line.startswith("//"):
            comments += [line] if '\\\\p{' in line and '"' in line else []
        elif line.startswith("break"):
            for case in cases:
                found[case] = {"patterns": patterns, "own": [original(c) for c in comments], "names": []}
            cases, patterns, comments = [], [], []
        elif line.startswith('"'):
            patterns += literals([line.split('", //')[0] + '"' if '", //' in line else line])
    for condition, kind in re.findall(r'if \(\s*((?:\s*tokenizer_pre == "[^"]+"\s*(?:\|\|)?)+)\)\s*\{\s*pre_type = '
                                      r"LLAMA_VOCAB_PRE_TYPE_(\w+);", source):
        found[kind]["names"] += re.findall(r'"([^"]+)"', condition)
    return {k: v for k, v in found.items() if k not in LEFT_OUT and v["names"]}


def main():
    root = Path(sys.argv[1])
    found = kinds((root / "src/llama-vocab.cpp").read_text())
    texts = list(dict.fromkeys(TEXTS))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "split"
        (Path(folder) / "main.cpp").write_text(HARNESS)
        sources = [root / "src/unicode.cpp", root / "src/unicode-data.cpp", Path(folder) / "main.cpp"]
        subprocess.run(["g++", "-O1", "-std=c++17", f"-I{root / 'src'}", "-o", program, *sources], check=True)
        asked = [(kind, text) for kind in found for text in texts]
        lines = "".join(",".join(p.encode().hex() for p in found[kind]["patterns"]) + "\t" + text.encode().hex() + "\n"
                        for kind, text in asked)
        answers = subprocess.run([program], input=lines, text=True, capture_output=True, check=True).stdout.splitlines()
    for (kind, _), answer in zip(asked, answers, strict=True):
        found[kind].setdefault("words", []).append([int(n) for n in answer.split() if n != "0"])
    out, same = [], {}
    for kind, rules in found.items():
        entry = {"names": rules["names"], "words": rules["words"]}
        patterns = rules["patterns"] if kind in UNCHANGED else rules["own"]
        if kind in UNCHANGED or len(patterns) == len(rules["patterns"]) == 1:
            split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
            own = [[len(w.encode()) for w, _ in split.pre_tokenize_str(t)] for t in texts]
            if own != entry["words"]:
                print(kind, "differs from llama.cpp in",
                      [t for t, a, b in zip(texts, own, entry["words"]) if a != b])
                entry = {"names": rules["names"], "own": True, "words": own}
        key = json.dumps(entry["words"])
        if key in same:
            same[key]["names"] += entry["names"]
        else:
            same[key] = entry
            out.append(entry)
    versions = {"tokenizers": version("tokenizers"), "llama.cpp": sys.argv[2] if sys.argv[2:] else "unknown"}
    head = json.dumps({"versions": versions, "texts": texts}, ensure_ascii=False)[:-1]
    lines = ",\n".join(json.dumps(kind, ensure_ascii=False, separators=(",", ":")) for kind in out)
    (HERE / "pretokenizers.json").write_text(f'{head},\n"kinds": [\n{lines}\n]}}\n')
    for entry in out:
        print(len(entry["words"]), entry["names"])


if __name__ == "__main__":
    main()
