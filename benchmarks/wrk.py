"""wrk, driven by a script of ours: bodies in turns, each answer looked at.

`UNIQUE` in a body is replaced by twelve hexadecimal digits that no other request has.
"""

import json
import re
import secrets
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNIQUE = "@unique@"

_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
%(headers)s
local bodies = { %(bodies)s }
wrk.body = bodies[1]
errors, first_error = 0, ""
local sent, worker = 0, nil
function setup(thread) worker = thread end
function response(status, headers, body)
  if status ~= 200 or body:find('"errors":', 1, true) then
    errors = errors + 1
    if errors == 1 then first_error = status .. " " .. body:sub(1, 300) end
  end
end
function done(summary, latency)
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d %%s\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), broken, worker:get("errors"), worker:get("first_error")))
end
"""

# Left out when every request is the same, since wrk then sends one ready text.
_CHANGING = """
function request()
  sent = sent + 1
  local unique = string.format("%(run)s%%08x", sent)
  return wrk.format(nil, nil, nil, (bodies[(sent - 1) %% #bodies + 1]:gsub("%(mark)s", unique)))
end
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw. `errors` counts answers with GraphQL errors or a status other than 200."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    first_error: str


def drive(url: str, headers: Mapping[str, str], bodies: Sequence[str], *, connections: int, seconds: int) -> Outcome:
    """Send the bodies in turns over keep-alive connections for some seconds; raise when a connection breaks."""
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    script = _SCRIPT % {"headers": lines, "bodies": ", ".join(f"[==[{body}]==]" for body in bodies)}
    if len(bodies) > 1 or UNIQUE in bodies[0]:
        script += _CHANGING % {"run": secrets.token_hex(2), "mark": UNIQUE}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        # A slow server's answer counts too: no timeout within a run.
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", file.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (.*)", output)
    if match is None or int(match[5]):
        raise RuntimeError(f"wrk could not reach {url}: {output}")
    requests, duration, p50, p99, _, errors = map(int, match.groups()[:6])
    return Outcome(requests, duration / 1e6, p50 / 1000, p99 / 1000, errors, match[7])
