"""``postroom demo``: a small shop, its inbox and its mail; also an example to read."""
