"""The migrations, one a file; what they say is never changed after a release."""
