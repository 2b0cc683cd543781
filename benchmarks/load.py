"""One measurement: wrk drives one GraphQL body at one server, whose CPU time is read from /proc."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")

_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
%(headers)s
wrk.body = [==[%(body)s]==]
local bad = 0
function response(status, headers, body)
  if status ~= 200 or body:find('"errors"') then
    bad = bad + 1
    if bad == 1 then io.stderr:write("first bad answer: " .. status .. " " .. body:sub(1, 300)) end
  end
end
function done(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration,
                         latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one server did under one load. Latencies and CPU time are in milliseconds, memory in MiB."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    memory_mib: float


def drive(
    url: str, body: Mapping[str, object], headers: Mapping[str, str], pid: int, *, connections: int, seconds: int
) -> Load:
    """Warm the server up for two seconds, then measure; raises when an answer holds an error."""
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % {"headers": lines, "body": json.dumps(body)})
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", "-s", script.name, url]
        _run([*command, "-d2s"])
        before = _cpu_seconds(pid)
        output = _run([*command, f"-d{seconds}s"])
        spent = _cpu_seconds(pid) - before
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", output)
    if match is None:
        raise RuntimeError(f"wrk said nothing of its result: {output}")
    count, duration, p50, p99 = map(int, match.groups())
    return Load(
        requests_per_second=count / (duration / 1e6),
        p50_ms=p50 / 1000,
        p99_ms=p99 / 1000,
        cpu_ms_per_request=spent * 1000 / count,
        memory_mib=sum(map(_peak_memory_mib, _process_tree(pid))),
    )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    if "first bad answer" in done.stderr:
        raise RuntimeError(done.stderr)
    return done.stdout


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _process_tree(int(child))


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for process in _process_tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def _peak_memory_mib(pid: int) -> float:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0
