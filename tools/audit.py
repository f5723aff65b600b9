"""Look up every package of a lock file among the known vulnerabilities, and fail unless all of them could be looked up.

`python tools/audit.py requirements.lock` (as `make audit` calls it). pip-audit alone says "No known vulnerabilities found" with exit code 0
for packages that it skipped; here each package of the lock, and torch, must have an answer.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, str]:
    """The packages of a lock file: name -> version."""
    return {canonical(name): version for name, version in re.findall(r"^([\w.\-]+)==([^\s;\\]+)", text, re.MULTILINE)}


def problems(wanted: Mapping[str, str], answer: Mapping[str, Any]) -> list[str]:
    """What is wrong, a line each; nothing when every wanted package was looked up in its version and is not known to be vulnerable."""
    found = {canonical(one["name"]): one for one in answer.get("dependencies", [])}
    lines: list[str] = []
    for name, version in wanted.items():
        one = found.get(name)
        if one is None:
            lines.append(f"{name} {version}: not looked up")
        elif "skip_reason" in one or one.get("version") != version:
            lines.append(f"{name} {version}: not looked up ({one.get('skip_reason', 'another version')})")
        else:
            lines += [
                f"{name} {version}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'no version'}" for known in one["vulns"]
            ]
    return lines


def main(lock: Path) -> int:
    """0 when all is well, 1 with a line for each problem, 2 when nothing could be looked up."""
    pins = Path(__file__).parents[1] / "constraints.txt"
    wanted = locked(lock.read_text(encoding="utf-8")) | {"torch": locked(pins.read_text(encoding="utf-8"))["torch"]}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("".join(f"{name}=={version}\n" for name, version in wanted.items()))
        listed.flush()
        command = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", "--format", "json", "-r", listed.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        print(f"error: nothing could be looked up\n{done.stderr[-1000:]}", file=sys.stderr)  # noqa: T201
        return 2
    lines = problems(wanted, answer)
    print("\n".join(lines) or f"{len(wanted)} packages looked up, none known to be vulnerable")  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
