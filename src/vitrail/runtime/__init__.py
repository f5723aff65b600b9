"""The machine under the program: device, threads, memory, the group of processes."""
