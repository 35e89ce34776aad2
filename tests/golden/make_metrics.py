#!/usr/bin/env python3
"""Write texts, labels and numbers with the metrics that sacrebleu, rouge-score and scikit-learn compute from them.

Run: python tests/golden/make_metrics.py   (needs sacrebleu, rouge-score and scikit-learn)

All texts are made here from small vocabularies and fixed seeds, so that words repeat, n-grams tie and every rule of the
tokenisers is met. Floats are written as Python prints them, which is exact.
"""
import json
import random
import warnings
from pathlib import Path

import numpy as np
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sklearn import metrics as sk

OUT = Path(__file__).resolve().parent / "metrics.json"

STRANGE = [
    "", " ", "\n", "-", ".", ",", "...", "a", "A", "&amp;lt;", "&quot;Yes&quot; &amp; &lt;no&gt;", "&amp;quot;",
    "<skipped> words <skipped>", "hyphen-\nated line", "line one\nline two\r\nline three", "ends with hyphen-\n",
    "3.14, 2,718 and 1.", ".5 or 5. or 5,", "1-2 3 - 4 -5 a-b 7-", "U.S.A., e.g. this...", "a.,b,.c..d,,e",
    "x.\u00e9 \u00e9.x ,\u00e9,", "don't 'quote' it's", "[a] {b} (c) <d> ~e~ `f` ^g^ _h_ |i| \\j\\",
    "mail@example.org https://example.org/a?b=c&d=e#f", "100% of $5.00 + 7*8=56; done: yes!", "tab\tand\x0bvertical\x1cfile\x1funit",
    "no\u00a0break\u2003em\u3000wide\u200bzero\u2028line\x85next", "Der Hund l\u00e4uft schnell.", "\u4eca\u65e5\u306f\u4e16\u754c\u3002",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\U0001f600 smile \U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "\u0130stanbul \u212aelvin \u212bngstr\u00f6m", "na\u00efve caf\u00e9 co\u00f6perate", "the the the the the", "the cat", "THE CAT",
    "the cat sat on the mat", "the cat is on the mat", "5\u066a \u0665\u0666", "1,000,000.00-", "--- *** ---", "a-\n-\nb",
]
WORDS = ("the a cat cats dog running runs ran quickly 3.5 1,000 -7 U.S. don't e.g., (see) hope hoping hopeful relational "
         "happily flies dying & na\u00efve \u00fcber . , ! ?").split()
STEMS = ["", "a", "as", "sky", "skies", "dying", "lying", "tying", "news", "innings", "outing", "cannings", "howe", "proceed",
         "exceed", "succeed", "dies", "flies", "died", "spied", "feed", "agreed", "bled", "plastered", "sing", "motoring",
         "conflated", "troubled", "sized", "hopping", "tanned", "falling", "hissing", "fizzed", "failing", "filing", "happy",
         "enjoy", "by", "say", "yyyy", "yyyying", "toy", "syzygy", "relational", "conditional", "rational", "valency",
         "hesitancy", "digitizer", "conformably", "radically", "differently", "vilely", "analogously", "vietnamization",
         "predication", "operator", "feudalism", "decisiveness", "hopefulness", "callousness", "formality", "sensitivity",
         "sensibility", "hopefully", "geology", "theology", "archaeology", "logi", "triplicate", "formative", "formalize",
         "electricity", "electrical", "hopeful", "goodness", "revival", "allowance", "inference", "airliner", "gyroscopic",
         "adjustable", "defensible", "irritant", "replacement", "adjustment", "dependent", "adoption", "homologou",
         "communism", "activate", "angularity", "homologous", "effective", "bowdlerize", "probate", "rate", "cease",
         "controll", "roll", "roller", "generically", "usually", "1234ed", "abc123ing", "2ies", "ing", "ed", "eed", "ies",
         "sses", "ion", "sion", "ationed", "allied", "tally", "alli", "ying", "aaed", "oed", "eying", "ings"]


def noisy(rng, words):
    """The words with some left out, doubled, swapped or replaced."""
    out = []
    for w in words:
        dice = rng.random()
        if dice < 0.1:
            continue
        out.append(rng.choice(WORDS) if dice < 0.25 else w)
        if dice > 0.93:
            out.append(w)
    if len(out) > 1 and rng.random() < 0.3:
        i = rng.randrange(len(out) - 1)
        out[i], out[i + 1] = out[i + 1], out[i]
    return out


def pairs():
    rng = random.Random(11)
    out = [(a, b) for a in STRANGE for b in rng.sample(STRANGE, 2)] + [(a, a) for a in STRANGE]
    for n in list(range(1, 30)) * 5 + [70, 130, 200]:
        target = [rng.choice(WORDS) for _ in range(n)]
        out.append((" ".join(noisy(rng, target)), " ".join(target)))
    return out


