"""Installs a package in Argos Translate and translates lines: run by the interpreter that has it, with nothing of ours.

worker.py PACKAGE FROM TO: standard input to standard output, one line each. No connection but to this machine is made.
"""

import io
import socket
import sys
from importlib import import_module
from typing import Any

_LOOPBACK = ("127.", "::1", "localhost")


def forbid_connections() -> None:
    """Refuse every connection that leaves this machine."""
    connect: Any = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
            raise OSError(f"a connection to {address[0]} was asked for")
        return connect(self, address)

    socket.socket.connect = guarded


def main(path: str, source: str, target: str) -> None:
    """Install, translate, write."""
    forbid_connections()
    package: Any = import_module("argostranslate.package")
    translate: Any = import_module("argostranslate.translate")
    package.install_from_path(path)
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="\n").read().split("\n")[:-1]
    found = [translate.translate(line, source, target).replace("\n", " ") for line in lines]
    sys.stdout.buffer.write("".join(f"{line}\n" for line in found).encode())


if __name__ == "__main__":
    main(*sys.argv[1:4])
