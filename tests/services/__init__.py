"""Throw-away instances of the real programs that Postroom works with.

Each one lives in a folder of its own, listens on a free loopback port, dies with the test run
and never meets a service that happens to run on the machine.
"""
