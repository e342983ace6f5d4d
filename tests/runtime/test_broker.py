"""MQTT addresses and password files: what they say, and that no error shows a secret."""

import ssl
from pathlib import Path

import mosquitto
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import OutputError
from edgedistill.runtime.broker import Broker, parse_broker, read_password, tls_context

SECRET = "s3cr3t-hunter2"


@pytest.mark.parametrize(
    ("address", "broker"),
    [
        ("mqtt://pi", Broker("pi", 1883, None, False, "")),
        ("mqtts://pi", Broker("pi", 8883, None, True, "")),
        ("mqtt://cam@192.168.1.5:1884/home/door", Broker("192.168.1.5", 1884, "cam", False, "home/door")),
        ("mqtt://cam%40home@pi/a%20b/", Broker("pi", 1883, "cam@home", False, "a b")),
        ("mqtts://[::1]:9000", Broker("::1", 9000, None, True, "")),
    ],
)
def test_addresses(address: str, broker: Broker) -> None:
    assert parse_broker(address) == broker


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "expected mqtt://"),
        ("pi:1883", "expected mqtt://"),
        (f"http://{SECRET}@pi", "expected mqtt://"),
        ("mqtt://", "expected mqtt://"),
        (f"mqtt://user:{SECRET}@pi", "use --mqtt-password-file"),
        (f"mqtt://user:{SECRET}@pi:port", "cannot be read"),
        (f"mqtt://user:{SECRET}@[pi", "cannot be read"),
        ("mqtt://" + "a" * 70 + ".b", "cannot be read"),
        ("mqtt://pi:70000", "cannot be read"),
        ("mqtt://pi/a?qos=1", "means nothing"),
        ("mqtt://pi/a#b", "means nothing"),
        ("mqtt://pi/a/+/b", "cannot be a topic"),
        ("mqtt://pi/a%23", "cannot be a topic"),
        ("mqtt://pi/$SYS", "cannot be a topic"),
        ("mqtt://pi/" + "a" * 201, "cannot be a topic"),
    ],
)
def test_what_is_no_address(address: str, said: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_broker(address)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=60), st.sampled_from(["", "mqtt://", "mqtts://", "mqtt://u:p@", "mqtt://h/"]))
def test_any_text_is_an_address_or_a_clear_error(text: str, start: str) -> None:
    try:
        broker = parse_broker(start + text)
    except OutputError:
        return
    assert broker.host
    assert 0 <= broker.port <= 65535
    assert not set("#+\0") & set(broker.topic)


USER = Broker("pi", 1883, "cam", False, "")


def test_the_password_is_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\nand a note\n")
    assert read_password(USER, file) == SECRET
    assert read_password(USER, None) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected the password"),
        (b"\n", "expected the password"),
        (b"x" * 5000, "expected the password"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_password_file(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(OutputError, match=said):
        read_password(USER, file)


def test_a_password_file_must_exist_and_belong_to_a_user(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be read as a password file: FileNotFoundError"):
        read_password(USER, tmp_path / "none")
    with pytest.raises(OutputError, match="name the user in the address"):
        read_password(USER._replace(user=None), tmp_path / "none")


def test_tls_checks_the_brokers_certificate_and_name() -> None:
    context = tls_context(USER._replace(tls=True), None)
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls_context(USER, None) is None


def test_a_wrong_authority_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(OutputError, match=r"ca\.pem cannot be read as a certificate authority"):
        tls_context(USER._replace(tls=True), file)
    with pytest.raises(OutputError, match="write mqtts://"):
        tls_context(USER, file)


def test_certificates_that_people_make_for_their_own_broker_are_not_held_to_what_public_ones_must_have(tmp_path: Path) -> None:
    if mosquitto.OPENSSL is None:
        pytest.skip("openssl is not installed")
    ca, _ = mosquitto.certificates(tmp_path)
    context = tls_context(USER._replace(tls=True), ca)
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
