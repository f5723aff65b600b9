"""Which target tokens a source token may become, in compiled code."""
