from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import validate
from pydantic import SecretStr, ValidationError

from blocks.errors import SecretUnavailable
from blocks.oxide.credentials import OxideCredentials, OxideCredentialsReference
from blocks.references import SecretReference
from flows.oxide_image.flow import build_oxide_image

PLAIN = "S3CRET-in-the-clear"


def reference(**form: str) -> SecretReference:
    return SecretReference.model_validate(form)


class TestResolving:
    async def test_an_environment_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OVEN_TOKEN", PLAIN)
        assert (await reference(env="OVEN_TOKEN").resolve()).get_secret_value() == PLAIN

    @pytest.mark.parametrize("value", [None, ""])
    async def test_a_variable_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        monkeypatch.delenv("OVEN_TOKEN", raising=False)
        if value is not None:
            monkeypatch.setenv("OVEN_TOKEN", value)
        with pytest.raises(SecretUnavailable) as caught:
            await reference(env="OVEN_TOKEN").resolve()
        assert str(caught.value).startswith("{env: OVEN_TOKEN}: ")
        assert "worker" in caught.value.hint

    @pytest.mark.parametrize(
        ("contents", "secret"), [("a\n", "a"), ("a", "a"), ("a\nb\n\n", "a\nb\n"), (" a ", " a "), ("ä\n", "ä")]
    )
    async def test_a_final_newline_is_no_part_of_a_file(self, tmp_path: Path, contents: str, secret: str) -> None:
        (tmp_path / "token").write_text(contents)
        assert (await reference(file=str(tmp_path / "token")).resolve()).get_secret_value() == secret

    async def test_a_relative_file_is_the_definitions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets/token").write_text(PLAIN)
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert (await reference(file="secrets/token").resolve(tmp_path)).get_secret_value() == PLAIN
        monkeypatch.setenv("HOME", str(tmp_path))
        assert (await reference(file="~/secrets/token").resolve(Path("/nowhere"))).get_secret_value() == PLAIN

    async def test_a_file_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(SecretUnavailable) as caught:
            await reference(file="token").resolve(tmp_path)
        assert f"{tmp_path / 'token'}: No such file or directory" in str(caught.value)

    async def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_bytes(b"\xff\xfe" + PLAIN.encode())
        with pytest.raises(SecretUnavailable) as caught:
            await reference(file="token").resolve(tmp_path)
        assert PLAIN not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("value", [PLAIN, SecretStr(PLAIN)])
    async def test_a_block(self, monkeypatch: pytest.MonkeyPatch, value: str | SecretStr) -> None:
        async def load(name: str) -> Secret[Any]:
            assert name == "oven-token"
            return Secret(value=value)

        monkeypatch.setattr(Secret, "aload", load)
        assert (await reference(block="oven-token").resolve()).get_secret_value() == PLAIN

    async def test_a_block_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def load(name: str) -> Secret[Any]:
            raise ValueError(f"Unable to find block document named {name}\nand more")

        monkeypatch.setattr(Secret, "aload", load)
        with pytest.raises(SecretUnavailable) as caught:
            await reference(block="oven-token").resolve()
        assert "{block: oven-token}" in str(caught.value)
        assert "Unable to find block document" in caught.value.why


