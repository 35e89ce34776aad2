"""Shared by the golden scripts: fixed sequences, the loss, training steps and the file writers.

Not run on its own. All numbers are f32 on one CPU thread, with eager attention and no padding:
every sequence is run alone.
"""
import copy
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
VOCAB = 96
STEPS = 5

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.utils.logging.disable_progress_bar()


def versions(**more):
    return {"torch": torch.__version__, "transformers": transformers.__version__, **more}


def sequences():
    """Three sequences of 5, 13 and 40 ids. A label belongs to the id at its own place (-100: no loss).

    The second one labels its very first id, which no earlier token predicts: it must not count.
    """
    rng = random.Random(20)
    out = []
    for length, masked in ((5, {0, 1}), (13, {6, 7}), (40, set(range(11)) | {25})):
        ids = [rng.randrange(3, VOCAB) for _ in range(length)]
        out.append({"ids": ids, "labels": [-100 if i in masked else t for i, t in enumerate(ids)]})
    return out


def logits_of(model, seqs):
    """The scores after each of the ids; where there is a source for an encoder, the ids are the decoder's."""
    def inputs(s):
        if "source" in s:
            return {"input_ids": torch.tensor([s["source"]]), "decoder_input_ids": torch.tensor([s["ids"]])}
        return {"input_ids": torch.tensor([s["ids"]])}

    return [model(**inputs(s), use_cache=False).logits[0] for s in seqs]


def loss_of(model, seqs):
    """The token-averaged loss over all sequences together and the mean of the per-sequence means."""
    sums, counts = [], []
    for lg, s in zip(logits_of(model, seqs), seqs):
        labels = torch.tensor(s["labels"][1:])
        sums.append(F.cross_entropy(lg[:-1], labels, ignore_index=-100, reduction="sum"))
        counts.append(int((labels != -100).sum()))
    return sum(sums) / sum(counts), sum(a / n for a, n in zip(sums, counts)) / len(sums)


def trainable(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def gradients(model, seqs):
    model.zero_grad(set_to_none=True)
    loss_of(model, seqs)[0].backward()
    return {n: p.grad.clone() for n, p in trainable(model).items()}


def digest(tensor):
    """Norm and three projections of a gradient onto fixed directions: tells any two apart without storing it."""
    flat = tensor.detach().double().flatten()
    place = torch.arange(1, flat.numel() + 1, dtype=torch.float64)
    return [flat.norm().item()] + [(flat * torch.sin(0.37 * k * place + k)).sum().item() for k in (1, 2, 3)]


def train(model, seqs, lr, weight_decay):
    """Take STEPS AdamW steps in place; return the loss before each and the L2 norms afterwards."""
    params = trainable(model)
    opt = torch.optim.AdamW(params.values(), lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay,
                            foreach=False, fused=False)
    losses = []
    for _ in range(STEPS):
        opt.zero_grad(set_to_none=True)
        loss = loss_of(model, seqs)[0]
        loss.backward()
        opt.step()
        losses.append(loss.item())
    sq = {n: p.detach().double().square().sum() for n, p in params.items()}
    return losses, sum(sq.values()).sqrt().item(), {n: v.sqrt().item() for n, v in sq.items()}


def measure(model, seqs, lr, weight_decay, key=lambda name: name):
    """Everything asked of one model. `key` turns a parameter's name into its name in the golden file.

    "noise" says how far a run in f64 is from these f32 numbers (largest absolute difference), which
    is what another correct f32 implementation may differ by too.
    """
    model.eval()
    wide = copy.deepcopy(model).double()
    data, tensors, runs = {}, {}, []
    for m in (model, wide):
        with torch.no_grad():
            logits = logits_of(m, seqs)
            loss, by_sample = (x.item() for x in loss_of(m, seqs))
        grads = gradients(m, seqs)
        runs.append((logits, loss, by_sample, grads, train(copy.deepcopy(m), seqs, lr, weight_decay)))
    (logits, loss, by_sample, grads, (losses, l2, l2s)), w = runs
    for i, lg in enumerate(logits):
        tensors[f"logits.{i}"] = lg.float()
    for n, g in grads.items():
        tensors[f"grad.{key(n)}"] = g
    data.update(loss=loss, loss_sample_average=by_sample, train_lr=lr, weight_decay=weight_decay, train_losses=losses,
                params_l2_after=l2, tensor_l2_after={key(n): v for n, v in l2s.items()})
    data["noise"] = {
        "logits": max((a - b).abs().max().item() for a, b in zip(logits, w[0])),
        "loss": abs(loss - w[1]),
        "grad": max((g - w[3][n]).abs().max().item() for n, g in grads.items()),
        "train_losses": [abs(a - b) for a, b in zip(losses, w[4][0])],
        "params_l2_after": abs(l2 - w[4][1])}
    return data, tensors


def write(folder, data, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "golden.json", data)
    save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, folder / "golden.safetensors")


def write_json(path, data):
    """JSON with one line for each entry of the outermost two levels that is not short."""
    def text(v, depth):
        flat = json.dumps(v, ensure_ascii=False)
        if len(flat) <= 100 or depth > 2 or not isinstance(v, (dict, list)):
            return flat
        pad = " " * (depth + 1)
        if isinstance(v, dict):
            parts = [f"{pad}{json.dumps(k)}: {text(x, depth + 1)}" for k, x in v.items()]
            return "{\n" + ",\n".join(parts) + "\n" + " " * depth + "}"
        if all(isinstance(x, (int, float)) for x in v):
            return flat
        return "[\n" + ",\n".join(pad + text(x, depth + 1) for x in v) + "\n" + " " * depth + "]"

    path.write_text(text(data, 0) + "\n", encoding="utf-8")
