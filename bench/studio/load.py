#!/usr/bin/env python3
"""Whether watchers and uploads disturb a training run: its tokens per second without and with them, and the server's memory.

One studio trains the sample on this machine's CPU. Quiet and busy stretches of the same run take turns; in a busy one, clients
follow the run's and the studio's event streams, as open browsers do, while a table is uploaded. Linux only, no packages.

    python3 bench/studio/load.py --binary target/release/tunesmith
"""
import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

CHUNK = b'{"prompt": "Where is order 17, please?", "answer": "It is in the third box from the left."}\n' * 700
# What the studio's page of a new experiment proposes for the sample, and more of its rows in a step, as long ones.
VALUES = {
    "dataset.text_format": "chat_template", "tokenizer.max_length": 256, "architecture.backbone_dtype": "float32",
    "architecture.gradient_checkpointing": False, "training.lora_r": 16, "training.lora_alpha": 32,
    "training.lora_dropout": 0, "training.batch_size": 4, "training.epochs": 50, "training.evaluation_epochs": 1000,
    "prediction.metric": "Perplexity", "environment.mixed_precision": False, "environment.seed": 1,
}


class Studio:
    """A studio of its own on a temporary work folder."""

    def __init__(self, binary: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="studio-load-"))
        command = [binary, "studio", "--port", "0", "--no-open", "--workdir", str(self.folder / "work")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip().removeprefix("studio: ")
        self.address = self.url.removeprefix("http://")
        self.id = ""

    def call(self, method: str, path: str, body: object = None) -> object:
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"X-Tunesmith": "1", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def finished(self, job: dict) -> dict:
        while job["state"] == "running":
            time.sleep(0.2)
            job = self.call("GET", f"/jobs/{job['id']}")
        if job["state"] != "done":
            raise SystemExit(f"a job failed: {job}")
        return job["result"]

    def train(self) -> None:
        """Starts the run and waits for its first steps."""
        sample = self.finished(self.call("POST", "/datasets/sample"))
        values = VALUES | {"llm_backbone": sample["model_path"]}
        made = self.call("POST", "/experiments", {"name": "load", "dataset_id": sample["dataset_id"], "values": values})
        self.id = made[0]["id"]
        while len(self.steps()) < 5:
            time.sleep(0.5)

    def steps(self) -> list[dict]:
        path = self.folder / "work" / "experiments" / self.id / "run" / "events.jsonl"
        if not path.exists():
            return []
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in map(json.loads, lines) if event["event"] == "step"]

    def memory_mb(self, field: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024

    def close(self) -> None:
        try:
            self.call("POST", f"/experiments/{self.id}/kill", {})
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


class Watchers:
    """Clients of event streams in a process of its own, of the lowest priority: what is measured is the studio."""

    def __init__(self, studio: Studio, n: int) -> None:
        paths = [f"/api/v1/experiments/{studio.id}/events" if i % 2 else "/api/v1/events" for i in range(n)]
        command = [sys.executable, __file__, "--watch", studio.address, *paths]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(19))
        self.process.stdout.readline()

    def close(self) -> list[int]:
        """Bytes that each has heard."""
        self.process.stdin.close()
        return json.loads(self.process.stdout.readline())


def watch(address: str, paths: list[str]) -> None:
    import select
    import socket
    host, port = address.split(":")
    heard = {}
    for path in paths:
        connection = socket.create_connection((host, int(port)))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n".encode())
        heard[connection] = 0
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([*heard, sys.stdin], [], [])
        for connection in readable:
            if connection is sys.stdin:
                print(json.dumps(list(heard.values())), flush=True)
                return
            heard[connection] += len(connection.recv(1 << 16))


class Upload:
    """A table that is sent at the speed of a network, by a process of the lowest priority: a client has its own machine."""

    def __init__(self, studio: Studio, n_bytes: int, bytes_per_sec: float) -> None:
        command = [sys.executable, __file__, "--upload", studio.address, str(n_bytes), str(bytes_per_sec)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(19))

    def is_running(self) -> bool:
        return self.process.poll() is None

    def result(self) -> tuple[str, float]:
        """Its id and the seconds that it took."""
        text = self.process.communicate()[0]
        if self.process.returncode != 0:
            raise SystemExit("the upload failed")
        return tuple(json.loads(text))


