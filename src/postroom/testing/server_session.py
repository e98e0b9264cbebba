"""One session of a `FaultyRelay` with a client: SMTP or LMTP, with the faults of its script."""

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
AskClient = Callable[[bytes], bytes]

_CHALLENGE = b"<1896.697170952@relay.example>"
_BAD_TOKEN = b'{"status":"401","schemes":"bearer"}'

_PATH = re.compile(r"(?:FROM|TO):\s*<([^>]*)>\s*(.*)", re.IGNORECASE)

_NEED_LOGIN = frozenset({"MAIL", "RCPT", "DATA"})

#: An address and the parameters after it.
_Path = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a `FaultyRelay` supports, and how fast it is.

    Attributes:
        extensions: What EHLO announces, besides STARTTLS and AUTH.
        has_esmtp: False: the relay knows only HELO.
        is_lmtp: True: it speaks LMTP (RFC 2033).
        tls: The server's TLS context; None means no TLS.
        is_tls_from_start: True: TLS from the start. False: after STARTTLS.
        credentials: User names with their passwords or tokens; if there are any, a login is
            required.
        max_recipients: The most recipients in one transaction; more are answered 452.
        refuses_early: Answer 503 to commands that arrived before the final dot, as Haraka does.
        delay_s: Seconds before each answer, as if the relay were far away.
        drip_s: Seconds between two bytes of `Misbehavior.DRIP`.
    """

    extensions: tuple[str, ...] = (
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "ENHANCEDSTATUSCODES",
    )
    has_esmtp: bool = True
    is_lmtp: bool = False
    tls: ssl.SSLContext | None = None
    is_tls_from_start: bool = False
    credentials: Mapping[str, str] = field(default_factory=dict)
    max_recipients: int | None = None
    refuses_early: bool = False
    delay_s: float = 0.0
    drip_s: float = 0.02

    def without(self, *extensions: str) -> ServerOptions:
        """Return the same options with fewer extensions."""
        left = tuple(line for line in self.extensions if line.split()[0] not in extensions)
        return replace(self, extensions=left)


class ServerSession:
    """Serves one client until it leaves or a misbehavior ends the session.

    Args:
        socket: The connection.
        options: What the relay supports.
        script: What it does differently.
        log: Where accepted mail goes.
        number: The connection's number, counted from 1.
    """

    def __init__(
        self,
        socket: ServerSocket,
        options: ServerOptions,
        script: Script,
        log: AcceptedLog,
        number: int,
    ) -> None:
        self._socket = socket
        self._options = options
        self._script = script
        self._log = log
        self._number = number
        self._is_logged_in = not options.credentials
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
        """Serve the client."""
        try:
            self._greet()
            while True:
                self._handle(self._socket.read_line())
        except (SessionEnded, OSError):
            pass  # however it ended, the client has noticed
        finally:
            self._socket.close()

    def abort(self) -> None:
        """End the session, from another thread."""
        self._socket.abort()

    def _greet(self) -> None:
        if (entry := self._script.next(Phase.CONNECT)) is not None:
            self._perform(entry)
        if self._options.is_tls_from_start:
            self._encrypt()
        self._answer(Phase.GREETING, "220 relay.example ready")

    def _handle(self, line: str) -> None:
        verb, _, arguments = line.partition(" ")
        verb = verb.upper()
        if verb in _NEED_LOGIN and not self._is_logged_in:
            self._socket.reply("530 5.7.0 Authentication required")
        elif verb in self._verbs:
            self._verbs[verb](arguments)
        else:
            self._socket.reply("502 5.5.1 command not known")

    def _answer(self, phase: Phase, answer: str, addresses: tuple[str, ...] = ()) -> bool:
        """Give ``answer``, or do what the script says; return whether the answer was positive."""
        entry = self._script.next(phase, addresses)
        if entry is not None:
            return self._perform(entry)
        self._socket.reply(answer)
        return _is_positive(answer)

    def _perform(self, entry: ScriptEntry) -> bool:
        if isinstance(entry.action, Misbehavior):
            self._socket.misbehave(entry.action)
            return True
        self._socket.reply(entry.action)
        if entry.action.startswith("421"):
            self._socket.flush()
            raise SessionEnded
        return _is_positive(entry.action)

    def _ehlo(self, _: str) -> None:
        options = self._options
        self._reset()
        if not options.has_esmtp:
            self._socket.reply("502 5.5.1 command not known")
            return
        lines = ["250 relay.example", *options.extensions]
        if options.tls is not None and not self._socket.is_encrypted:
            lines.append("STARTTLS")
        if options.credentials:
            lines.append(f"AUTH {MECHANISMS}")
        self._answer(Phase.EHLO, "\n".join(lines))

    def _helo(self, _: str) -> None:
        self._reset()
        self._socket.reply("250 relay.example")

    def _starttls(self, _: str) -> None:
        if self._answer(Phase.STARTTLS, "220 2.0.0 go ahead"):
            self._encrypt()

    def _encrypt(self) -> None:
        assert self._options.tls is not None, "a relay without TLS settings was asked for TLS"
        self._socket.encrypt(self._options.tls)

    def _auth(self, arguments: str) -> None:
        if (entry := self._script.next(Phase.AUTH)) is not None:
            self._perform(entry)
            return
        try:
            self._is_logged_in = check_credentials(arguments, self._options.credentials, self._ask)
        except KeyError:
            self._socket.reply("504 5.5.4 mechanism not known")
            return
        self._socket.reply(
            "235 2.7.0 welcome" if self._is_logged_in else "535 5.7.8 credentials invalid"
        )

    def _ask(self, challenge: bytes) -> bytes:
        self._socket.reply(f"334 {base64.b64encode(challenge).decode('ascii')}")
        return decode_base64(self._socket.read_line())

    def _mail(self, arguments: str) -> None:
        if self._sender is not None:
            self._socket.reply("503 5.5.1 nested MAIL")
            return
        path = _path(arguments)
        if self._answer(Phase.MAIL, "250 2.1.0 sender ok", path[:1]):
            self._sender = path

    def _rcpt(self, arguments: str) -> None:
        path = _path(arguments)
        most = self._options.max_recipients
        if self._sender is None:
            self._socket.reply("503 5.5.1 MAIL first")
        elif most is not None and len(self._recipients) >= most:
            self._socket.reply("452 4.5.3 too many recipients")
        elif self._answer(Phase.RCPT, "250 2.1.5 recipient ok", path[:1]):
            self._recipients.append(path)

    def _data(self, _: str) -> None:
        # A script may answer 354 without valid recipients, as some relays do
        # (RFC 2920 section 3.1).
        default = "354 go ahead" if self._recipients else "554 5.5.1 no valid recipients"
        if self._answer(Phase.DATA, default, _addresses(self._recipients)):
            self._interrupt_body()
            self._answer_content(self._socket.read_content())
            self._reset()
            if self._options.refuses_early:
                for _unread in range(self._socket.drop_lines()):
                    self._socket.reply("503 Bad sequence of commands - pipelined after end of DATA")

    def _interrupt_body(self) -> None:
        entry = self._script.next(Phase.BODY, _addresses(self._recipients))
        if entry is not None:
            self._socket.wait_for_content()
            self._perform(entry)
            self._socket.flush()
            raise SessionEnded

    def _answer_content(self, content: bytes) -> None:
        """Answer the final dot: once, or for LMTP once for each recipient."""
        if not self._recipients:
            self._socket.reply("554 5.5.1 no valid recipients")
        elif self._options.is_lmtp:
            for recipient in self._recipients:
                self._answer_dot(content, [recipient])
        else:
            self._answer_dot(content, self._recipients)

    def _answer_dot(self, content: bytes, recipients: list[_Path]) -> None:
        entry = self._script.next(Phase.DOT, _addresses(recipients))
        if entry is None:
            self._accept(content, recipients)
            self._socket.reply("250 2.0.0 accepted")
            return
        is_positive = not isinstance(entry.action, Misbehavior) and _is_positive(entry.action)
        if is_positive or entry.after_accepting:
            self._accept(content, recipients)
        self._perform(entry)

    def _accept(self, content: bytes, recipients: list[_Path]) -> None:
        assert self._sender is not None, "RCPT is refused before MAIL"
        self._log.add(
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
        self._reset()
        self._socket.reply("250 2.0.0 forgotten")

    def _quit(self, _: str) -> None:
        self._socket.reply("221 2.0.0 bye")
        self._socket.flush()
        raise SessionEnded

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []


def _path(arguments: str) -> _Path:
    """Return address and parameters of ``FROM:<…> …`` or ``TO:<…> …``."""
    found = _PATH.match(arguments)
    return (found[1], found[2].strip()) if found else (arguments, "")


def _addresses(recipients: list[_Path]) -> tuple[str, ...]:
    return tuple(address for address, _ in recipients)


def _is_positive(answer: str) -> bool:
    return answer[0] in "23"


def check_credentials(arguments: str, credentials: Mapping[str, str], ask: AskClient) -> bool:
    """Return whether ``AUTH <arguments>`` presents known credentials.

    Args:
        arguments: Mechanism, and the initial response if there is one.
        credentials: User names with their passwords or tokens.
        ask: Sends a challenge and returns the client's answer.

    Raises:
        KeyError: the mechanism is unknown.
    """
    mechanism, _, initial = arguments.partition(" ")
    response = decode_base64(initial) if initial else None
    return _MECHANISMS[mechanism.upper()](credentials, response, ask)


def decode_base64(text: str) -> bytes:
    """Return the decoded ``text``; empty if it is not base64."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _plain(credentials: Mapping[str, str], response: bytes | None, ask: AskClient) -> bool:
    _, _, rest = (ask(b"") if response is None else response).partition(b"\0")
    user, _, password = rest.partition(b"\0")
    return credentials.get(user.decode()) == password.decode()


def _login(credentials: Mapping[str, str], response: bytes | None, ask: AskClient) -> bool:
    user = ask(b"Username:") if response is None else response
    return credentials.get(user.decode()) == ask(b"Password:").decode()


def _cram_md5(credentials: Mapping[str, str], response: bytes | None, ask: AskClient) -> bool:
    user, _, digest = ask(_CHALLENGE).decode().rpartition(" ")
    password = credentials.get(user, "")
    return hmac.compare_digest(
        digest, hmac.digest(password.encode(), _CHALLENGE, "md5").hex()
    ) and bool(password)


def _bearer(credentials: Mapping[str, str], response: bytes | None, ask: AskClient) -> bool:
    response_text = (ask(b"") if response is None else response).decode()
    for user, token in credentials.items():
        is_named = f"user={user}\x01" in response_text or f"a={user}," in response_text
        if is_named and f"auth=Bearer {token}\x01" in response_text:
            return True
    ask(_BAD_TOKEN)
    return False


_MECHANISMS: Mapping[str, Callable[[Mapping[str, str], bytes | None, AskClient], bool]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "XOAUTH2": _bearer,
    "OAUTHBEARER": _bearer,
}
