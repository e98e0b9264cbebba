"""One connection to a ``FaultyRelay``: SMTP or LMTP, with the troubles its script asks for."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from postroom.states import Phase
from postroom.testing.accepted_log import Accepted, AcceptedLog
from postroom.testing.script import Misbehavior, Script, ScriptEntry
from postroom.testing.server_socket import ServerSocket, SessionEnded

MECHANISMS = "PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER"

#: Sends a challenge, returns the client's answer.
Ask = Callable[[bytes], bytes]

_CHALLENGE = b"<1896.697170952@relay.example>"
_BAD_TOKEN = b'{"status":"401","schemes":"bearer"}'


def check_credentials(arguments: str, credentials: Mapping[str, str], ask: Ask) -> bool:
    """Return whether ``AUTH <arguments>`` shows one of ``credentials`` (user: password or token).

    Raises:
        KeyError: the mechanism is unknown.
    """
    mechanism, _, initial = arguments.partition(" ")
    response = decoded(initial) if initial else None
    return _MECHANISMS[mechanism.upper()](credentials, response, ask)


def decoded(text: str) -> bytes:
    """Return what base64 ``text`` stands for; nothing where it is none."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _plain(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    _, _, rest = (ask(b"") if response is None else response).partition(b"\0")
    user, _, password = rest.partition(b"\0")
    return credentials.get(user.decode()) == password.decode()


