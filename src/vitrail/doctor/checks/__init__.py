"""The doctor's checks, one module for each kind of fault."""
