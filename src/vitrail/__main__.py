"""`python -m vitrail`, for launchers such as torchrun."""

from vitrail.cli import main

main()
