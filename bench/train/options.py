"""What run.py and curves.py are told on the command line, and the parts both begin with."""
import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Row, Sizes
from sides import Ours, Peer, Place


def add_to(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--binary", type=Path, required=True, help="the tunesmith program, an optimised build")
    add("--peer-python", type=Path, required=True, help="Python with torch, transformers and peft")
    add("--peer-model", type=Path, required=True, help="the model as a Hugging Face folder")
    add("--model", type=Path, help="the same model for tunesmith, folder or GGUF [default: the peer's]")
    add("--data", type=Path, required=True, help="JSONL with the keys question and answer, e.g. GSM8K")
    add("--work", type=Path, help="folder for runs and logs [default: one that is removed in the end]")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of each program [default: one for each core]")
    add("--settle", type=float, default=30.0, help="longest wait for a quiet machine before a run, seconds [30]")
    add("--json", action="store_true", help="print one line of JSON in the end")


def check(args: argparse.Namespace) -> None:
    """Stops with a plain sentence when something that was named is not there."""
    for name in ("binary", "peer_python", "peer_model", "model", "data"):
        path = getattr(args, name)
        if path is not None and not path.exists():
            raise SystemExit(f"--{name.replace('_', '-')}: there is no {path}")


@dataclass
class Bench:
    """Both programs, and where they run."""

    ours: Ours
    peer: Peer
    place: Place
    data: Path
    planned: dict[Sizes, Path]
    versions: dict[str, str]

    @classmethod
    def from_args(cls, args: argparse.Namespace, work: Path, adapter: Path | None = None) -> "Bench":
        # absolute, not resolved: the python of a virtual environment is a link that must not be followed
        place = Place(work.absolute(), args.threads)
        ours = Ours(args.binary.absolute(), (args.model or args.peer_model).absolute(), place, adapter)
        peer = Peer(args.peer_python.absolute(), args.peer_model.absolute(), place, adapter=adapter)
        return cls(ours, peer, place, args.data.absolute(), {}, {})

    def data_for(self, row: Row, sizes: Sizes) -> Path:
        """The first rows of the data: as many as the steps take, so that both programs read the same."""
        if sizes not in self.planned:
            plan: dict[str, Any] = self.peer.plan(row, sizes, self.data)
            self.versions = plan["versions"]
            path = self.place.work / f"rows-{len(self.planned)}.jsonl"
            with open(self.data, encoding="utf-8") as file:
                lines = [line for line in file if line.strip()][: plan["n_rows"]]
            path.write_text("".join(lines), encoding="utf-8")
            self.planned[sizes] = path
        return self.planned[sizes]
