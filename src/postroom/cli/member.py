"""One process of ``postroom worker --processes N``: it goes when its parent goes.

The parent holds the other end of our standard input, and writes nothing to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from postroom.cli.app import run


def _follow_parent() -> None:
    """Stop gently once the parent is gone, however it went."""
    # Not by sys.stdin: its lock, held by a thread, would break the end of the interpreter.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow_parent, name="postroom-parent", daemon=True).start()
    sys.exit(run(sys.argv[1:]))
