"""The build page: one markdown artifact a run, with what was made, of what, and how long each step took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blocks.errors import BakeryError
from tasks.masking import masked
from tasks.run import Run, StepTime


def steps_table(steps: Sequence[StepTime]) -> str:
    """The steps and their times, as a markdown table whose columns also line up as plain text."""
    width = max((len(step.name) for step in steps), default=4)
    rows = [f"| {step.name:<{width}} | {step.seconds:>8.2f} | {step.outcome:<9} |" for step in steps]
    head = [f"| {'step':<{width}} | {'seconds':>8} | {'outcome':<9} |", f"|{'-' * (width + 2)}|---------:|-----------|"]
    return "\n".join(head + rows)


def build_page(run: Run, title: str, options: str, error: BaseException | None = None) -> str:
    """The page's markdown.

    Args:
        run: The run, with what it made, of what, and its steps.
        title: What was built.
        options: The definition as YAML; its secrets are references.
        error: What ended the build, if it failed.
    """
    parts = [f"# {title}"]
    if error is not None:
        what = str(error) if isinstance(error, BakeryError) else f"{type(error).__name__}: {error}"
        parts += ["## Failed", "```text", what, "```"]
    if run.made:
        parts += ["## Image", _list(run.made)]
    if run.source:
        parts += ["## Source image", _list(run.source)]
    parts += ["## Steps", steps_table(run.steps)]
    parts += ["## Options", "```yaml", options.rstrip(), "```"]
    parts += [f"Flow run `{run.id}`, attempt {run.attempt}."]
    return masked("\n\n".join(parts).replace("```text\n\n", "```text\n").replace("```yaml\n\n", "```yaml\n"))


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}**: {value}" for name, value in facts.items())


async def publish(run: Run, key: str, markdown: str) -> None:
    """Keep the page as an artifact of the flow run. A build does not fail for want of its page.

    Args:
        run: The run.
        key: What pages of the same image have in common; cleaned to what a key may hold.
        markdown: The page.
    """
    from prefect.artifacts import acreate_markdown_artifact

    key = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    try:
        await acreate_markdown_artifact(markdown=markdown, key=key, description="How this image was baked")
    except Exception as error:
        run.logger.warning("The build page could not be kept: %s", error)
