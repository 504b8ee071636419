"""The forms that Prefect's UI makes of the flows' parameters."""

from __future__ import annotations

from typing import Any

import pytest

from flows.outscale_image.flow import build_outscale_image
from flows.oxide_image.flow import build_oxide_image


@pytest.mark.parametrize("flow", [build_oxide_image, build_outscale_image], ids=lambda flow: flow.name)
class TestTheForm:
    def _definitions(self, flow: Any) -> dict[str, Any]:
        definitions: dict[str, Any] = flow.parameters.model_dump_for_openapi()["definitions"]
        return definitions

    def _build(self, flow: Any) -> dict[str, Any]:
        build: dict[str, Any] = next(
            schema for name, schema in self._definitions(flow).items() if name.endswith("ImageDefinition")
        )
        return build

    def test_every_option_has_a_title_a_description_and_a_place_of_its_own(self, flow: Any) -> None:
        options = self._build(flow)["properties"]
        assert [name for name, option in options.items() if not option.get("title")] == []
        assert [name for name, option in options.items() if not option.get("description")] == []
        places = [option.get("position") for option in options.values()]
        assert None not in places
        assert len(set(places)) == len(places)

    def test_what_is_required_comes_before_what_may_be_left_out(self, flow: Any) -> None:
        build = self._build(flow)
        first = sorted(build["properties"], key=lambda name: int(build["properties"][name]["position"]))[:6]
        assert build["required"]
        assert set(build["required"]) - {"ssh_username"} <= set(first)

    def test_provisioners_are_told_apart_by_a_type_without_a_default(self, flow: Any) -> None:
        for name in ("Shell", "File", "Reboot"):
            schema = self._definitions(flow)[name]
            assert "type" in schema["required"]
            assert "default" not in schema["properties"]["type"]

    def test_credentials_show_a_picker_and_take_no_contents(self, flow: Any) -> None:
        pickers = [schema for schema in self._definitions(flow).values() if "block_type_slug" in schema]
        assert len(pickers) == 1
        assert pickers[0]["additionalProperties"] is False
