"""One process of ``postroom worker --processes N``; it ends when its parent does.

The parent holds the other end of our standard input, and writes nothing to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from postroom.cli.app import run


def _follow_parent() -> None:
    """Stop gracefully as soon as the parent is gone, for whatever reason."""
    # Not with sys.stdin: a thread that holds its lock would break the interpreter's shutdown.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow_parent, name="postroom-parent", daemon=True).start()
    sys.exit(run(sys.argv[1:]))
