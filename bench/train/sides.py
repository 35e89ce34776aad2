"""The two programs that are compared, and what is read off their runs."""
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import process
from rows import Row, Sizes

FOLDER = Path(__file__).resolve().parent
NOT_AS_ASKED = "not as asked"
EXPERIMENTS = FOLDER.parent / "gsm8k"


@dataclass(frozen=True)
class Step:
    """One optimizer step. `others` is how many cores other programs kept busy meanwhile."""

    secs: float
    n_tokens: int
    loss: float
    others: float


@dataclass(frozen=True)
class Run:
    """One process. `start_secs` is from its start to the end of its first step."""

    steps: list[Step]
    start_secs: float
    start_others: float
    peak_mb: float
    notes: tuple[str, ...] = ()

    @property
    def is_as_asked(self) -> bool:
        """Whether the program computed in the number formats it was asked for."""
        return not any(NOT_AS_ASKED in note for note in self.notes)


class Side(Protocol):
    """A program that can train a row."""

    def run(self, row: Row, sizes: Sizes, data: Path) -> Run: ...


@dataclass(frozen=True)
class Place:
    """Where runs write (`work`), and how many threads they compute with."""

    work: Path
    threads: int

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder


@dataclass(frozen=True)
class Ours:
    """Tunesmith. `adapter` is where LoRA starts from; without one it draws its own start."""

    binary: Path
    model: Path
    place: Place
    adapter: Path | None = None

    def command(self, row: Row, sizes: Sizes, data: Path, output: Path) -> list[str]:
        settings = {
            "tokenizer.max_length": sizes.seq,
            "training.batch_size": sizes.batch,
            "training.packing": "wrapped" if sizes.layout == "pack" else "samples",
            "environment.threads": self.place.threads,
            # Nothing but training: the last evaluation sees one row, and no weights are written.
            "dataset.max_rows": 0,
            "dataset.validation_dataframe": one_row(data, self.place.work),
            "dataset.data_sample": 1.0,
            "training.save_checkpoint": "disable",
            **row.settings,
        }
        if self.adapter and row.mode == "lora":
            settings["architecture.pretrained_weights"] = self.adapter
        command = [self.binary, "train", "-Y", EXPERIMENTS / f"{row.mode}.yaml", "--model", self.model]
        command += ["--data", data, "--output", output, "--json"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        return [str(part) for part in command]

    def run(self, row: Row, sizes: Sizes, data: Path) -> Run:
        output = self.place.fresh("ours")
        # A cache of its own, so that each run tokenises its data.
        environment = {"TUNESMITH_CACHE": str(self.place.fresh("cache"))}
        log = self.place.work / f"{row.name}-ours.log"
        watched = process.watch(self.command(row, sizes, data, output), environment, log)
        seen = [(moment, json.loads(line)) for moment, line in watched.lines if line.startswith("{")]
        events = [(moment, event) for moment, event in seen if event.get("event") == "step"][: sizes.steps]
        steps = []
        for moment, event in events:
            secs = event["timing"]["secs"]
            steps.append(Step(secs, event["n_tokens"], event["loss"], watched.others(moment - secs, moment)))
        notes = [note_on_formats(output)] if row.settings else []
        moments = [moment for moment, _ in events]
        unaccounted = moments[-1] - moments[0] - sum(step.secs for step in steps[1:])
        if unaccounted > 0.05 * sum(step.secs for step in steps[1:]):
            notes.append(f"{unaccounted:.2f} s between steps are in no step's time")
        return made_run(watched, steps, moments[0], notes)


@dataclass(frozen=True)
class Peer:
    """The PyTorch loop, optionally with a library that is loaded before all others."""

    python: Path
    model: Path
    place: Place
    preload: Path | None = None
    adapter: Path | None = None

    def command(self, row: Row, sizes: Sizes, data: Path) -> list[str]:
        command = [self.python, FOLDER / "peer.py", "--model", self.model, "--data", data, "--mode", row.mode]
        command += ["--dtype", row.peer_dtype, "--layout", sizes.layout, "--batch", sizes.batch, "--seq", sizes.seq]
        command += ["--steps", sizes.steps, "--threads", self.place.threads]
        if self.adapter and row.mode == "lora":
            command += ["--adapter", self.adapter]
        return [str(part) for part in command]

    def environment(self) -> dict[str, str]:
        environment = {"HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}
        if self.preload:
            environment["LD_PRELOAD"] = str(self.preload)
        return environment

    def answer(self, command: list[str], log: Path) -> tuple[process.Watched, dict[str, Any]]:
        watched = process.watch(command, self.environment(), log)
        if not watched.lines:
            raise process.RunFailed(f"no answer: {' '.join(command)}\n{process.last_lines(log)}")
        return watched, json.loads(watched.lines[-1][1])

    def run(self, row: Row, sizes: Sizes, data: Path) -> Run:
        log = self.place.work / f"{row.name}-peer.log"
        watched, answer = self.answer(self.command(row, sizes, data), log)
        steps = []
        for step in answer["steps"]:
            secs, done = step["secs"], step["done_unix_secs"]
            steps.append(Step(secs, step["n_tokens"], step["loss"], watched.others(done - secs, done)))
        return made_run(watched, steps, answer["steps"][0]["done_unix_secs"], [])

    def plan(self, row: Row, sizes: Sizes, data: Path) -> dict[str, Any]:
        """How many rows of the data the steps take, and the versions of the peer's packages."""
        command = [*self.command(row, sizes, data), "--plan"]
        return self.answer(command, self.place.work / "plan-peer.log")[1]


def made_run(watched: process.Watched, steps: list[Step], first_done: float, notes: list[str]) -> Run:
    start_secs = first_done - watched.started_unix_secs
    start_others = watched.others(watched.started_unix_secs, first_done)
    return Run(steps, start_secs, start_others, watched.peak_mb, tuple(note for note in notes if note))


def one_row(data: Path, work: Path) -> Path:
    """The first row of the data as a table of its own."""
    path = work / "one-row.jsonl"
    with open(data, encoding="utf-8") as file:
        path.write_text(file.readline(), encoding="utf-8")
    return path


def note_on_formats(output: Path) -> str:
    """Which number formats a run of ours used: it says so itself, and may have replaced what was asked for."""
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    formats = record["dtypes"]
    note = f"weights {formats['storage']}, activations {formats['compute']}"
    fields = ("architecture.backbone_dtype", "environment.mixed_precision")
    replaced = [text for text in record["substitutions"] if text.startswith(fields)]
    return note + "".join(f"; {NOT_AS_ASKED}: {text}" for text in replaced)
