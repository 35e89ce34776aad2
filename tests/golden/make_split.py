#!/usr/bin/env python3
"""Write gguf/split/gpt2-tiny-0000N-of-00003.gguf: the tensors of gguf/gpt2-tiny.gguf in three files.

Run: python tests/golden/make_split.py   (needs gguf)

The first file has the metadata and no tensors, as `llama-gguf-split --no-tensor-first-split` makes it.
"""
from pathlib import Path

import gguf
import numpy as np

GGUF = Path(__file__).resolve().parent / "gguf"
N_PARTS = 3


def main():
    source = gguf.GGUFReader(GGUF / "gpt2-tiny.gguf")
    (GGUF / "split").mkdir(exist_ok=True)
    half = len(source.tensors) // 2
    for part, tensors in enumerate(([], source.tensors[:half], source.tensors[half:])):
        writer = gguf.GGUFWriter(GGUF / f"split/gpt2-tiny-{part + 1:05}-of-{N_PARTS:05}.gguf", "gpt2")
        for key, field in source.fields.items() if part == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                kind = field.types[0]
                if kind == gguf.GGUFValueType.ARRAY:
                    writer.add_array(key, field.contents())
                else:
                    writer.add_key_value(key, field.contents(), kind)
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", N_PARTS)
        writer.add_int32("split.tensors.count", len(source.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
            step()
        writer.close()


if __name__ == "__main__":
    main()
