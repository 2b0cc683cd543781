"""The command line: `konstruct`."""

from app.cli.root import main

__all__ = ["main"]
