"""What teams use today, each in an environment of its own, set up as its documentation advises."""
