"""Attachments are read once, whole, and refused before anything is stored."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import AttachmentError, MessageTooLarge
from postroom.message.attachment import Attachment
from postroom.storage.attachments import SpooledAttachment, encoded_size_bytes, spool
from postroom.storage.tables import CHUNK_BYTES

ROOM = 10 * 1024 * 1024


def read(attachment: Attachment, room: int = ROOM) -> tuple[bytes, SpooledAttachment]:
    with spool([attachment], room) as (file,):
        content = b"".join(file.part.open())
        assert b"".join(file.part.open()) == content  # again, at each call
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.part.size_bytes == len(content)
    return content, file


CONTENT = os.urandom(CHUNK_BYTES * 5 + 7)  # more than is kept in memory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "report.bin"
    file.write_bytes(CONTENT)
    return file


def pieces() -> Iterator[bytes]:
    for start in range(0, len(CONTENT), 1000):
        yield CONTENT[start : start + 1000]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Attachment.from_path, id="path"),
        pytest.param(lambda _: Attachment.from_bytes("a", CONTENT), id="bytes"),
        pytest.param(lambda _: Attachment.from_bytes("a", memoryview(CONTENT)), id="memoryview"),
        pytest.param(lambda _: Attachment.from_file("a", io.BytesIO(CONTENT)), id="file"),
        pytest.param(lambda _: Attachment.from_chunks("a", pieces()), id="chunks"),
        pytest.param(lambda _: Attachment.from_chunks("a", [CONTENT, b""]), id="list of chunks"),
    ],
)
def test_every_source_gives_the_same_bytes(make: Callable[[Path], Attachment], path: Path) -> None:
    assert read(make(path))[0] == CONTENT


def test_chunks_are_no_larger_than_a_stored_one(path: Path) -> None:
    with spool([Attachment.from_path(path)], ROOM) as (file,):
        assert [len(chunk) for chunk in file.part.open()] == [*[CHUNK_BYTES] * 5, 7]


def test_an_open_file_is_read_from_where_it_stands_and_stays_open(path: Path) -> None:
    with path.open("rb") as file:
        file.read(5)
        assert read(Attachment.from_file("a", file))[0] == CONTENT[5:]
        assert not file.closed


def test_a_temporary_file_is_read_like_any_other() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(CONTENT)
        file.seek(0)
        assert read(Attachment.from_file("a", file))[0] == CONTENT  # type: ignore[arg-type]


def test_a_compressed_file_is_read_for_what_it_holds(tmp_path: Path) -> None:
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(CONTENT))
    with gzip.open(packed) as file:
        assert read(Attachment.from_file("a", file))[0] == CONTENT  # type: ignore[arg-type]


def test_an_empty_file_is_an_attachment_too() -> None:
    assert read(Attachment.from_bytes("a.txt", b""))[0] == b""


def test_the_bytes_give_the_media_type_where_the_name_does_not() -> None:
    assert read(Attachment.from_bytes("scan", b"%PDF-1.7\n"))[1].part.content_type == (
        "application/pdf"
    )
    assert read(Attachment.from_bytes("scan.txt", b"%PDF-1.7\n"))[1].part.content_type == (
        "text/plain"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttachmentError, match=r"missing\.pdf' cannot be read: No such"):
        read(Attachment.from_path(tmp_path / "missing.pdf"))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AttachmentError, match="must be a file, not a directory"):
        read(Attachment.from_path(tmp_path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AttachmentError, match="must be a file, not a device, a pipe or a socket"):
        read(Attachment.from_path(tmp_path / "pipe"))


def test_an_unreadable_file_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom nothing stops
    with pytest.raises(AttachmentError, match=r"report\.bin' cannot be read: Permission denied"):
        read(Attachment.from_path(path))


class Meddled(io.FileIO):
    """A file that someone changes after its first piece was read."""

    def __init__(self, path: Path, meddle: Callable[[Path], None]) -> None:
        super().__init__(path)
        self._path = path
        self._meddle: Callable[[Path], None] | None = meddle

    def read(self, size: int = -1, /) -> bytes:
        found = super().read(size)
        if self._meddle is not None:
            self._meddle(self._path)
            self._meddle = None
        return found


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, CHUNK_BYTES)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, 1))


@pytest.mark.parametrize("meddle", [grow, shrink, rewrite])
def test_a_file_that_changes_while_it_is_read_is_refused(
    meddle: Callable[[Path], None], path: Path
) -> None:
    with (
        Meddled(path, meddle) as file,
        pytest.raises(AttachmentError, match="changed while it was read"),
    ):
        read(Attachment.from_file("a", file))  # type: ignore[arg-type]


def test_text_from_a_file_is_refused(path: Path) -> None:
    with (
        path.open(encoding="latin-1") as file,
        pytest.raises(AttachmentError, match="binary mode"),
    ):
        read(Attachment.from_file("a", file))  # type: ignore[arg-type]


def test_an_asynchronous_file_is_refused_with_a_way_out() -> None:
    class Upload:
        async def read(self, size: int) -> bytes:
            return b""

    with pytest.raises(AttachmentError, match=r"UploadFile\.file"):
        read(Attachment.from_file("a", Upload()))  # type: ignore[arg-type]


def test_an_error_of_the_application_s_own_comes_through() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read(Attachment.from_chunks("a", chunks()))


def test_what_was_read_once_cannot_be_enqueued_twice() -> None:
    attachment = Attachment.csv("a.csv", ([n] for n in range(2)))
    read(attachment)
    with pytest.raises(AttachmentError, match=r"'a\.csv', a generator, was read by an earlier"):
        read(attachment)


def test_rows_that_stay_can_be_enqueued_again() -> None:
    attachment = Attachment.csv("a.csv", [[1], [2]])
    assert read(attachment)[0] == read(attachment)[0] == b"1\r\n2\r\n"


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * CHUNK_BYTES


def endless_rows() -> Iterator[list[str]]:
    while True:
        yield ["x" * 1000]


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment.from_chunks("big.bin", endless()),
        Attachment.csv("big.csv", endless_rows()),
        Attachment.excel("big.xlsx", [[os.urandom(8000).hex()] for _ in range(100)]),
        Attachment.from_bytes("big.bin", bytes(2_000_000)),
    ],
)
def test_what_is_too_large_is_refused_while_it_is_read(attachment: Attachment) -> None:
    with pytest.raises(MessageTooLarge, match=r"'big\..*larger than 500,000 bytes"):
        read(attachment, 500_000)


def test_attachments_share_the_room() -> None:
    half = Attachment.from_bytes("half", bytes(300_000))
    with (
        pytest.raises(MessageTooLarge, match="500,000"),
        spool([half, half], 500_000),
    ):
        pass


@pytest.mark.parametrize("size_bytes", [0, 1, 2, 3, 57, 58, 1000, 1_000_000])
def test_what_just_fits_is_taken_and_one_byte_more_is_not(size_bytes: int) -> None:
    room = encoded_size_bytes(size_bytes)
    read(Attachment.from_bytes("a", bytes(size_bytes)), room + 4)
    with pytest.raises(MessageTooLarge):
        read(Attachment.from_bytes("a", bytes(size_bytes + 4)), room)


def test_nothing_is_left_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    read(Attachment.from_path(path))
    read(Attachment.excel("a.xlsx", [[1]]))
    with pytest.raises(AttachmentError):
        read(Attachment.excel("a.xlsx", {"a": [[1]], "b/": [[2]]}))
    assert list(tmp_path.iterdir()) == [path]
