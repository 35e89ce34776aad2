#!/usr/bin/env python3
"""Write scores, losses and gradients of score heads over the tiny models, and two such models as others store them.

Run after make_lora.py: python tests/golden/make_heads.py   (needs torch, transformers and peft)
"""
import os
import shutil

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import common
from common import HERE, VOCAB

# Loss, what transformers calls the problem, number of outputs, and the targets of the three sequences.
CASES = (
    ("CrossEntropy", "single_label_classification", 4, [[2.0], [0.0], [3.0]]),
    ("BinaryCrossEntropy", "multi_label_classification", 3, [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
    ("BinaryCrossEntropy", "multi_label_classification", 1, [[1.0], [0.0], [1.0]]),
    ("Mse", "regression", 2, [[0.5, -1.25], [2.0, 0.0], [-0.75, 3.5]]),
    ("Mae", "regression", 1, [[0.5], [-2.0], [1.25]]),
)


def head_weight(n_outputs, width):
    place = torch.arange(n_outputs * width, dtype=torch.float64)
    return (0.3 * torch.sin(1.7 * place + 0.5)).float().reshape(n_outputs, width)


def loss_of(name, scores, targets):
    if name == "CrossEntropy":
        return F.cross_entropy(scores, targets.flatten().long())
    return {"BinaryCrossEntropy": F.binary_cross_entropy_with_logits, "Mse": F.mse_loss, "Mae": F.l1_loss}[name](
        scores, targets)


class OnLogits(torch.nn.Module):
    """H2O LLM Studio's head: on the scores of all tokens at the last place."""

    def __init__(self, backbone, name, n_outputs):
        super().__init__()
        self.backbone, self.name = backbone, name
        self.add_module(name, torch.nn.Linear(VOCAB, n_outputs, bias=False))
        getattr(self, name).weight.data = head_weight(n_outputs, VOCAB)

    def forward(self, ids):
        logits = self.backbone(ids, use_cache=False).logits[:, -1].float()
        return getattr(self, self.name)(logits)


class OnHidden(torch.nn.Module):
    """transformers' own sequence classifier."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, ids):
        return self.backbone(ids, use_cache=False).logits.float()


def classifier(folder, n_outputs, problem, width=32):
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=n_outputs, problem_type=problem, dtype=torch.float32, attn_implementation="eager")
    model.score.weight.data = head_weight(n_outputs, width)
    return model


def with_adapter(model, folder, **settings):
    """The stored LoRA on a model, still to be trained."""
    cfg = LoraConfig.from_pretrained(folder)
    targets = sorted(cfg.target_modules)
    cfg.inference_mode = False
    cfg.target_modules = targets
    for key, value in settings.items():
        setattr(cfg, key, value)
    stored = load_file(os.path.join(folder, "adapter_model.safetensors"))
    if "modules_to_save" in settings:
        stored["base_model.model.score.weight"] = model.score.weight.data.clone()
    made = get_peft_model(model, cfg)
    set_peft_model_state_dict(made, stored)
    cfg.target_modules = targets
    return made


def key(name):
    """The name that Tunesmith gives a parameter."""
    for part in ("backbone.", "base_model.model."):
        name = name.removeprefix(part)
    return name.replace(".default.", ".").replace("score.modules_to_save.", "score.")


def measure(model, seqs, loss, targets):
    model.eval()
    model.zero_grad(set_to_none=True)
    scores = torch.cat([model(torch.tensor([s["ids"]])) for s in seqs])
    value = loss_of(loss, scores, torch.tensor(targets))
    value.backward()
    each = [loss_of(loss, scores[i:i + 1], torch.tensor(targets[i:i + 1])).item() for i in range(len(seqs))]
    grads = {key(n): common.digest(p.grad) for n, p in common.trainable(model).items()}
    return {"scores": scores.flatten().tolist(), "loss": value.item(), "per_sequence": each, "gradients": grads}


def main():
    os.chdir(HERE)  # so that adapter_config.json names its base model without a path
    transformers.utils.logging.set_verbosity_error()  # else every fresh head is reported
    seqs = common.sequences()
    cases = []
    for name in ("llama-mha", "gpt2"):
        for loss, problem, n_outputs, targets in CASES:
            for lora in (False, True):
                for kind in ("OnHidden", "OnLogits"):
                    if kind == "OnHidden":
                        model = classifier(name, n_outputs, problem)
                        if lora:
                            model = with_adapter(model, f"{name}-lora", task_type="SEQ_CLS", modules_to_save=["score"])
                        model = OnHidden(model)
                    else:
                        kind = "RegressionOnLogits" if problem == "regression" else "ClassificationOnLogits"
                        backbone = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32,
                                                                        attn_implementation="eager")
                        backbone = with_adapter(backbone, f"{name}-lora") if lora else backbone
                        head = "regression_head" if problem == "regression" else "classification_head"
                        model = OnLogits(backbone, head, n_outputs)
                    found = measure(model, seqs, loss, targets)
                    cases.append({"model": name + ("-lora" if lora else ""), "kind": kind, "loss_function": loss,
                                  "n_outputs": n_outputs, "targets": sum(targets, []), **found})
                    print(cases[-1]["model"], kind, loss, n_outputs, found["loss"])
    common.write_json(HERE / "heads.json", {"versions": common.versions(peft=peft.__version__), "sequences": seqs,
                                            "cases": cases})

    # As transformers and peft store them; the scores are those of the first case over llama-mha.
    _, problem, n_outputs, _ = CASES[0]
    for folder in ("llama-score", "llama-score-lora"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    model = classifier("llama-mha", n_outputs, problem)
    model.config.pad_token_id = 0
    model.save_pretrained(HERE / "llama-score")
    adapted = with_adapter(classifier("llama-mha", n_outputs, problem), "llama-mha-lora", task_type="SEQ_CLS",
                           modules_to_save=["score"])
    adapted.save_pretrained(HERE / "llama-score-lora")
    (HERE / "llama-score-lora" / "README.md").unlink()
    again = PeftModel.from_pretrained(classifier("llama-mha", n_outputs, problem), "llama-score-lora").eval()
    ids = torch.tensor([seqs[0]["ids"]])
    assert torch.equal(again(ids).logits, adapted.eval()(ids).logits)


if __name__ == "__main__":
    main()
