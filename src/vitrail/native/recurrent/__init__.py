"""Translation with a recurrent model in compiled code."""
