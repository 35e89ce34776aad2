#!/usr/bin/env python3
"""Check that an adapter trained on a quantised GGUF file, used as it is, fits the de-quantised model in transformers.

Run: python tests/golden/check_quantised.py PROGRAM MODEL.gguf [TYPE...]   (needs torch, transformers, peft and gguf)

The file, and for each TYPE (Q8_0, Q4_0, ...) one with its matrices quantised like that, is trained on by PROGRAM for some steps.
transformers de-quantises the same file; the exported adapter in peft on it has to give the logits of the model that PROGRAM
merges, and PROGRAM itself says how far the merged model is from the one that was trained.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM

from check_round_trip import SETTINGS, check, run


def requantise(source, target, kind):
    """The same file with its matrices of another type."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        values, its_kind = gguf.quants.dequantize(tensor.data, tensor.tensor_type), gguf.GGMLQuantizationType.F32
        if len(tensor.shape) > 1:
            values, its_kind = gguf.quants.quantize(values, kind), kind
        writer.add_tensor(tensor.name, values, raw_dtype=its_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dequantise(file, folder):
    """Writes what transformers makes of a GGUF file. It refuses to save that model itself, since it takes it for quantised."""
    found = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    if hasattr(found.config, "quantization_config"):
        del found.config.quantization_config
    plain = type(found)(found.config)
    plain.load_state_dict(found.state_dict())
    plain.save_pretrained(folder)


def main():
    program, source, kinds = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:]
    torch.set_num_threads(2)
    n_failed = 0
    for kind in ["as it is", *kinds]:
        folder = Path(tempfile.mkdtemp(prefix="quantised-"))
        file = source
        if kind != "as it is":
            file = folder / f"{kind}.gguf"
            requantise(source, file, gguf.GGMLQuantizationType[kind])
        dequantise(file, folder / "base")
        rows = [json.dumps({"prompt": f"Where is order {i}?", "answer": f"In box {i % 5}."}) for i in range(40)]
        (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
        SETTINGS["architecture.backbone_dtype"] = "int4"
        adapted, merged, before, after = run(program, folder, "adapted", file, **{
            "training.lora": "true", "training.lora_r": 4, "training.epochs": 1, "training.learning_rate": 0.002})
        n_failed += not check(f"{file.name}, {kind}", folder, before, after, "--adapter", adapted / "adapter_model", "--merged", merged, limit=1e-3)
        for line in map(json.loads, (adapted / "events.jsonl").read_text().splitlines()):
            if line["event"] in ("export", "model"):
                print("   ", json.dumps({key: value for key, value in line.items() if key != "timing"}))
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
