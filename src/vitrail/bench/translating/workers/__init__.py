"""Systems that translate, each in a process of its own; those of other toolkits under a Python of their own, without Vitrail."""
