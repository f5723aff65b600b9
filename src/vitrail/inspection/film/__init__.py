"""The training film: what a model of any kind says of the same sentences at every validation."""
