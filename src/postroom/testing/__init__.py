"""Testing: relays and fixtures for the tests of applications, and of Postroom itself."""
