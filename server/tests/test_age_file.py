"""Files of age: they open as age's own do, and not where they were changed or cut off."""

import base64
import io
import os

import pytest

from mlops_mlflow_server import age_file

PASSPHRASE = "a passphrase of the tests"
CHUNK, TAG = 64 << 10, 16
# Made by age 1.3.1 with that passphrase.
OF_AGE = (
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBnc3hzbmk5MXRqNWhJalJxSUdJbUNBIDE4CnlFSlhDcW1ERHBYcGhmd2x3ZHhqb09qZXZV"
    "b3lNRCtrYmc1WDBHbE4zaEkKLS0tIEJ1bXVxNzEzRmMxSkJUK2kxQXJHWlFqbHZjbEpYQUJNK2Rxa1B4MTJidncKqITKc81cl9I92jv0qUTrKEfo"
    "Z3OVNUyTbeuIgVwVr6rK0L0oCVGDwNvKpvJG/BOi3kpDIQ=="
)


def sealed(content):
    return b"".join(age_file.seal(io.BytesIO(content), PASSPHRASE))


def opened(text, passphrase=PASSPHRASE):
    return b"".join(age_file.unseal(io.BytesIO(text), passphrase))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_what_is_sealed_is_opened(size):
    content = os.urandom(size)
    text = sealed(content)
    assert opened(text) == content
    assert sealed(content) != text


def test_what_age_made_is_opened():
    assert opened(base64.b64decode(OF_AGE)) == b"content of the tests"


def test_another_passphrase_does_not_open_it():
    with pytest.raises(age_file.AgeFileError, match="the passphrase does not open it"):
        opened(sealed(b"content"), "another passphrase")


def test_what_is_cut_off_or_changed_does_not_open():
    text = sealed(bytes(3 * CHUNK))
    begin = len(text) - 3 * (CHUNK + TAG)
    second, third = begin + CHUNK + TAG, begin + 2 * (CHUNK + TAG)
    for broken in (
        text[:-1],
        # Where a chunk ends.
        text[:third],
        text[:second],
        text[:begin],
        text + b"x",
        text[:-1] + bytes([text[-1] ^ 1]),
        # In another order, and with one of them twice.
        text[:begin] + text[second:third] + text[begin:second] + text[third:],
        text[:third] + text[second:third] + text[third:],
    ):
        with pytest.raises(age_file.AgeFileError, match="changed or cut off"):
            opened(broken)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nothing",
        b"x" * 1000,
        b"age-encryption.org/v1\n-> X25519 x\nx\n--- x\n",
        # More memory than a pod has.
        b"age-encryption.org/v1\n-> scrypt gsxsni91tj5hIjRqIGImCA 30\n%b\n--- %b\n" % (b"A" * 43, b"A" * 43),
        b"age-encryption.org/v1\n-> scrypt gsxsni91tj5hIjRqIGImCA 16\n!\n--- x\n",
    ],
)
def test_other_files_are_refused(text):
    with pytest.raises(age_file.AgeFileError, match="no file of age"):
        opened(text)


def test_a_header_that_was_changed_does_not_open():
    text = sealed(b"content")
    end = text.index(b"--- ") + 4
    with pytest.raises(age_file.AgeFileError):
        opened(text[:end] + (b"A" if text[end : end + 1] != b"A" else b"B") + text[end + 1 :])


def test_a_stream_is_read_in_any_sizes():
    content = os.urandom(1000)
    pieces = [content[:10], content[10:500], content[500:]]
    stream = age_file.Stream(iter(pieces))
    assert stream.read(3) + stream.read(200) + stream.read() == content
    assert stream.read(1) == b""
    assert stream.size == len(content)
    whole = age_file.Stream(iter(pieces))
    assert whole.read() == content
    assert whole.sha256() == stream.sha256()
