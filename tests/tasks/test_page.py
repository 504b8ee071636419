from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.errors import ProvisionerFailed
from tasks.masking import keep_secret
from tasks.page import build_page, steps_chart
from tasks.run import Run, StepTime
from tests.tasks.support import mark_of


@pytest.fixture
def run() -> Run:
    class Nobody:
        def creating(self, resource: str) -> None: ...

        def created(self, resource: str) -> None: ...

    return Run(mark_of(), datetime.now(UTC), logging.getLogger("test"), Nobody())


class TestTheSteps:
    STEPS = (StepTime("launch", 10, "done", 0), StepTime("connect", 30, "failed", 10))

    def test_have_a_bar_each_where_they_were_in_the_build(self) -> None:
        head, _, launch, connect = steps_chart(self.STEPS).splitlines()
        assert "40s in all" in head
        bars = [line.split("`")[1] for line in (launch, connect)]
        assert len({len(bar) for bar in bars}) == 1
        assert bars[0].startswith("█")
        assert not bars[0].endswith("█")
        assert bars[1].startswith("·")
        assert bars[1].endswith("█")
        assert bars[1].count("█") == 3 * bars[0].count("█")

    def test_say_how_they_ended(self) -> None:
        _, _, launch, connect = steps_chart(self.STEPS).splitlines()
        assert "✓" in launch
        assert "failed" in connect

    @pytest.mark.parametrize("steps", [[], [StepTime("quick", 0, "done", 0)]])
    def test_may_be_none_or_take_no_time(self, steps: Any) -> None:
        assert steps_chart(steps)

    def test_are_told_apart_whatever_they_are_called(self) -> None:
        assert steps_chart([StepTime("a | b\nc", 1, "done", 0)]).splitlines()[2].startswith("| a \\| b c |")


class TestThePage:
    def test_of_an_image_tells_what_it_is_and_where_it_comes_from(self, run: Run) -> None:
        run.made, run.source = {"id": "7f", "name": "web-1"}, {"id": "3a", "name": "noble"}
        run.parents, run.children = {"base": "3a"}, ["shop"]
        page = build_page(run, "Image web", "project: images")
        for said in ("# Image web", "**id**: 7f", "**name**: noble", "made after** base: 3a", "followed by** shop"):
            assert said in page
        assert "Failed" not in page

    def test_of_a_failure_has_the_last_lines_and_the_hint_each_by_itself(self, run: Run) -> None:
        lines = "\n".join(f"line {number}" for number in range(3))
        error = ProvisionerFailed("the script ended with exit code 3", resource="shell 1", why=lines, hint="Mend it.")
        error.step = "provision: shell 1"
        page = build_page(run, "Image web", "", error)
        assert "## Failed in step *provision: shell 1*" in page
        assert "**shell 1: the script ended with exit code 3**" in page
        assert "```text\nline 0\nline 1\nline 2\n```" in page
        assert "→ Mend it." in page

    def test_takes_no_fence_for_its_own(self, run: Run) -> None:
        error = ProvisionerFailed("it failed", why="```\n# Not a title\n```")
        assert "````text\n```\n# Not a title\n```\n````" in build_page(run, "Image web", "", error)

    def test_holds_no_secret(self, run: Run) -> None:
        from pydantic import SecretStr

        keep_secret(SecretStr("canary-of-the-page"))
        error = ProvisionerFailed("it failed", why="the token is canary-of-the-page", hint="ask canary-of-the-page")
        assert "canary-of-the-page" not in build_page(run, "canary-of-the-page", "", error)

    def test_says_what_was_kept(self, run: Run) -> None:
        run.kept = "The instance is kept until noon."
        assert "## Kept" in build_page(run, "Image web", "")
