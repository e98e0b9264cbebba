"""A small shop, its inbox and its mail: ``postroom demo``, and an example to read."""
