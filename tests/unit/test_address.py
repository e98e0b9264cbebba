"""Addresses: what is read, what is refused and why, what makes two of them one."""

from __future__ import annotations

import re
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import InvalidAddress, MessageError
from postroom.message.address import Address, parse_all
from postroom.message.mime.fields import address_field
from tests.mime.drafts import addresses

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xD800)]


def test_a_plain_address_keeps_what_was_written() -> None:
    address = Address("Ann.Smith@Example.COM")

    assert (address.local, address.domain, address.name) == ("Ann.Smith", "Example.COM", "")
    assert address.addr_spec == "Ann.Smith@Example.COM"
    assert str(address) == "Ann.Smith@Example.COM"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann Smith <ann@example.com>", "Ann Smith"),
        ('"Smith, Ann" <ann@example.com>', "Smith, Ann"),
        (r'"Ann \"Ace\" \\ Smith" <ann@example.com>', r'Ann "Ace" \ Smith'),
        ('Ann "Ace" Smith <ann@example.com>', 'Ann "Ace" Smith'),
        ("Ann B. Smith (Sales) <ann@example.com>", "Ann B. Smith (Sales)"),
        ('"<bob@example.com>" <ann@example.com>', "<bob@example.com>"),
        ("  Jörg Müller   <ann@example.com> ", "Jörg Müller"),
        ("田中<ann@example.com>", "田中"),
        ('"" <ann@example.com>', ""),
    ],
)
def test_a_name_stands_before_angle_brackets(text: str, name: str) -> None:
    address = Address(text)

    assert address.name == name
    assert address.addr_spec == "ann@example.com"


def test_an_address_reads_as_people_write_it() -> None:
    assert str(Address('"Ann" <ann@bücher.example>')) == "Ann <ann@bücher.example>"


def test_spaces_around_an_address_mean_nothing() -> None:
    assert Address("  ann@example.com ") == Address("ann@example.com")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no @"),
        ("ann", "no @"),
        ("@example.com", "nothing before the @"),
        ("ann@", "nothing after the @"),
        ("ann@localhost", "no dot"),
        ("ann@192.168.0.1", "does not end in a top-level domain"),
        ("ann@example.c0m", "does not end in a top-level domain"),
        ("ann@[192.168.0.1]", "domain literals"),
        ("ann@exam_ple.com", "no host name has"),
        ("ann@example..com", "a part of the domain is empty"),
        ("ann@example.com.", "a part of the domain is empty"),
        ("ann@-example.com", "no host name has"),
        (f"ann@{'a' * 64}.com", "longer than 63"),
        (f"ann@{'a.' * 130}com", "longer than 255"),
        (f"{'a' * 65}@example.com", "longer than 64"),
        (f"{'é' * 33}@example.com", "longer than 64"),
        (f"{'a' * 64}@{'a.' * 95}com", "longer than 254"),
        (f"a@{'é.' * 90}com", "longer than 2"),
        (f"{'é' * 20}@{'éa.' * 60}com", "longer than 254"),
        ("ann@yy--example.com", "IDNA 2008"),
        ("ann@xn--0.example", "IDNA 2008"),
        ("ann@🚀.example", "IDNA 2008"),
        (".ann@example.com", "dots before the @"),
        ("ann..b@example.com", "dots before the @"),
        ('"ann b"@example.com', "quoted local parts"),
        ("(home)ann@example.com", "comments"),
        ("ann@example.com(home)", "comments"),
        ("ann smith@example.com", "cannot stand there"),
        ("ann€@example.com", "cannot stand there"),
        ("an\u200bn@example.com", "cannot stand there"),
        ("\u0301ann@example.com", "combining mark"),
        ("<ann@example.com>", "leave them out"),
        ("ann@example.com>", "leave them out"),
        ('"Ann <ann@example.com>', "not closed"),
    ],
)
def test_what_no_relay_would_take_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=r"^expected an address to be like") as error:
        Address(text)

    assert reason in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a@good.example,victim@evil.example",
        "a@good.example, victim@evil.example",
        "a@good.example;victim@evil.example",
        "a@good.example victim@evil.example",
        "a@good.example <victim@evil.example>",
        "Doe, Ann <victim@evil.example>",
        "Ann <a@good.example>, Eve <victim@evil.example>",
        "Ann <a@good.example> <victim@evil.example>",
        "group: a@good.example;",
        "a@good.example@evil.example",
        '"a@good.example,"@evil.example',
    ],
)
def test_a_list_hidden_in_one_address_is_refused_never_split(text: str) -> None:
    with pytest.raises(InvalidAddress):
        Address(text)


#: What spreadsheets and editors put around what is copied from them.
PASTED = "\t\v\f\u2028\u2029"


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
@pytest.mark.parametrize(
    "text",
    [
        "a{}b@example.com",
        "ab@exam{}ple.com",
        "ab@example.com{}",
        "{}ab@example.com",
        "A{} <a@b.de>",
    ],
)
def test_controls_and_lone_surrogates_are_refused_anywhere(text: str, character: str) -> None:
    is_around = not re.search(r"\w\{\}\w", text)
    if is_around and character in PASTED:
        assert Address(text.format(character)) == Address(text.format(""))
        return
    with pytest.raises(InvalidAddress):
        Address(text.format(character))