def _login(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    user = ask(b"Username:") if response is None else response
    return credentials.get(user.decode()) == ask(b"Password:").decode()


def _cram_md5(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    user, _, digest = ask(_CHALLENGE).decode().rpartition(" ")
    password = credentials.get(user, "")
    return hmac.compare_digest(
        digest, hmac.digest(password.encode(), _CHALLENGE, "md5").hex()
    ) and bool(password)


def _bearer(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    shown = (ask(b"") if response is None else response).decode()
    for user, token in credentials.items():
        named = f"user={user}\x01" in shown or f"a={user}," in shown
        if named and f"auth=Bearer {token}\x01" in shown:
            return True
    ask(_BAD_TOKEN)
    return False


_MECHANISMS: Mapping[str, Callable[[Mapping[str, str], bytes | None, Ask], bool]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "XOAUTH2": _bearer,
    "OAUTHBEARER": _bearer,
}


_PATH = re.compile(r"(?:FROM|TO):\s*<([^>]*)>\s*(.*)", re.IGNORECASE)
_NEED_LOGIN = frozenset({"MAIL", "RCPT", "DATA"})

#: An address and the parameters after it.
_Path = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a ``FaultyRelay`` can do, and how fast."""

    #: What EHLO announces, beside STARTTLS and AUTH.
    extensions: tuple[str, ...] = (
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "ENHANCEDSTATUSCODES",
    )
    #: False: EHLO is not known, only HELO.
    has_esmtp: bool = True
    is_lmtp: bool = False
    #: A server's TLS settings; None: no STARTTLS.
    tls: ssl.SSLContext | None = None
    is_tls_from_start: bool = False
    #: User name: password or token. Where there are any, mail needs a login.
    credentials: Mapping[str, str] = field(default_factory=dict)
    #: Further recipients of a transaction are answered 452.
    max_recipients: int | None = None
    #: Commands that came with the final dot before them are answered 503, as Haraka does it.
    refuses_early: bool = False
    #: How long a client waits for its answers, as if the relay were far away.
    delay_s: float = 0.0
    #: Between two bytes of a drip.
    drip_s: float = 0.02

    def without(self, *extensions: str) -> ServerOptions:
        """Return the same with fewer extensions."""
        left = tuple(line for line in self.extensions if line.split()[0] not in extensions)
        return replace(self, extensions=left)


class ServerSession:
    """Speaks with one client until it leaves, or a trouble ends it. ``number`` counts from 1."""

    def __init__(
        self,
        wire: ServerSocket,
        abilities: ServerOptions,
        script: Script,
        journal: AcceptedLog,
        number: int,
    ) -> None:
        self._wire = wire
        self._abilities = abilities
        self._script = script
        self._journal = journal
        self._number = number
        self._is_logged_in = not abilities.credentials
        self._sender: _Path | None = None
        self._recipients: list[_Path] = []
        self._verbs = {
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "EHLO": self._ehlo,
            "LHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "RSET": self._rset,
            "QUIT": self._quit,
        }

    def run(self) -> None:
        """Speak."""
        try:
            self._greet()
            while True:
                self._obey(self._wire.line())
        except (SessionEnded, OSError):
            pass  # however it ended, the client knows
        finally:
            self._wire.close()

    def abort(self) -> None:
        """End it from another thread."""
        self._wire.abort()

    def _greet(self) -> None:
        if (entry := self._script.next(Phase.CONNECT)) is not None:
            self._play(entry)
        if self._abilities.is_tls_from_start:
            self._encrypt()
        self._answer(Phase.GREETING, "220 relay.example ready")

    def _obey(self, line: str) -> None:
        verb, _, arguments = line.partition(" ")
        verb = verb.upper()
        if verb in _NEED_LOGIN and not self._is_logged_in:
            self._wire.say("530 5.7.0 Authentication required")
        elif verb in self._verbs:
            self._verbs[verb](arguments)
        else:
            self._wire.say("502 5.5.1 command not known")

    def _answer(self, phase: Phase, answer: str, addresses: tuple[str, ...] = ()) -> bool:
        """Give ``answer``, or do what the script says; return whether the answer was yes."""
        entry = self._script.next(phase, addresses)
        if entry is not None:
            return self._play(entry)
        self._wire.say(answer)
        return _is_yes(answer)

    def _play(self, entry: ScriptEntry) -> bool:
        if isinstance(entry.action, Misbehavior):
            self._wire.misbehave(entry.action)
            return True
        self._wire.say(entry.action)
        if entry.action.startswith("421"):
            self._wire.flush()
            raise SessionEnded
        return _is_yes(entry.action)

    def _ehlo(self, _: str) -> None:
        abilities = self._abilities
        self._forget()
        if not abilities.has_esmtp:
            self._wire.say("502 5.5.1 command not known")
            return
        lines = ["250 relay.example", *abilities.extensions]
        if abilities.tls is not None and not self._wire.is_encrypted:
            lines.append("STARTTLS")
        if abilities.credentials:
            lines.append(f"AUTH {MECHANISMS}")
        self._answer(Phase.EHLO, "\n".join(lines))

    def _helo(self, _: str) -> None:
        self._forget()
        self._wire.say("250 relay.example")

    def _starttls(self, _: str) -> None:
        if self._answer(Phase.STARTTLS, "220 2.0.0 go ahead"):
            self._encrypt()

    def _encrypt(self) -> None:
        assert self._abilities.tls is not None, "a relay without TLS settings was asked for TLS"
        self._wire.encrypt(self._abilities.tls)

    def _auth(self, arguments: str) -> None:
        if (entry := self._script.next(Phase.AUTH)) is not None:
            self._play(entry)
            return
        try:
            self._is_logged_in = check_credentials(
                arguments, self._abilities.credentials, self._ask
            )
        except KeyError:
            self._wire.say("504 5.5.4 mechanism not known")
            return
        self._wire.say(
            "235 2.7.0 welcome" if self._is_logged_in else "535 5.7.8 credentials invalid"
        )

    def _ask(self, challenge: bytes) -> bytes:
        self._wire.say(f"334 {base64.b64encode(challenge).decode('ascii')}")
        return decoded(self._wire.line())

    def _mail(self, arguments: str) -> None:
        if self._sender is not None:
            self._wire.say("503 5.5.1 nested MAIL")
            return
        path = _path(arguments)
        if self._answer(Phase.MAIL, "250 2.1.0 sender ok", path[:1]):
            self._sender = path

    def _rcpt(self, arguments: str) -> None:
        path = _path(arguments)
        most = self._abilities.max_recipients
        if self._sender is None:
            self._wire.say("503 5.5.1 MAIL first")
        elif most is not None and len(self._recipients) >= most:
            self._wire.say("452 4.5.3 too many recipients")
        elif self._answer(Phase.RCPT, "250 2.1.5 recipient ok", path[:1]):
            self._recipients.append(path)

    def _data(self, _: str) -> None:
        # A script may begin DATA though nobody stands, as some relays do (RFC 2920 section 3.1).
        usual = "354 go ahead" if self._recipients else "554 5.5.1 no valid recipients"
        if self._answer(Phase.DATA, usual, _addresses(self._recipients)):
            self._interrupt_body()
            self._judge(self._wire.content())
            self._forget()
            if self._abilities.refuses_early:
                for _unread in range(self._wire.drop_lines()):
                    self._wire.say("503 Bad sequence of commands - pipelined after end of DATA")

    def _interrupt_body(self) -> None:
        entry = self._script.next(Phase.BODY, _addresses(self._recipients))
        if entry is not None:
            self._wire.begin_content()
            self._play(entry)
            self._wire.flush()
            raise SessionEnded

    def _judge(self, content: bytes) -> None:
        """Answer the final dot: once, or for LMTP once for each recipient."""
        if not self._recipients:
            self._wire.say("554 5.5.1 no valid recipients")
        elif self._abilities.is_lmtp:
            for recipient in self._recipients:
                self._verdict(content, [recipient])
        else:
            self._verdict(content, self._recipients)

    def _verdict(self, content: bytes, recipients: list[_Path]) -> None:
        entry = self._script.next(Phase.DOT, _addresses(recipients))
        if entry is None:
            self._accept(content, recipients)
            self._wire.say("250 2.0.0 accepted")
            return
        is_yes = not isinstance(entry.action, Misbehavior) and _is_yes(entry.action)
        if is_yes or entry.after_accepting:
            self._accept(content, recipients)
        self._play(entry)

    def _accept(self, content: bytes, recipients: list[_Path]) -> None:
        assert self._sender is not None, "RCPT is refused before MAIL"
        self._journal.add(
            Accepted(
                sender=self._sender[0],
                recipients=_addresses(recipients),
                content=content,
                mail_parameters=self._sender[1],
                rcpt_parameters=tuple(parameters for _, parameters in recipients),
                connection=self._number,
            )
        )

    def _rset(self, _: str) -> None:
        self._forget()
        self._wire.say("250 2.0.0 forgotten")

    def _quit(self, _: str) -> None:
        self._wire.say("221 2.0.0 bye")
        self._wire.flush()
        raise SessionEnded

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []


def _path(arguments: str) -> _Path:
    """Return address and parameters of ``FROM:<…> …`` or ``TO:<…> …``."""
    found = _PATH.match(arguments)
    return (found[1], found[2].strip()) if found else (arguments, "")


def _addresses(recipients: list[_Path]) -> tuple[str, ...]:
    return tuple(address for address, _ in recipients)


def _is_yes(answer: str) -> bool:
    return answer[0] in "23"
