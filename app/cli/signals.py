"""How processes that run until they are stopped end."""

import signal
from types import FrameType
from typing import NoReturn


def end_well_on_signals() -> None:
    """Let SIGTERM and Ctrl+C end the process with exit code 0, once what is under way is done.

    A server drains first and then hands the signal back to the handler that it found.
    """

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
