#!/usr/bin/env python3
"""Write patterns.json: how the tokenizers package, which uses Oniguruma, cuts texts with patterns of models and odd ones.

Run: python tests/golden/make_patterns.py   (needs tokenizers from PyPI)

Each pattern has the bytes of each word for the first texts, and a hash of that for all texts (`n_texts` of them, made of
`parts` by a small generator that the test has, too). `refused` are patterns that Oniguruma reads and this project does
not. `classes` are sets of characters: how many of the planes in use are in it, and a hash of their numbers.
"""
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

HERE = Path(__file__).resolve().parent
N_TEXTS = 2000
N_WRITTEN = 12
END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
S = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
MODELS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3, phi-4": S + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + END,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
              r"|\s+(?!\S)|\s+",
    "cl100k of tiktoken": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
                          r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "qwen2, qwen3": S + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + END,
    "qwen3.5": S + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + END,
    "deepseek v3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                   r"| ?[\p{P}\p{S}]+[\r\n]*" + END,
    "deepseek v3, kana": "[一-龥\u3040-ゟ゠-ヿ]+",
    "deepseek coder": r"\s?\p{P}+",
    "deepseek llm": r"\s+$",
    "gpt-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + S +
              r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + S +
              r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + END,
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
              r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + END,
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "falcon": "[0-9][0-9][0-9]",
    "superbpe": r"(?=(\d{3})+(?!\d))",
    "tiny aya": r"\d{1,3}(?=(?:\d{3})*\b)",
    "jais 2": S + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{16}(?!\S)|\s{4}(?!\S)"
                  r"|\s{1,2}(?!\S)|\s{1}",
    "exaone": S + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"
                  r"|\s+(?!\S)|\s+",
    "kimi": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + END,
    "clip": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "whisper, gemma": r"[^\n]+|[\n]+", "spm": r"\A +| +\z", "nllb": r" {2,}", "camembert": r"\s{2,}|[\n\r\t]",
}
ODD = [
    r"\p{N}{1,3}+", r"\d{2}+", r"\d{2}?a", r"\d{1,2}?", r"\d{,2}\s", r"a++b", r"a?+b", r"(?>a+)b", r"a**", r"a+{2}",
    r"(?:ab|a)+?b", r"^a", r"^", r"a$", r"$", r"^\s*$", r"\s\Z", r"\s\z", r"\A\w", r"\<b", r"\>", r"a\<|\-\/",
    r"\h+", r"\H+", r"[\h]", r"[^\h]", r"[[:alpha:]]+", r"[[:^alpha:]]+", r"[[:punct:]]+", r"[[:space:]]+",
    r"[[:upper:]][[:lower:]]*", r"[[:alnum:]]+", r"[[:digit:]]+", r"[[:xdigit:]]+", r"[[:word:]]+", r"[[:blank:]]",
    r"\w+", r"\W+", r"[\w']+", r"[^\w]", r"[\W\d]+", r"\b", r"\B", r"\b\w", r"\d+\b", r"(?i:k)", r"(?i)'s|'T",
    r"(?i:[a-z]+)", r"(?i:[^a-z]+)", r"a(?i)b|c", r"(?:a(?i)b|c)d", r"(?m).+", r"(?m:.)b.", r".+", r".", r"(?i-m:A.)",
    r"\p{^L}+", r"\P{L}+", r"\P{^L}+", r"[^\P{N}]+", r"[\p{^N}\s]+", r"\p{Han}+", r"[\p{Hiragana}\p{Katakana}]+",
    r"\p{Hangul}+", r"\p{Thai}+", r"\p{Cyrillic}+", r"\p{Latin}+", r"\p{Lu}\p{Ll}+", r"\p{Alphabetic}+",
    r"[a-z&&[^b]]+", r"[\p{L}&&[^\p{Latin}]]+", r"[a~~b]+", r"[+--]", r"[---]", r"[]a]", r"[^]a]+", r"[a[bc]]+",
    r"[^a[bc]]+", r"[\]\[]", r"[-a]+", r"[a-]+", r"[&]+", r"[\b]", r"\R", r"\O", r"\N+", r"\u0041", r"\x{4e00}",
    r"[\x{4e00}-\x{9fff}]+", r"[\u4e00-\u9fff]+", r"\x41", r"(?#comment)a", r"}", r"]", r"a{", r"{", r"a{x}", r"a{1",
    r"x{ 1,2}", r"\'|\ |\é|\_", r"(?<=a)b", r"(?<!a)b", r"(?<=a|bc)d", r"(?=\d)", r"a|", r"(\d)(\w)", r"\s+(?!\S)",
    r"\S", r"[^\s\d]+", r"[\s\S]b", r"(?:)", r"\t| {4}",
]
REFUSED = [
    r"(?i:ss)", r"(?i)st", r"(?i:ff)", r"(?i:é)", r"(?i:[é])", r"(?i)\p{L}", r"(?i:\w)", r"\X", r"\y", r"\K", r"\Ga",
    r"(a)\1", r"(?<n>a)\k<n>", r"\101", r"(?x) a b", r"a(?~b)", r"\pL+", r"\p{cntrl}", r"\p{ L }", r"\p{Emoji}",
    r"[^a&&b]", r"\cA", r"\Qa\E", r"[[:cntrl:]]", r"a{3,1}"]