def upload(address: str, n_bytes: int, bytes_per_sec: float) -> None:
    connection = http.client.HTTPConnection(address, timeout=600)
    n_chunks = n_bytes // len(CHUNK)
    started = time.monotonic()

    def chunks():
        for i in range(n_chunks):
            ahead = i * len(CHUNK) / bytes_per_sec - (time.monotonic() - started)
            if ahead > 0.005:
                time.sleep(ahead)
            yield CHUNK

    headers = {"X-Tunesmith": "1", "Content-Length": str(n_chunks * len(CHUNK)), "Content-Type": "application/octet-stream"}
    connection.request("POST", "/api/v1/uploads?name=big.jsonl", body=chunks(), headers=headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    if answer.status != 201 or body["n_bytes"] != n_chunks * len(CHUNK):
        raise SystemExit(f"the upload failed: {answer.status} {body}")
    print(json.dumps([body["upload_id"], time.monotonic() - started]))


def tokens_per_sec(steps: list[dict]) -> float:
    return sum(step["n_tokens"] for step in steps) / sum(step["timing"]["secs"] for step in steps)


def main() -> None:
    if sys.argv[1:2] == ["--watch"]:
        return watch(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--upload"]:
        return upload(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--upload-mb", type=int, default=1024)
    options.add_argument("--mb-per-sec", type=float, default=100, help="speed of the upload; a gigabit network carries 118")
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--secs", type=float, default=45, help="length of a stretch; an upload is within one")
    options.add_argument("--import", dest="imports", action="store_true", help="read the uploaded table at the end, and show the memory that takes")
    options = options.parse_args()
    studio = Studio(options.binary)
    quiet, busy, pairs, largest = [], [], [], 0.0
    try:
        studio.train()
        print(f"server before: {studio.memory_mb('VmRSS'):.0f} MiB", flush=True)
        for _ in range(options.rounds):
            n = len(studio.steps())
            time.sleep(options.secs)
            # The step at either edge belongs to both stretches.
            calm = studio.steps()[n + 1:]
            watchers = Watchers(studio, options.clients)
            n = len(studio.steps())
            started = time.monotonic()
            sender = Upload(studio, options.upload_mb << 20, options.mb_per_sec * 1e6)
            while time.monotonic() - started < options.secs or sender.is_running():
                largest = max(largest, studio.memory_mb("VmRSS"))
                time.sleep(0.5)
            loaded = studio.steps()[n + 1:]
            heard = watchers.close()
            upload_id, upload_secs = sender.result()
            if min(heard) == 0:
                raise SystemExit("a client heard nothing")
            quiet += calm
            busy += loaded
            pairs.append(tokens_per_sec(loaded) / tokens_per_sec(calm))
            print(f"quiet {tokens_per_sec(calm):7.1f} tokens/s   busy {tokens_per_sec(loaded):7.1f} tokens/s   ratio {pairs[-1]:.3f}   "
                  f"{len(heard)} clients heard {min(heard)} to {max(heard)} bytes, upload {upload_secs:.1f} s, server {studio.memory_mb('VmRSS'):.0f} MiB", flush=True)
        print(f"all: quiet {tokens_per_sec(quiet):.1f}, busy {tokens_per_sec(busy):.1f} tokens/s, ratio {tokens_per_sec(busy) / tokens_per_sec(quiet):.3f}, "
              f"median of the rounds {statistics.median(pairs):.3f}; largest server {max(largest, studio.memory_mb('VmHWM')):.0f} MiB", flush=True)
        if options.imports:
            started = time.monotonic()
            studio.finished(studio.call("POST", "/imports", {"source": {"kind": "upload", "upload_id": upload_id}}))
            print(f"import of the table: {time.monotonic() - started:.1f} s, largest server {studio.memory_mb('VmHWM'):.0f} MiB", flush=True)
    finally:
        studio.close()


main()