def text():
    sentence, corpus = BLEU(effective_order=True), BLEU()
    plain = RougeScorer(["rouge1", "rouge2", "rougeL"])
    stemmed = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    cases = []
    for predicted, target in pairs():
        # An empty target counts 0 in the program whose metric this is; sacrebleu says the same.
        bleu = sentence.sentence_score(predicted, [target])
        scores = {k: {kind: [s.precision, s.recall, s.fmeasure] for kind, s in scorer.score(target, predicted).items()}
                  for k, scorer in (("plain", plain), ("stemmed", stemmed))}
        cases.append({"predicted": predicted, "target": target, "bleu": bleu.score, **scores})
    corpora = []
    rng = random.Random(12)
    for n in (1, 1, 1, 2, 3, 10, 50, len(cases)):
        idx = rng.sample(range(len(cases)), n)
        s = corpus.corpus_score([cases[i]["predicted"] for i in idx], [[cases[i]["target"] for i in idx]])
        corpora.append({"cases": idx, "score": s.score, "precisions": s.precisions, "brevity_penalty": s.bp,
                        "predicted_length": s.sys_len, "target_length": s.ref_len})
    stem = PorterStemmer().stem
    alphabet = ["a", "e", "y", "s", "t", "l", "b", "ing", "ed", "ies", "ation", "al", "li", "ment", "ous", "iz", "er", "ful"]
    words = STEMS + ["".join(rng.choice(alphabet) for _ in range(rng.randrange(2, 7))) for _ in range(600)]
    tokens = Tokenizer13a()
    return {"cases": cases, "corpora": corpora, "tokens": [[t, tokens(t.rstrip()).split()] for t in STRANGE],
            "stems": [[w, stem(w)] for w in dict.fromkeys(words)]}


def fractions(precision_recall_f1):
    return [[float(x) for x in row] for row in zip(*precision_recall_f1[:3])]


def labels(truth, predicted, n_classes, multi_label):
    """What is computed from labels alone; `truth` and `predicted` are (rows,) or (rows, labels)."""
    args = dict(zero_division=0)
    matrix = sk.multilabel_confusion_matrix(truth, predicted) if multi_label else \
        sk.confusion_matrix(truth, predicted, labels=range(n_classes))
    every = None if multi_label else range(n_classes)
    out = {"accuracy": float((truth == predicted).mean()), "subset_accuracy": float(sk.accuracy_score(truth, predicted)),
           "confusion": matrix.tolist(),
           "per_class": fractions(sk.precision_recall_fscore_support(truth, predicted, labels=every, **args))}
    for average in ("macro", "micro"):
        out[average] = [float(x) for x in sk.precision_recall_fscore_support(truth, predicted, average=average, **args)[:3]]
    return out


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def auc(truth, scores):
    value = float(sk.roc_auc_score(truth, scores))
    return None if np.isnan(value) else value


def scale(rng, shape, kind):
    """Logits: fine ones, ones with many ties, and ones so large that probabilities reach 0 and 1."""
    x = rng.normal(size=shape) * 2
    return {"fine": x, "ties": np.round(x), "extreme": x * 30}[kind]


def classification():
    rng = np.random.default_rng(13)
    out = {"binary": [], "multi_class": [], "multi_label": []}
    for rows in (1, 2, 3, 7, 20, 60):
        for kind in ("fine", "ties", "extreme"):
            x = scale(rng, rows, kind)
            y = (rng.random(rows) < 0.4).astype(int)
            p = sigmoid(x)
            out["binary"].append({"logits": x.tolist(), "targets": y.tolist(), "auc": auc(y, x),
                                  "log_loss": sk.log_loss(y, p, labels=[0, 1]), **labels(y, (p > 0.5).astype(int), 2, False)})
            for c in (2, 3, 5):
                x = scale(rng, (rows, c), kind)
                y = rng.integers(0, c, rows)
                p = softmax(x)
                one_hot = np.eye(c, dtype=int)[y]
                out["multi_class"].append({"logits": x.ravel().tolist(), "classes": c, "targets": y.tolist(),
                                           "auc": auc(one_hot, x), "log_loss": sk.log_loss(y, p, labels=range(c)),
                                           **labels(y, p.argmax(axis=1), c, False)})
                y = (rng.random((rows, c)) < 0.4).astype(int)
                x = scale(rng, (rows, c), kind)
                p = sigmoid(x)
                columns = [float(sk.log_loss(y[:, i], p[:, i], labels=[0, 1])) for i in range(c)]
                out["multi_label"].append({"logits": x.ravel().tolist(), "labels": c, "targets": y.ravel().tolist(),
                                           "auc": auc(y, x), "log_loss": float(np.mean(columns)), "column_log_loss": columns,
                                           **labels(y, (p > 0.5).astype(int), 2, True)})
    return out


def regression():
    rng = np.random.default_rng(14)
    out = []
    for rows in (1, 2, 3, 10, 50):
        for width in (1, 2, 4):
            for kind in ("fine", "constant", "perfect", "perfect constant"):
                y = np.round(rng.normal(size=(rows, width)) * 5, 2)
                if "constant" in kind:
                    y[:, 0] = 2.5
                p = y + (0 if "perfect" in kind else 1) * np.round(rng.normal(size=(rows, width)), 3)
                out.append({"width": width, "predicted": p.ravel().tolist(), "targets": y.ravel().tolist(),
                            "mse": sk.mean_squared_error(y, p), "mae": sk.mean_absolute_error(y, p),
                            "rmse": sk.root_mean_squared_error(y, p), "r2": sk.r2_score(y, p) if rows > 1 else None})
    return out


def lines(value, depth=0):
    """JSON with a line for each entry down to the cases."""
    if depth < 3 and isinstance(value, dict) and depth < 2:
        return "{\n" + ",\n".join(f"{json.dumps(k)}: {lines(v, depth + 1)}" for k, v in value.items()) + "\n}"
    if isinstance(value, list) and depth <= 2 and value and isinstance(value[0], (dict, list)):
        return "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
    return json.dumps(value)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    data = {"text": text(), "classification": classification(), "regression": regression()}
    OUT.write_text(lines(data) + "\n", encoding="utf-8")
