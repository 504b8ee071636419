from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import CredentialsError, SecretUnavailable
from blocks.oxide.client import OxideClient
from blocks.oxide.credentials import OxideCredentials, OxideCredentialsReference, find_credentials
from blocks.references import SecretReference

FROM_BLOCK = OxideCredentials(host="https://block.test", token=SecretStr("oxide-token-block"))
PROFILES = """
[profile.first]
host = "https://first.test"
token = "oxide-token-first"
user = "u"

[profile.second]
host = "second.test/"
token = "oxide-token-second"

[profile.tokenless]
host = "https://tokenless.test"
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of Oxide's own tools, of a user who has none; and an environment without credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OXIDE_HOST", "OXIDE_TOKEN", "OXIDE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / ".config/oxide"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def profiles(config: Path) -> Path:
    path = config / "credentials.toml"
    path.write_text(PROFILES)
    path.chmod(0o600)
    return config


@pytest.fixture
def stored_block(monkeypatch: pytest.MonkeyPatch) -> OxideCredentialsReference:
    async def load(name: object) -> OxideCredentials:
        return FROM_BLOCK

    monkeypatch.setattr(OxideCredentials, "aload", load)
    return OxideCredentialsReference(block="prod")


async def found(**options: Any) -> tuple[str, str]:
    credentials = await find_credentials(**options)
    return credentials.host, credentials.token.get_secret_value()


async def test_the_first_that_is_given_counts(
    profiles: Path, stored_block: OxideCredentialsReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    (profiles / "config.toml").write_text('default-profile = "first"')
    assert await found() == ("https://first.test", "oxide-token-first")
    monkeypatch.setenv("OXIDE_HOST", "https://environment.test")
    monkeypatch.setenv("OXIDE_TOKEN", "oxide-token-environment")
    assert await found() == ("https://environment.test", "oxide-token-environment")
    monkeypatch.setenv("OXIDE_PROFILE", "first")
    assert await found() == ("https://first.test", "oxide-token-first")
    assert await found(profile="second") == ("https://second.test", "oxide-token-second")
    monkeypatch.setenv("OWN", "oxide-token-own")
    own = SecretReference(env="OWN")
    given = {"host": "https://own.test", "token": own, "profile": "second"}
    assert await found(**given) == ("https://own.test", "oxide-token-own")
    assert await found(**given, block=stored_block) == ("https://block.test", "oxide-token-block")


async def test_the_environment_completes_a_host_or_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OXIDE_HOST", "https://environment.test")
    monkeypatch.setenv("OXIDE_TOKEN", "oxide-token-environment")
    monkeypatch.setenv("OWN", "oxide-token-own")
    assert await found(host="https://own.test") == ("https://own.test", "oxide-token-environment")
    assert await found(token=SecretReference(env="OWN")) == ("https://environment.test", "oxide-token-own")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [({"OXIDE_HOST": "https://environment.test"}, "token missing"), ({"OXIDE_TOKEN": "oxide-token-x"}, "host missing")],
)
async def test_half_of_it_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], missing: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsError) as caught:
        await find_credentials()
    assert f"OXIDE_HOST and OXIDE_TOKEN: {missing}" in str(caught.value)
    assert "oxide-token-x" not in str(caught.value)


async def test_none_at_all_says_what_there_could_be() -> None:
    with pytest.raises(CredentialsError) as caught:
        await find_credentials()
    for way in ("credentials", "host", "token", "profile", "OXIDE_HOST", "OXIDE_TOKEN"):
        assert way in caught.value.hint


async def test_a_reference_that_leads_nowhere() -> None:
    with pytest.raises(SecretUnavailable):
        await find_credentials(host="https://own.test", token=SecretReference(env="NOT_SET_ANYWHERE"))


async def test_a_profile_without_a_token(profiles: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        await find_credentials(profile="tokenless")
    assert "profile tokenless: token missing" in str(caught.value)


async def test_a_profile_that_is_not_there(profiles: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        await find_credentials(profile="third")
    text = str(caught.value)
    assert "there is no profile 'third'" in text
    assert "first, second, tokenless" in text
    assert str(profiles / "credentials.toml") in text


@pytest.mark.parametrize("contents", [b"[profile.first", b"\xff", b'profile = "first"', b"[profile]\nfirst = 1"])
async def test_a_profile_file_that_is_none(config: Path, contents: bytes) -> None:
    (config / "credentials.toml").write_bytes(contents)
    with pytest.raises(CredentialsError) as caught:
        await find_credentials(profile="first")
    assert str(config / "credentials.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("rack.test", "https://rack.test"),
        ("rack.test:8443/", "https://rack.test:8443"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
    ],
)
async def test_a_host_gets_its_scheme(monkeypatch: pytest.MonkeyPatch, given: str, host: str) -> None:
    monkeypatch.setenv("OXIDE_TOKEN", "oxide-token-1")
    assert (await found(host=given))[0] == host
    async with OxideCredentials(host=given, token=SecretStr("oxide-token-1")).get_client() as client:
        assert isinstance(client, OxideClient)
        assert client.host == host


async def test_a_definition_may_turn_off_what_a_block_verifies(stored_block: OxideCredentialsReference) -> None:
    assert not (await find_credentials(block=stored_block)).insecure_skip_verify
    assert (await find_credentials(block=stored_block, insecure_skip_verify=True)).insecure_skip_verify
    assert not FROM_BLOCK.insecure_skip_verify


def test_a_token_is_not_shown() -> None:
    assert "oxide-token-block" not in repr(FROM_BLOCK) + str(FROM_BLOCK)


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
async def test_a_profile_file_that_others_can_read_is_warned_of(
    profiles: Path, caplog: pytest.LogCaptureFixture, mode: int, warns: bool
) -> None:
    (profiles / "credentials.toml").chmod(mode)
    assert await found(profile="first") == ("https://first.test", "oxide-token-first")
    assert ("chmod 600" in caplog.text) is warns
    assert "oxide-token" not in caplog.text