@pytest.mark.parametrize("character", ["\n", "\0", "\ud800", "\x85"], ids=ascii)
@pytest.mark.parametrize("field", ["local", "domain", "name"])
def test_controls_are_refused_where_a_part_is_assigned(field: str, character: str) -> None:
    parts = {"local": "ann", "domain": "example.com", "name": "Ann"}
    parts[field] += character + "x"

    with pytest.raises(InvalidAddress):
        Address.from_parts(**parts)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="an address must be text, not b'"):
        Address(b"ann@example.com")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    ["ann@example.com", "ANN@EXAMPLE.COM", "Ann <ann@Example.com>"],
)
def test_case_and_name_make_no_other_recipient(other: str) -> None:
    assert Address(other).dedup_key == "ann@example.com"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.example", "ann@bu\u0308cher.example"),
        ("ann@bücher。example", "ann@bücher.example"),
        ("JOSÉ@example.com", "jose\u0301@example.com"),
    ],
)
def test_unicode_spellings_make_no_other_recipient(one: str, other: str) -> None:
    assert Address(one).dedup_key == Address(other).dedup_key


def test_the_envelope_carries_a_labels_and_the_local_part_as_it_is() -> None:
    address = Address("Ann@Bücher.Example")

    assert address.envelope == "Ann@xn--bcher-kva.example"
    assert address.ascii_domain == "xn--bcher-kva.example"
    assert not address.needs_smtputf8


def test_a_local_part_beyond_ascii_needs_smtputf8() -> None:
    address = Address("用户@例え.テスト")

    assert address.needs_smtputf8
    assert address.envelope == "用户@xn--r8jz45g.xn--zckzah"


def test_addresses_are_kept_in_nfc() -> None:
    assert Address("jose\u0301@bu\u0308cher.example").addr_spec == "josé@bücher.example"


def test_many_addresses_are_read_in_their_order() -> None:
    read = parse_all(["b@example.com", "Ann <a@example.com>"])

    assert [str(address) for address in read] == ["b@example.com", "Ann <a@example.com>"]


def test_all_wrong_ones_of_ten_thousand_are_named_at_once() -> None:
    texts = [f"user{number}@example.com" for number in range(10_000)]
    texts[7], texts[5_000], texts[9_999] = "seven", "a@b@c.example", "x@nowhere"

    with pytest.raises(InvalidAddress) as error:
        parse_all(texts)

    assert str(error.value) == (
        "expected addresses to be like name@domain.example, got 3 that are not: "
        "'seven' (there is no @); "
        "'a@b@c.example' (one address at a time, with one @); "
        "'x@nowhere' (the domain has no dot)"
    )


def test_of_many_wrong_ones_twenty_are_named_and_the_rest_counted() -> None:
    with pytest.raises(InvalidAddress) as error:
        parse_all([f"wrong{number}" for number in range(50)])

    assert str(error.value).count("wrong") == 20
    assert str(error.value).endswith("; and 30 more")


def test_a_single_wrong_one_reads_as_if_it_stood_alone() -> None:
    with pytest.raises(InvalidAddress, match=re.escape("got: 'wrong' (there is no @)")):
        parse_all(["ann@example.com", "wrong"])


def test_an_error_shows_no_more_than_a_line_of_what_it_got() -> None:
    with pytest.raises(InvalidAddress) as error:
        Address("x" * 1_000_000)

    assert len(str(error.value)) < 250


@given(addresses())
def test_an_address_reads_back_from_its_own_text(address: Address) -> None:
    assert Address(str(address)) == address


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ann Lee", "Ann Lee <ann@shop.example>"),
        ("Ann B. Lee", "Ann B. Lee <ann@shop.example>"),
        ("Lee, Ann", '"Lee, Ann" <ann@shop.example>'),
        ("Ann (Sales)", '"Ann (Sales)" <ann@shop.example>'),
        (r'Ann "Ace" \ Lee', r'"Ann \"Ace\" \\ Lee" <ann@shop.example>'),
    ],
)
def test_a_name_stands_in_quotes_where_it_needs_them(name: str, text: str) -> None:
    address = Address.from_parts(local="ann", domain="shop.example", name=name)

    assert str(address) == text
    assert repr(address) == f"Address({text!r})"
    assert address == Address(text)


def test_the_longest_name_reads_back() -> None:
    address = Address("ann@shop.example").with_name('"' * 10_000)

    assert Address(str(address)) == address


def test_an_address_takes_another_name() -> None:
    ann = Address("Ann <ann@shop.example>")

    assert ann.with_name("Lee, Ann") == Address('"Lee, Ann" <ann@shop.example>')
    assert ann.with_name("") == Address("ann@shop.example")
    with pytest.raises(InvalidAddress, match="display name"):
        ann.with_name("Ann\nBcc: all@shop.example")


@given(st.text())
def test_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    try:
        address = Address(text)
    except MessageError:
        return
    assert Address(str(address)) == address
    assert Address(address.addr_spec).addr_spec == address.addr_spec
    assert address.envelope.count("@") == 1
    assert len(address.envelope.encode()) <= 254
    assert Address(address.envelope).dedup_key == address.dedup_key


@given(st.text(st.sampled_from('ab@.,;:<>"\\ ()[]é\r\n'), max_size=30))
def test_no_text_is_read_as_more_than_one_address(text: str) -> None:
    try:
        address = Address(text)
    except MessageError:
        return
    assert Address(str(address)) == address
    line = address_field("To", [address]).partition(": ")[2]
    header = HeaderRegistry()("To", line.replace("\r\n ", " ").strip())
    assert len(header.addresses) == 1
    assert header.addresses[0].domain == address.ascii_domain or address.needs_smtputf8
