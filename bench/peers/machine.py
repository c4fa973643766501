"""The machine: what it is, what else runs on it, what it can do at best, and running a program under watch."""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import threading
import time
from typing import Optional

ROOF_SOURCE = pathlib.Path(__file__).resolve().parent.parent / "roof.c"
INSTRUCTION_SETS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
# Up to so many cores' worth of other processes a run is clean.
CLEAN_CORES = 0.10
WATCH_INTERVAL = 0.05


def facts():
    """What a report says of the machine."""
    info = {"system": f"{platform.system()} {platform.release()}", "machine": platform.machine(), "cores": os.cpu_count()}
    try:
        info["processor"] = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
        info["instruction_sets"] = [name for name in INSTRUCTION_SETS if name in processor_flags()]
        info["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, TypeError):
        pass
    return info


def processor_flags():
    """The processor's features as Linux names them; none elsewhere."""
    try:
        return re.search(r"flags\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1].split()
    except (OSError, TypeError):
        return []


def cpu_seconds():
    """CPU time of all processes since boot, without idle and waiting; None where /proc is not to be had."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Run:
    """A program that has ended."""

    output: str
    seconds: float
    # Cores' worth of CPU time that other processes used meanwhile; None where it cannot be seen.
    foreign_cores: Optional[float]
    # The most bytes in physical memory that were seen at once, and of these the program's own, without mapped files.
    resident: int
    anonymous: int


def watched(command, server=None):
    """Runs a command to its end; the whole program stops when it fails. What `server`, a process that works for the
    command, computes meanwhile is not foreign."""

    def own_seconds():
        return _children_seconds() + (_process_seconds(server) if server else 0.0)

    before, own_before, begin = cpu_seconds(), own_seconds(), time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory = _Memory(process.pid)
    output, errors = process.communicate()
    seconds = time.monotonic() - begin
    memory.stop()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with status {process.returncode}: {errors.strip()[-500:]}")
    foreign = None
    if before is not None:
        own = own_seconds() - own_before
        foreign = round(max(0.0, cpu_seconds() - before - own) / seconds, 2)
    return Run(output, seconds, foreign, memory.resident, memory.anonymous)


def _children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _process_seconds(process):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class _Memory(threading.Thread):
    """Watches what a process has in physical memory."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.resident = self.anonymous = 0
        self._status = pathlib.Path(f"/proc/{process}/status")
        self._ended = threading.Event()
        self.start()

    def run(self):
        while not self._ended.wait(WATCH_INTERVAL):
            try:
                fields = dict(re.findall(r"(RssAnon|RssFile):\s*(\d+) kB", self._status.read_text()))
            except OSError:
                return
            if len(fields) == 2:
                anonymous, file = (int(fields[name]) * 1024 for name in ("RssAnon", "RssFile"))
                if anonymous + file > self.resident:
                    self.resident, self.anonymous = anonymous + file, anonymous

    def stop(self):
        self._ended.set()
        self.join()


@contextlib.contextmanager
def foreign_process():
    """A process of the usual priority that computes without end, while the block runs."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def roof(cache, threads):
    """The machine's limits at this moment, by roof.c."""
    program = cache / "peers" / "roof"
    if not program.exists() or program.stat().st_mtime < ROOF_SOURCE.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O3", "-march=native", "-pthread", str(ROOF_SOURCE), "-o", str(program)], check=True)
    run = watched([program, threads])
    return {**json.loads(run.output), "foreign_cores": run.foreign_cores}


def read_into_page_cache(path):
    """Reads a file once, so that the next reader finds it in memory."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(1 << 24)
        while file.readinto(buffer):
            pass
