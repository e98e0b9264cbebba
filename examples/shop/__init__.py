"""A small shop, to run (`make shop`), to read and to copy from."""