CLASSES = [r"\p{L}", r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}", r"\p{Z}",
           r"\p{Cc}", r"\p{Alphabetic}", r"\p{Uppercase}", r"\p{Lowercase}", r"\p{White_Space}", r"\p{Letter}", r"\s", r"\d",
           r"\w", "[[:alpha:]]", "[[:digit:]]", "[[:alnum:]]", "[[:upper:]]", "[[:lower:]]", "[[:space:]]", "[[:blank:]]",
           "[[:punct:]]", "[[:xdigit:]]", "[[:word:]]", "(?i:[a-z])", "(?i:[^a-z])", "(?i:k)", "(?i:s)"]
CLASSES += [rf"\p{{{name}}}" for name in (
    "Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Uppercase_Letter Lowercase_Letter Mark Number "
    "Decimal_Number Punctuation Symbol Separator Arabic Armenian Bengali Cyrillic Devanagari Georgian Greek Han Hangul "
    "Hebrew Hiragana Katakana Khmer Lao Latin Myanmar Tamil Telugu Thai Tibetan").split()]
PARTS = [
    " ", " ", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", "a", "b", "ab", "abc", "aab", "bcd", "acd", "A", "B", "The",
    "hello", "World", "HTTP", "don't", "WE'LL", "'s", "'S", "'ſ", "'", "ſ", "K", "é", "É", "e\u0301", "ß", "ﬆ", "ﬃ", "ǅ",
    "ʰ", "1", "12", "1234567", "٣٤", "²", "½", "Ⅷ", "①", "日本", "ひらがな", "カタカナ", "한국어", "สวัสดี", "नमस्ते", "Привет",
    "😀", "👍🏽", "\u200d", "\u200b", "\u00a0", "\u3000", "\u0085", "\u2028", "‿", "_", "-", "--", ".", ",", "!", "?", "…", "。",
    "“", "”", "(", ")", "[", "]", "{", "}", "<", ">", "&", "&&", "~", "~~", "|", "\\", "/", "$", "+", "^", "`", "x{ 1,2}",
    "a{x}", "\x08", "\x1b", "Ԁ", "ß́", "ﬀ", "\u0345", "Ⓐ", "0", "\u180e", "ᲀ", "ꟋA"]


def texts():
    """Made with a generator that is easy to write again: x -> x * 6364136223846793005 + 1442695040888963407."""
    state, out = 1, []

    def below(n):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return (state >> 33) % n

    for _ in range(N_TEXTS):
        out.append("".join(PARTS[below(len(PARTS))] for _ in range(1 + below(16))))
    return out


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def words(pattern, text):
    return [len(w.encode()) for w, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


def main():
    made = texts()
    patterns = []
    for name, pattern in [*MODELS.items(), *((None, odd) for odd in ODD)]:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        cut = [[len(w.encode()) for w, _ in split.pre_tokenize_str(text)] for text in made]
        entry = {"pattern": pattern, "words": cut[:N_WRITTEN], "hash": digest(" ".join(map(str, c)) for c in cut)}
        patterns.append(entry if name is None else {"of": name, **entry})
    for pattern in REFUSED:
        if pattern != r"a{3,1}":
            Regex(pattern)
    # The other planes are empty or for private use.
    numbers = [*range(0xD800), *range(0xE000, 0x33500), *range(0xE0000, 0xE0200)]
    everything = "".join(map(chr, numbers))
    classes = []
    for pattern in CLASSES:
        # Dropping the members leaves the others.
        split = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed")
        others = set("".join(w for w, _ in split.pre_tokenize_str(everything)))
        members = [str(ord(c)) for c in everything if c not in others]
        classes.append({"pattern": pattern, "n": len(members), "hash": digest(members)})

    def lines(entries):
        return ",\n".join(json.dumps(e, ensure_ascii=False, separators=(",", ":")) for e in entries)

    (HERE / "patterns.json").write_text(
        f'{{"versions": {json.dumps({"tokenizers": version("tokenizers")})}, "n_texts": {N_TEXTS},\n'
        f'"parts": {json.dumps(PARTS)},\n"patterns": [\n{lines(patterns)}\n],\n"refused": {json.dumps(REFUSED)},\n'
        f'"classes": [\n{lines(classes)}\n]}}\n')
    print(len(patterns), "patterns")


if __name__ == "__main__":
    main()
