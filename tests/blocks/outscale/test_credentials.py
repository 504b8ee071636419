from __future__ import annotations

import json
import logging
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import CredentialsError, SecretUnavailable
from blocks.outscale.credentials import OutscaleCredentials, OutscaleCredentialsReference, find_credentials
from blocks.outscale.tls import tls
from blocks.references import SecretReference
from tests.conftest import Tune


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("OSC_", "OUTSCALE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


PROFILE: dict[str, Any] = {
    "access_key": "PROFILE-AK",
    "secret_key": "PROFILE-SK",
    "region": "us-east-2",
    "tls_skip_verify": True,
    "endpoints": {"api": "api.profile.test/api/v1"},
}


def _write_profiles(path: Path, **profiles: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profiles))


def _environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def _keys(found: OutscaleCredentials) -> tuple[str, str]:
    return found.access_key.get_secret_value(), found.secret_key.get_secret_value()


def _options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    _environment(monkeypatch, MY_AK="OPTION-AK", MY_SK="OPTION-SK")
    return {"access_key": SecretReference(env="MY_AK"), "secret_key": SecretReference(env="MY_SK")}


async def test_options_come_first(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    _write_profiles(home / ".osc" / "config.json", work=PROFILE)
    _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK", OSC_REGION="us-west-1")
    found = await find_credentials(
        **_options(monkeypatch), profile="work", region="eu-west-2", custom_endpoint_oapi="http://127.0.0.1:8080/api/v1"
    )
    assert _keys(found) == ("OPTION-AK", "OPTION-SK")
    assert (found.region, found.url) == ("eu-west-2", "http://127.0.0.1:8080/api/v1")
    assert found.insecure_skip_tls_verify


async def test_then_the_profile(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    _write_profiles(home / ".osc" / "config.json", work=PROFILE, other={**PROFILE, "access_key": "OTHER-AK"})
    _environment(
        monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK", OSC_REGION="us-west-1", OSC_PROFILE="other"
    )
    found = await find_credentials(profile="work")
    assert _keys(found) == ("PROFILE-AK", "PROFILE-SK")
    assert (found.region, found.url) == ("us-east-2", "https://api.profile.test/api/v1")
    found = await find_credentials()
    assert _keys(found) == ("OTHER-AK", "PROFILE-SK")


async def test_a_profile_is_completed_by_the_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    _write_profiles(home / "elsewhere.json", work={"access_key": "PROFILE-AK"})
    _environment(
        monkeypatch, OSC_CONFIG_FILE=str(home / "elsewhere.json"), OSC_SECRET_KEY="ENV-SK", OUTSCALE_REGION="us-west-1"
    )
    found = await find_credentials(profile="work")
    assert _keys(found) == ("PROFILE-AK", "ENV-SK")
    assert found.region == "us-west-1"


async def test_then_the_environment_and_its_old_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _environment(
        monkeypatch,
        OSC_ACCESS_KEY="ENV-AK",
        OSC_TLS_SKIP_VERIFY="Yes",
        OUTSCALE_ACCESSKEYID="OLD-AK",
        OUTSCALE_SECRETKEYID="OLD-SK",
        OUTSCALE_OAPI_URL="https://old.test/oapi/latest/",
    )
    with caplog.at_level(logging.WARNING, "image_bakery"):
        found = await find_credentials()
    assert _keys(found) == ("ENV-AK", "OLD-SK")
    assert (found.region, found.url) == ("eu-west-2", "https://old.test/oapi/latest")
    assert found.insecure_skip_tls_verify
    assert [record.getMessage().split()[0] for record in caplog.records] == [
        "OUTSCALE_SECRETKEYID",
        "OUTSCALE_OAPI_URL",
    ]
    assert "OLD-SK" not in caplog.text


async def test_the_region_has_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK", OSC_REGION="cloudgouv-eu-west-1")
    found = await find_credentials()
    assert found.endpoint is None
    assert found.url == "https://api.cloudgouv-eu-west-1.outscale.com/api/v1"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.test", "https://api.test/api/v1"),
        ("http://127.0.0.1:8080/oapi/latest/", "http://127.0.0.1:8080/oapi/latest"),
        ("api.eu-west-2.outscale.com/api/v1", "https://api.eu-west-2.outscale.com/api/v1"),
    ],
)
async def test_endpoints_of_the_environment(monkeypatch: pytest.MonkeyPatch, given: str, url: str) -> None:
    _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK", OSC_ENDPOINT_API=given)
    assert (await find_credentials()).url == url


@pytest.mark.parametrize("given", ["ftp://api.test/api/v1", "https://", "https://api.test:port/"])
async def test_an_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK", OSC_ENDPOINT_API=given)
    with pytest.raises(CredentialsError, match="no http or https URL"):
        await find_credentials()


async def test_an_endpoint_of_the_old_form_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialsError) as caught:
        await find_credentials(**_options(monkeypatch), custom_endpoint_oapi="outscale.com/oapi/latest")
    assert "https://api.eu-west-2.outscale.com/oapi/latest" in caught.value.hint


