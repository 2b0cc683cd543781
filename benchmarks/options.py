"""The options that the commands share."""

import argparse
from pathlib import Path

from benchmarks.database import Size

_DATA = Path(__file__).parent / ".data"


def make_parser(
    description: str | None, *, rounds: int | None = None, seconds: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser of the common options; a command has those for which it gives a default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=_DATA, help="where the databases are kept")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="how often everything is measured, in turns")
    if seconds is not None:
        parser.add_argument("--seconds", type=int, default=seconds, help="length of one measurement")
    return parser


def add_size(parser: argparse.ArgumentParser, *, events: int, chunks: int) -> None:
    """Add the options that say how much is loaded."""
    parser.add_argument("--events", type=int, default=events, help="audit events in all")
    parser.add_argument("--chunks", type=int, default=chunks, help="knowledge base chunks in all")
    parser.add_argument("--tenants", type=int, default=50, help="tenants; the first has a fifth of all")


def size_of(options: argparse.Namespace) -> Size:
    """Return the size that the options ask for."""
    return Size(options.events, options.chunks, options.tenants)