class TestBlockReferences:
    @pytest.mark.parametrize(
        ("given", "asked"),
        [
            ({"block": "prod"}, "prod"),
            ({"$ref": {"block_document_id": "1-2"}}, {"block_document_id": "1-2"}),
            ({"$ref": {"block_document_slug": "oxide-credentials/x"}}, "x"),
        ],
    )
    async def test_each_form_loads(
        self, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], asked: dict[str, str] | str
    ) -> None:
        async def load(name_or_reference: object) -> OxideCredentials:
            assert name_or_reference == asked
            return OxideCredentials(host="https://rack.test", token=SecretStr(PLAIN))

        monkeypatch.setattr(OxideCredentials, "aload" if isinstance(asked, str) else "aload_from_ref", load)
        found = await OxideCredentialsReference.model_validate(given).load(OxideCredentials)
        assert found.host == "https://rack.test"

    @pytest.mark.parametrize("failure", [ValueError("none such"), RuntimeError("another type"), TypeError()])
    async def test_a_block_that_cannot_be_loaded(self, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
        async def load(name: object) -> OxideCredentials:
            raise failure

        monkeypatch.setattr(OxideCredentials, "aload", load)
        with pytest.raises(SecretUnavailable) as caught:
            await OxideCredentialsReference(block="prod").load(OxideCredentials)
        assert "{block: prod}" in str(caught.value)
        assert caught.value.why
        assert "oxide-credentials" in caught.value.hint

    @pytest.mark.parametrize(
        "given", [PLAIN, [PLAIN], {"host": "h", "token": PLAIN}, {"block": "a", "$ref": PLAIN}, {}, 7]
    )
    def test_contents_are_refused_and_not_echoed(self, given: object) -> None:
        with pytest.raises(ValidationError) as caught:
            OxideCredentialsReference.model_validate(given)
        assert "a reference to a block, never its contents: {block: NAME}" in str(caught.value)
        assert PLAIN not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [PLAIN, [PLAIN], 7, True, {}, {"value": PLAIN}, {"env": "A", "file": "b"}, {"env": PLAIN, "value": PLAIN}],
)
def test_a_secret_itself_is_refused_and_not_echoed(given: object) -> None:
    with pytest.raises(ValidationError) as caught:
        SecretReference.model_validate(given)
    assert PLAIN not in str(caught.value)


@pytest.mark.parametrize("form", ["block", "env", "file"])
def test_a_reference_reads_as_it_is_written(form: str) -> None:
    assert str(reference(**{form: "X"})) == f"{{{form}: X}}"
    with pytest.raises(ValidationError):
        reference(**{form: ""})


class TestTheFlowsParameters:
    """The schema by which Prefect's server and forms refuse a run before its parameters are stored."""

    @staticmethod
    def check(**options: object) -> None:
        schema = build_oxide_image.parameters.model_dump_for_openapi()
        build = {"boot_disk_image_id": "debian", "project": "images", "ssh_username": "debian", **options}
        validate({"build": build}, schema, raise_on_error=True)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"token": {"env": "T"}, "host": "https://rack.test"},
            {"token": {"file": "T"}, "host": "https://rack.test"},
            {"token": {"block": "T"}, "host": "https://rack.test"},
            {"credentials": {"block": "prod"}},
            {"credentials": {"$ref": {"block_document_id": "1-2"}}},
            {"provisioners": [{"type": "shell", "inline": ["true"], "env": {"A": "b", "C": {"env": "D"}}}]},
        ],
    )
    def test_references_are_taken(self, options: dict[str, object]) -> None:
        self.check(**options)

    @pytest.mark.parametrize("given", [PLAIN, [PLAIN], 7, None])
    def test_a_plain_token_is_answered_with_a_hint(self, given: object) -> None:
        with pytest.raises(SchemaError) as caught:
            self.check(token=given)
        assert "a reference, never the secret itself" in str(caught.value)
        assert PLAIN not in str(caught.value)

    @pytest.mark.parametrize("given", [PLAIN, [PLAIN], None])
    def test_plain_credentials_are_answered_with_a_hint(self, given: object) -> None:
        with pytest.raises(SchemaError) as caught:
            self.check(credentials=given)
        assert "a reference to a block, never its contents" in str(caught.value)
        assert PLAIN not in str(caught.value)

    @pytest.mark.parametrize(
        "options",
        [
            {"credentials": {"host": "https://rack.test", "token": PLAIN}},
            {"credentials": {"token": PLAIN}},
            {"token": {"value": PLAIN}},
            {"token": {"env": "A", "value": PLAIN}},
            {"provisioners": [{"type": "shell", "inline": ["true"], "env": {"A": {"value": PLAIN}}}]},
        ],
    )
    def test_secrets_in_other_shapes_are_refused_and_not_echoed(self, options: dict[str, object]) -> None:
        with pytest.raises(SchemaError) as caught:
            self.check(**options)
        assert PLAIN not in str(caught.value)
