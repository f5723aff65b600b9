"""What the doctor measures of planted faults: the tables of docs/doctor.md.

python tests/inspection/doctor/planted_figures.py       # two minutes
"""

import sys
import tempfile
from pathlib import Path

from planted_runs import copy, other_model, train_tiny
from torch import Tensor

from vitrail.doctor.examine import examine
from vitrail.models.configs.recurrent import RecurrentConfig

RIGHT = 6e-3
RATES = (1, 10, 100, 1000, 1 / 30, 1 / 1000)
"""Times the right one."""
SCALES = (0.1, 1, 5)
"""Times the recurrent weights that an Elman network begins with."""


def show(*cells: str) -> None:
    """A row of a table."""
    sys.stdout.write("| " + " | ".join(cells) + " |\n")


def rates(folder: Path) -> None:
    """Learning rates, right and wrong ones."""
    show("learning rate", "a step, of the weights' size", "distance from the initial weights", "dev loss", "severity")
    for rate in RATES:
        run = folder / f"rate-{rate:g}" / "run"
        train_tiny(run, {"optimizer": {"learning_rate": RIGHT * rate}})
        found = {one.check: one for one in examine(run).findings}
        step, learned = found["learning rate"], found["learning"].numbers["best_nats"]
        show(f"x {rate:.3g}", f"{step.numbers['ratio']:.2g}", f"{step.numbers['moved']:.2g}", f"{learned:.2f}", step.severity)


def scales(folder: Path) -> None:
    """Recurrent weights, right and wrong ones, of networks that have not been trained."""
    sys.stdout.write("\n")
    show("Elman network", "gradient kept by each step back", "severity", "found")
    for scale in SCALES:

        def change(tensors: dict[str, Tensor], scale: float = scale) -> None:
            for name, values in tensors.items():
                if name.endswith("hidden_weight"):
                    values.mul_(scale)

        run = copy(folder / "rate-1" / "run", folder / f"scale-{scale:g}")
        other_model(run, RecurrentConfig(cell="rnn", width=64, embedding_width=32, dropout=0.0), change=change)
        found = next(one for one in examine(run).findings if one.check == "gradients")
        left = found.numbers.get("factor encoder.0.forward_cell.hidden", float("nan"))
        show(f"recurrent weights times {scale:g}", f"{left:.2g}", found.severity, found.found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        rates(Path(scratch))
        scales(Path(scratch))