class TestWhatIsMissing:
    async def test_everything(self) -> None:
        with pytest.raises(CredentialsError, match="there are no credentials") as caught:
            await find_credentials()
        assert "OSC_ACCESS_KEY" in caught.value.hint

    async def test_the_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK")
        with pytest.raises(CredentialsError, match="secret_key missing"):
            await find_credentials()

    async def test_half_of_the_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _environment(monkeypatch, OSC_SECRET_KEY="ENV-SK", MY_AK="OPTION-AK")
        with pytest.raises(CredentialsError, match="goes with its secret"):
            await find_credentials(access_key=SecretReference(env="MY_AK"))

    async def test_what_a_reference_leads_to(self) -> None:
        with pytest.raises(SecretUnavailable):
            await find_credentials(
                access_key=SecretReference(env="NOT_SET"), secret_key=SecretReference(env="NOR_THIS")
            )

    async def test_the_profile(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        _write_profiles(home / ".osc" / "config.json", default={}, work={})
        _environment(monkeypatch, OSC_PROFILE="wrok")
        with pytest.raises(CredentialsError, match=r"no profile 'wrok'.*default, work"):
            await find_credentials()

    @pytest.mark.parametrize("content", ["no JSON", "[]", "\udcff"])
    async def test_the_sense_of_the_file(self, home: Path, content: str) -> None:
        (home / ".osc").mkdir()
        (home / ".osc" / "config.json").write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(CredentialsError, match="JSON object"):
            await find_credentials(profile="work")


class TestTheBlock:
    @pytest.fixture
    def block(self, monkeypatch: pytest.MonkeyPatch) -> OutscaleCredentialsReference:
        stored = OutscaleCredentials(access_key=SecretStr("BLOCK-AK"), secret_key=SecretStr("BLOCK-SK"))

        async def load(name: object) -> OutscaleCredentials:
            assert name == "prod"
            return stored

        monkeypatch.setattr(OutscaleCredentials, "aload", load)
        return OutscaleCredentialsReference(block="prod")

    async def test_is_loaded_and_nothing_else_is(
        self, monkeypatch: pytest.MonkeyPatch, block: OutscaleCredentialsReference
    ) -> None:
        _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_REGION="us-west-1", OSC_PROFILE="none")
        found = await find_credentials(block=block)
        assert _keys(found) == ("BLOCK-AK", "BLOCK-SK")
        assert found.region == "eu-west-2"

    async def test_options_go_before_its_fields(self, block: OutscaleCredentialsReference) -> None:
        found = await find_credentials(
            block=block, custom_endpoint_oapi="http://127.0.0.1:8080/api/v1", insecure_skip_tls_verify=True
        )
        assert (found.url, found.insecure_skip_tls_verify) == ("http://127.0.0.1:8080/api/v1", True)
        assert _keys(found) == ("BLOCK-AK", "BLOCK-SK")

    async def test_does_not_go_with_other_keys(
        self, monkeypatch: pytest.MonkeyPatch, block: OutscaleCredentialsReference
    ) -> None:
        with pytest.raises(CredentialsError, match="other keys"):
            await find_credentials(block=block, **_options(monkeypatch))
        with pytest.raises(CredentialsError, match="other keys"):
            await find_credentials(block=block, profile="work")


class TestTheClient:
    def _credentials(self, **more: Any) -> OutscaleCredentials:
        return OutscaleCredentials(access_key=SecretStr("AK"), secret_key=SecretStr("SK"), **more)

    async def test_is_for_the_region(self, tune: Tune) -> None:
        async with self._credentials(region="us-west-1").get_client() as client:
            assert client.endpoint == "https://api.us-west-1.outscale.com/api/v1"
            assert client.region == "us-west-1"

    def test_needs_certificate_and_key(self, tune: Tune) -> None:
        with pytest.raises(CredentialsError, match="needs its key"):
            self._credentials(x509_cert_path="/cert.pem").get_client()

    def test_says_what_is_wrong_with_the_certificate(self, tune: Tune, tmp_path: Path) -> None:
        (tmp_path / "cert.pem").write_text("no certificate")
        with pytest.raises(CredentialsError, match="cannot be used") as caught:
            self._credentials(
                x509_cert_path=str(tmp_path / "cert.pem"), x509_key_path=str(tmp_path / "key.pem")
            ).get_client()
        assert str(tmp_path / "key.pem") in caught.value.resource

    @pytest.mark.parametrize("insecure", [False, True])
    async def test_brings_the_certificate(
        self, tune: Tune, monkeypatch: pytest.MonkeyPatch, home: Path, insecure: bool
    ) -> None:
        _make_certificate(home)
        _environment(monkeypatch, OSC_ACCESS_KEY="ENV-AK", OSC_SECRET_KEY="ENV-SK")
        found = await find_credentials(
            x509_cert_path="cert.pem", x509_key_path="key.pem", base=home, insecure_skip_tls_verify=insecure
        )
        assert found.x509_cert_path == str(home / "cert.pem")
        context = tls(verify=not insecure, certificate=found.x509_cert_path, key=found.x509_key_path)
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is (ssl.CERT_NONE if insecure else ssl.CERT_REQUIRED)
        async with found.get_client() as client:
            assert client.region == "eu-west-2"


def _make_certificate(directory: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
