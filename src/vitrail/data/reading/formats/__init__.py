"""One module for each file format that holds pairs."""
