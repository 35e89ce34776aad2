"""The rows of the comparison: what each trains, on which side, in which number format."""
from dataclasses import dataclass
from typing import Literal

Mode = Literal["lora", "full"]
Layout = Literal["pack", "pad"]
Measure = Literal["speed", "real", "start", "long"]

F32: dict[str, str] = {}  # what the experiment files say already
BF16 = {
    "architecture.backbone_dtype": "bfloat16",
    "environment.mixed_precision": "true",
    "environment.mixed_precision_dtype": "bfloat16",
}
# Weights that are trained stay in float32.
BF16_TRAINED = {name: value for name, value in BF16.items() if not name.startswith("architecture.")}
INT8 = {"architecture.backbone_dtype": "int8"}
INT4 = {"architecture.backbone_dtype": "int4"}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `settings` are ours, by their names in the experiment file; `peer_dtype` is a format of peer.py. The losses of the
    first step have to agree up to `loss_bound` (relative), or the two did not do the same work.
    """

    name: str
    title: str
    mode: Mode
    settings: dict[str, str]
    peer_dtype: str
    loss_bound: float
    measure: Measure = "speed"


@dataclass(frozen=True)
class Sizes:
    """`batch` rows of `seq` tokens a step, `steps` steps, of which the first `warm_up` are not counted."""

    batch: int
    seq: int
    steps: int
    layout: Layout = "pack"

    @property
    def warm_up(self) -> int:
        return max(0, min(2, self.steps - 1))


ROWS = (
    Row("lora_f32", "LoRA, float32", "lora", F32, "fp32", 1e-3),
    Row("lora_bf16", "LoRA, bfloat16; peer: autocast", "lora", BF16, "amp", 2e-2),
    Row("lora_int8", "LoRA on an int8 base; peer: float32", "lora", INT8, "fp32", 2e-2),
    Row("lora_int4", "LoRA on an int4 base; peer: float32", "lora", INT4, "fp32", 2e-1),
    Row("full_f32", "all weights, float32", "full", F32, "fp32", 1e-3),
    Row("full_bf16", "all weights, bfloat16; peer: autocast", "full", BF16_TRAINED, "amp", 2e-2),
    Row("real_job", "LoRA, float32, rows as they come; peer pads them", "lora", F32, "fp32", 1e-3, "real"),
    Row("start", "LoRA, float32: from process start to the end of step 1", "lora", F32, "fp32", 1e-3, "start"),
    Row("long", "LoRA, float32: long rows against short ones, same tokens a step", "lora", F32, "fp32", 1e-3, "long"),
)
BY_NAME = {row.name: row for row in ROWS}


def chosen(names: str) -> list[Row]:
    """The rows named, separated by commas, in the order of the table; all when `names` is empty."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    unknown = wanted - BY_NAME.keys()
    if unknown:
        raise SystemExit(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(BY_NAME)}")
    return [row for row in ROWS if not wanted or row.name in wanted]
