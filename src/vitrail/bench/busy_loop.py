"""Other work on the machine: threads that are always busy, until standard input ends. `vitrail bench busy` trains beside it."""

import hashlib
import os
import sys
import threading

_BLOCK = bytes(1 << 20)


def _work() -> None:
    while True:
        hashlib.sha256(_BLOCK)  # releases the interpreter's lock, so all threads are busy at once


def main() -> None:
    """Keep as many threads busy as the argument says; a line on standard output reports that they are."""
    for _ in range(int(sys.argv[1])):
        threading.Thread(target=_work, daemon=True).start()
    os.write(1, b"busy\n")
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
