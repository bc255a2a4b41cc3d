"""The artifact repository: error mapping and retries."""

import socket

import pytest


@pytest.fixture
def s3(load):
    return load("s3")


@pytest.fixture
def clock(s3, monkeypatch):
    """A clock that only `sleep` moves."""
    now = [1000.0]
    monkeypatch.setattr(s3.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(s3.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def refused(s3):
    return s3.EndpointConnectionError(endpoint_url="http://minio:9000")


def failing(s3, times, result="done"):
    """A function that fails `times` times, and counts its calls."""
    calls = []

    def function():
        calls.append(1)
        if len(calls) <= times:
            raise refused(s3)
        return result

    return function, calls


def test_socket_options_detect_a_lost_peer(s3, monkeypatch):
    monkeypatch.setenv("MLOPS_S3_USER_TIMEOUT", "7")
    with socket.socket() as plug:
        for option in s3.socket_options():
            plug.setsockopt(*option)
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchKey", "RESOURCE_DOES_NOT_EXIST"),
        ("404", "RESOURCE_DOES_NOT_EXIST"),
        ("AccessDenied", "PERMISSION_DENIED"),
        ("SlowDown", "TEMPORARILY_UNAVAILABLE"),
        ("XMinioServerNotInitialized", "TEMPORARILY_UNAVAILABLE"),
        ("Nonsense", "INTERNAL_ERROR"),
        ("", "INTERNAL_ERROR"),
    ],
)
def test_error_codes_of_the_store_are_mapped(s3, code, expected):
    error = s3.ClientError({"Error": {"Code": code, "Message": "why"}}, "GetObject")
    known = s3.in_mlflows_terms(error, "fetching a.txt")
    assert known.error_code == expected
    assert "fetching a.txt" in str(known)


def test_wrapped_transfer_error_is_unwrapped(s3):
    wrapped = s3.Boto3Error("failed")
    wrapped.__cause__ = refused(s3)
    assert s3.in_mlflows_terms(wrapped, "x").error_code == "TEMPORARILY_UNAVAILABLE"


def test_unknown_exception_is_not_mapped(s3):
    assert s3.in_mlflows_terms(KeyError("x"), "x") is None


def test_restart_delays_calls(s3, clock):
    function, calls = failing(s3, times=6)
    patience = s3.Patience(15)
    assert patience.call("listing", function) == "done"
    assert len(calls) == 7
    assert clock[0] == 1003.0


def test_long_outage_is_waited_for_once(s3, clock):
    patience = s3.Patience(15)
    function, calls = failing(s3, times=1000)
    with pytest.raises(s3.MlflowException) as first:
        patience.call("listing", function)
    assert first.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert clock[0] <= 1015.0
    waited, tries = clock[0], len(calls)
    with pytest.raises(s3.MlflowException):
        patience.call("listing", function)
    assert (clock[0], len(calls)) == (waited, tries + 1)


def test_retries_resume_after_an_answer(s3, clock):
    patience = s3.Patience(15)
    with pytest.raises(s3.MlflowException):
        patience.call("listing", failing(s3, times=1000)[0])
    assert patience.call("listing", lambda: "there") == "there"
    assert patience.call("listing", failing(s3, times=3)[0]) == "done"


def test_permanent_error_is_raised_at_once(s3, clock):
    def missing():
        raise s3.ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")

    with pytest.raises(s3.MlflowException) as caught:
        s3.Patience(15).call("fetching", missing)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert clock[0] == 1000.0


def test_repository_has_no_direct_transfers(s3):
    offered = {kind.__name__ for kind in s3.ProxiedS3ArtifactRepository.__mro__}
    assert not offered & {"MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"}
