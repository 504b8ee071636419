"""The build page: one markdown artifact a run, with what was made, of what, and how long each step took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blocks.errors import BakeryError
from tasks.masking import masked
from tasks.quantities import duration_text
from tasks.run import Logger, Run, StepTime

_BAR = 24
"""Characters of the longest bar."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def steps_table(steps: Sequence[StepTime]) -> str:
    """The steps and their times, as a markdown table whose columns also line up as plain text."""
    width = max((len(step.name) for step in steps), default=4)
    rows = [f"| {step.name:<{width}} | {step.seconds:>8.2f} | {step.outcome:<9} |" for step in steps]
    head = [f"| {'step':<{width}} | {'seconds':>8} | {'outcome':<9} |", f"|{'-' * (width + 2)}|---------:|-----------|"]
    return "\n".join(head + rows)


def steps_chart(steps: Sequence[StepTime]) -> str:
    """The same with a bar each: from when to when the step ran. Both of Prefect's UIs and a terminal show it."""
    if not steps:
        return "It ended before its first step."
    end = max(step.after + step.seconds for step in steps)
    rows = [
        f"| {_cell(step.name)} | {step.seconds:.1f} | {_outcome(step)} | `{_bar(step, end)}` |"
        for step in sorted(steps, key=lambda step: step.after)
    ]
    head = [f"| step | seconds | | {duration_text(round(end))} in all |", "|---|---:|---|---|"]
    return "\n".join(head + rows)


def _bar(step: StepTime, end: float) -> str:
    scale = _BAR / end if end else 0
    begin = min(int(step.after * scale), _BAR - 1)
    eighths = max(round((step.after + step.seconds) * scale * 8) - begin * 8, 1)
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return ("·" * begin + bar).ljust(_BAR, "·")[: _BAR + 1]


def _outcome(step: StepTime) -> str:
    return {"done": "✓", "failed": "✗ failed", "cancelled": "✗ cancelled"}.get(step.outcome, step.outcome)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def build_page(run: Run, title: str, options: str, error: BaseException | None = None) -> str:
    """The page's markdown.

    Args:
        run: The run, with what it made, of what, its relatives and its steps.
        title: What was built.
        options: The definition as YAML; its secrets are references.
        error: What ended the build, if it failed.
    """
    parts = [f"# {title}"]
    if error is not None:
        parts += _failure(error)
    if run.kept:
        parts += ["## Kept", _quoted(run.kept)]
    if run.made:
        parts += ["## Image", _list(run.made)]
    if run.source:
        parts += ["## Source image", _list(run.source)]
    if run.parents or run.children:
        parts += ["## Lineage", _lineage(run)]
    parts += ["## Steps", steps_chart(run.steps)]
    parts += ["## Options", f"```yaml\n{options.rstrip()}\n```"]
    parts += [f"Flow run `{run.id}`, attempt {run.attempt}."]
    return masked("\n\n".join(parts))


def _failure(error: BaseException) -> list[str]:
    """What went wrong where, what was said last, and what to do: each by itself."""
    if not isinstance(error, BakeryError):
        return ["## Failed", _quoted(f"{type(error).__name__}: {error}")]
    step = f" in step *{error.step}*" if error.step else ""
    what = f"{error.resource}: {error.what}" if error.resource else error.what
    parts = [f"## Failed{step}", f"**{_cell(what)}**"]
    if error.why:
        parts.append(_quoted(error.why.strip("\n")))
    if error.hint:
        parts.append(f"→ {error.hint}")
    return parts


def _quoted(text: str) -> str:
    """Text as it is, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _lineage(run: Run) -> str:
    lines = [f"- **made after** {name}: {image}" for name, image in sorted(run.parents.items())]
    lines += [f"- **followed by** {name}, which is built again when this has a new image" for name in run.children]
    return "\n".join(lines)


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}**: {value}" for name, value in facts.items())


async def publish(logger: Logger, key: str, markdown: str) -> None:
    """Keep the page as an artifact of the flow run. A build does not fail for want of its page.

    Args:
        logger: Who is told when it could not be kept.
        key: What pages of the same image have in common; cleaned to what a key may hold.
        markdown: The page.
    """
    from prefect.artifacts import acreate_markdown_artifact

    key = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    try:
        await acreate_markdown_artifact(markdown=markdown, key=key, description="How this image was baked")
    except Exception as error:
        logger.warning("The build page could not be kept: %s", error)
