"""The machine: device, threads, memory, the group of processes."""
