"""The machine: what it is, and how busy it was.

Linux only: everything is read from /proc and /sys.
"""
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
SHOWN_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


@dataclass(frozen=True)
class Busy:
    """A reading: processor seconds since the machine started, and since the watched process did."""

    unix_secs: float
    machine_secs: float
    own_secs: float


def machine_secs() -> float:
    """Processor seconds that anybody worked, the hypervisor's other guests included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / TICKS_PER_SEC


def process_secs(pid: int) -> float:
    """Processor seconds of one process with all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        after_name = file.read().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_SEC


def free_memory_mb() -> float:
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":") for line in file)
    return int(lines["MemAvailable"].split()[0]) / 1024


def busy_cores(secs: float) -> float:
    """Cores that were busy over the next `secs` seconds."""
    before, started = machine_secs(), time.monotonic()
    time.sleep(secs)
    return (machine_secs() - before) / (time.monotonic() - started)


def wait_for_quiet(patience_secs: float, quiet_cores: float = 0.2, probe_secs: float = 3.0) -> bool:
    """Waits until the machine has nothing to do, but not longer than told. True when it is quiet."""
    end = time.monotonic() + patience_secs
    while time.monotonic() < end:
        if busy_cores(probe_secs) < quiet_cores:
            return True
    return False


def cpu_facts() -> dict[str, str]:
    fields: dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    shown = [flag for flag in SHOWN_FLAGS if flag in flags]
    model = fields.get("model name", platform.machine())
    return {"processor": model, "instruction sets": ", ".join(shown) or "none of those looked for"}


def governor() -> str:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text(encoding="ascii").strip() if path.exists() else "not told by the system"


def git_commit() -> str:
    folder = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def facts() -> dict[str, str]:
    """For people: what a figure must be read with."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        **cpu_facts(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_gib:.1f} GiB",
        "governor": governor(),
        "system": f"{platform.system()} {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "commit": git_commit(),
    }
