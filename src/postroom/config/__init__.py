"""Settings: from the environment and a TOML file to checked values."""
