"""One program, run and watched: its output with the time of each line, its memory, and how busy others were.

Both programs of a comparison are watched in this one way.
"""
import os
import signal
import subprocess
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import machine

SAMPLE_SECS = 0.1
FREE_MEMORY_FLOOR_MB = 600.0  # below this the program is ended before the system ends something else


class RunFailed(Exception):
    """A program that did not come to its end; the text says why."""


class OutOfMemory(RunFailed):
    """A program that was ended because the machine ran out of memory."""


@dataclass
class Watched:
    """What was seen of a program from outside."""

    started_unix_secs: float
    lines: list[tuple[float, str]] = field(default_factory=list)  # (seconds since 1970, line of standard output)
    samples: list[machine.Busy] = field(default_factory=list)
    peak_mb: float = 0.0  # largest resident set, MiB

    def others(self, start: float, end: float) -> float:
        """Cores that other programs kept busy, on average, between two moments (seconds since 1970)."""
        if len(self.samples) < 2 or end <= start:
            return 0.0
        moments = [sample.unix_secs for sample in self.samples]
        first = self.samples[max(bisect_left(moments, start) - 1, 0)]
        last = self.samples[min(bisect_left(moments, end), len(self.samples) - 1)]
        secs = last.unix_secs - first.unix_secs
        machine_secs = last.machine_secs - first.machine_secs
        return max(0.0, machine_secs - (last.own_secs - first.own_secs)) / secs if secs > 0.0 else 0.0


class Sampler(threading.Thread):
    """Takes readings until the program ends, and ends it when memory runs out."""

    def __init__(self, pid: int, handle: int, watched: Watched) -> None:
        """`handle` is the process's file descriptor: unlike its number it cannot come to mean another process."""
        super().__init__(daemon=True)
        self.pid, self.handle, self.watched = pid, handle, watched
        self.is_done = threading.Event()
        self.ran_out_of_memory = False

    def run(self) -> None:
        while not self.is_done.wait(SAMPLE_SECS):
            try:
                own_secs = machine.process_secs(self.pid)
            except (OSError, IndexError):
                return
            self.watched.samples.append(machine.Busy(time.time(), machine.machine_secs(), own_secs))
            if machine.free_memory_mb() < FREE_MEMORY_FLOOR_MB and not self.ran_out_of_memory:
                self.ran_out_of_memory = True
                end(self.handle)


def end(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was faster


def watch(command: list[str], environment: dict[str, str], log: Path) -> Watched:
    """Runs a program to its end; standard error goes to `log`."""
    full_environment = {**os.environ, **environment}
    with open(log, "w", encoding="utf-8") as errors:
        watched = Watched(started_unix_secs=time.time())
        process = subprocess.Popen(
            command, env=full_environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        handle = os.pidfd_open(process.pid)
        sampler = Sampler(process.pid, handle, watched)
        sampler.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                watched.lines.append((time.time(), line.rstrip("\n")))
        except BaseException:
            end(handle)
            raise
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            sampler.is_done.set()
            sampler.join()
            os.close(handle)
    watched.peak_mb = usage.ru_maxrss / 1024
    if sampler.ran_out_of_memory:
        raise OutOfMemory(f"the machine ran out of memory at {watched.peak_mb:.0f} MiB")
    if process.returncode != 0:
        raise RunFailed(f"exit code {process.returncode}: {' '.join(command)}\n{last_lines(log)}")
    return watched


def last_lines(log: Path, n_lines: int = 8) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-n_lines:])
