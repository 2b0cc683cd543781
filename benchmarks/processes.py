"""What /proc says of a process and all its descendants: CPU time and memory."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process tree has used, ended children that were waited for included."""
    return _total(pid, _ticks) / _TICKS


def wait_until_idle(pid: int) -> None:
    """Wait, a minute at most, until the process tree has nothing left to do: clients may leave requests behind."""
    for _ in range(300):
        before = cpu_seconds(pid)
        time.sleep(0.2)
        if cpu_seconds(pid) - before < 0.02:
            return


def resident_mib(pid: int) -> float:
    """Return the memory that the process tree holds now."""
    return _total(pid, lambda process: _status_kib(process, "VmRSS")) / 1024


def peak_mib(pid: int) -> float:
    """Return the most memory that the tree's processes have held since `reset_peak`, added up."""
    return _total(pid, lambda process: _status_kib(process, "VmHWM")) / 1024


def reset_peak(pid: int) -> None:
    """Let the peak start again from what the process tree holds now."""
    for process in _tree(pid):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    # Each thread lists the children that it started.
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _total(pid: int, read: Callable[[int], int]) -> int:
    while True:
        try:
            return sum(map(read, _tree(pid)))
        except (FileNotFoundError, ProcessLookupError):
            # A process ended while we looked: its time is now its parent's, so the whole tree is read again.
            if not Path(f"/proc/{pid}").exists():
                raise


def _ticks(pid: int) -> int:
    # After the name in parentheses: utime, stime, cutime and cstime are the 12th to the 15th field.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _status_kib(pid: int, field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", _read(pid, "status"), re.MULTILINE)
    return int(match[1]) if match else 0


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
