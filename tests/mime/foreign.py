"""Parsers in other languages, each in a program that reads one message after the other."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mime.readings import Reading, envelope, inner_text, text
from tests.services import programs
from tests.services.node import modules

_HERE = Path(__file__).parent
_NODE_READER = _HERE / "mailparser"
_PEOPLE = ("sender", "to", "cc", "reply_to")


class Parser:
    """A running program: a message goes in after its length, a line of JSON comes out."""

    def __init__(self, *command: str | Path, **environment: str) -> None:
        self._program = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def read(self, raw: bytes) -> Reading:
        """Read ``raw``."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(len(raw).to_bytes(4, "big") + raw)
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        assert answer, f"the parser ended with {self._program.wait()}"
        return _reading(json.loads(answer))

    def close(self) -> None:
        """End the program."""
        self._program.communicate(timeout=10)


def _reading(answer: dict[str, Any]) -> Reading:
    fields: dict[str, Any] = {"subject": answer["subject"], "structure": answer.get("structure")}
    for name in _PEOPLE:
        fields[name] = [(person, envelope(addr_spec)) for person, addr_spec in answer[name]]
    files = Counter(_file(*file) for file in answer["files"])
    return Reading(**fields, text=text(answer["text"]), html=text(answer["html"]), files=files)


def _file(filename: str, content_type: str, content: str) -> tuple[str, bytes]:
    octets = base64.b64decode(content)
    return filename, inner_text(octets) if content_type == "message/rfc822" else octets


def mailparser() -> Parser:
    """Start nodemailer's mailparser; skip the test where node is missing or has no registry."""
    node, packages = modules(_NODE_READER)
    return Parser(Path(node), _NODE_READER / "read.cjs", NODE_PATH=str(packages))


def email_mime() -> Parser:
    """Start Perl's Email::MIME; skip the test where Debian's package of it is missing."""
    perl = programs.require("perl")
    if subprocess.run([perl, "-MEmail::MIME", "-e1"], capture_output=True, check=False).returncode:
        programs.refuse("Email::MIME")
    return Parser(perl, _HERE / "email_mime.pl")
