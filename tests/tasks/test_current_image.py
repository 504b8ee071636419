"""What is kept of a definition's last good image, and read again."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.current_image import GoodImage, artifact_key

texts = st.text(max_size=20)

images = st.builds(
    GoodImage,
    definition=texts,
    builder=texts,
    id=texts,
    name=texts,
    place=texts,
    source_id=texts,
    source_name=texts,
    parents=st.dictionaries(texts, texts, max_size=3),
    digest=texts,
    built_at=st.datetimes(timezones=st.just(UTC)),
    run=st.uuids(),
)


@given(images)
def test_what_was_written_is_read(image: GoodImage) -> None:
    assert GoodImage.of_rows(image.rows()) == image


@pytest.mark.parametrize(
    "data", [None, "text", [], [{"what": "id"}], [{"other": 1}], [{"what": "id", "value": "x"}], 3]
)
def test_what_is_none_of_ours_is_no_image(data: object) -> None:
    assert GoodImage.of_rows(data) is None


def test_the_table_reads_as_a_list_of_facts() -> None:
    image = GoodImage(
        definition="web", builder="b", id="1", name="n", place="p", parents={"base": "0"}, digest="d",
        built_at=datetime(2026, 1, 2, tzinfo=UTC), run=UUID(int=7),
    )  # fmt: skip
    rows = {row["what"]: row["value"] for row in image.rows()}
    assert rows["parent base"] == "0"
    assert all(isinstance(value, str) for value in rows.values())


def test_keys_hold_what_keys_may_hold() -> None:
    assert artifact_key("Web_2.x") == "image-web-2-x"
