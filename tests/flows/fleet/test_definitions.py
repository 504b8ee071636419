"""A directory of definition files: names, families, variants, deployments; all mistakes of all files at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.errors import DefinitionError, Mistake
from flows.fleet.definitions import FleetDefinition, read_fleet
from flows.fleet.file import read_one
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.oxide_image.definition import OxideImageDefinition

OXIDE = "project: images\nssh_username: debian\n"
BASE = OXIDE + "boot_disk_image_id: debian-12\n"
METRIC = "{name: lateness, threshold: 1, operator: '<', range: 300, firing_for: 300}"
OMI = "source_omi: ami-12345678\nomi_name: web\n"


def fleet(directory: Path, **files: str) -> dict[str, FleetDefinition]:
    for name, text in files.items():
        (directory / f"{name.replace('_', '-')}.yaml").write_text(text, encoding="utf-8")
    return {definition.name: definition for definition in read_fleet(directory)}


def mistakes(directory: Path, **files: str) -> list[Mistake]:
    with pytest.raises(DefinitionError) as caught:
        fleet(directory, **files)
    return list(caught.value.mistakes)


def places(found: list[Mistake]) -> list[tuple[str, str, int | None]]:
    return [(mistake.file, mistake.option, mistake.line) for mistake in found]


def test_each_file_is_a_definition_and_a_deployment(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/unit.yaml").write_text("is: no definition\n", encoding="utf-8")
    web = (
        OXIDE + "source: {definition: base}\nrebuild_after: [omi]\nrebuild: [source, age]\nmax_age: 30d\n"
        "deployment:\n"
        "  schedule: {cron: '0 3 * * 1', timezone: Europe/Paris}\n"
        "  tags: [web]\n"
        "  work_queue: {name: images, concurrency_limit: 4}\n"
        "  concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}\n"
        "  triggers: [{expect: [pushed], match: {prefect.resource.id: x}}]\n"
    )
    found = fleet(tmp_path, base=BASE, web=web, omi=OMI)
    assert set(found) == {"base", "web", "omi"}
    assert isinstance(found["base"].build, OxideImageDefinition)
    assert isinstance(found["omi"].build, OutscaleImageDefinition)
    assert found["web"].family.parents == {"base", "omi"}
    assert found["web"].family.max_age == 30 * 24 * 3600
    assert "boot_disk_image_id" not in found["web"].build.model_dump(exclude_unset=True)
    assert found["web"].build.build_name == "web"
    assert found["web"].build.definition_file == str(tmp_path / "web.yaml")
    deployment = found["web"].deployment
    assert [schedule.cron for schedule in deployment.all_schedules] == ["0 3 * * 1"]
    assert (deployment.work_queue.name, deployment.work_queue.concurrency_limit) == ("images", 4)
    assert deployment.concurrency_limit
    assert deployment.concurrency_limit.limit == 1
    assert found["base"].deployment.work_queue.name == "default"


def test_all_mistakes_of_all_files(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        base=OXIDE + "source: {definition: gone}\ndeployment:\n  schedule: {cron: 0 3 * * 9}\n  shedule: {}\n",
        web=BASE + "memory: much\nmax_age: 3d\nrebuild: [sourse]\n",
        Odd=BASE,
        omi=OMI + "rebuild_after:\n- base\n- nowhere\nsource: {definition: base}\n",
        app=OXIDE + "deployment: {triggers: [{type: metric, metric: {}}]}\n",
        plain=BASE + "builder: outscale-chroot\n",
    )
    assert {place for place in places(found) if place[0] != "plain.yaml"} >= {
        ("base.yaml", "deployment.schedule.cron", 5),
        ("base.yaml", "deployment.shedule", 6),
        ("web.yaml", "memory", 4),
        ("web.yaml", "rebuild[0]", 6),
        ("Odd.yaml", "file", None),
        ("omi.yaml", "source_omi", 1),
        ("app.yaml", "boot_disk_image_id", 1),
    }
    # Of another builder, as it says, though its options are this one's.
    assert ("plain.yaml", "ssh_username", 2) in places(found)
    assert "(base.yaml, line 5)" in str(next(m for m in found if m.option == "deployment.schedule.cron"))


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("schedule: {interval: 1h, cron: '* * * * *'}", "exactly one of"),
        ("schedule: {cron: '* * * * *', timezone: Mars}", "timezone"),
        ("schedule: {rrule: 'FREQ=NEVER'}", "rrule"),
        ("schedule: {cron: '* * * * *'}\n  schedules: [{cron: '* * * * *'}]", "one is enough"),
        ("work_queue: {name: a, concurrency_limit: 0}", "greater than or equal to 1"),
        (f"triggers: [{{type: metric, metric: {METRIC}}}]", "Cloud"),
    ],
)
def test_deployments_that_the_server_would_not_take(tmp_path: Path, option: str, rule: str) -> None:
    found = mistakes(tmp_path, base=BASE + f"deployment:\n  {option}\n")
    assert any(rule.lower() in mistake.rule.lower() for mistake in found), found
    assert all(mistake.option.startswith("deployment") for mistake in found)


def test_parents_that_are_none(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        base=BASE + "matrix: {cpus: [2, 4]}\n",
        omi=OMI + "rebuild_after:\n- web\n- gone\n",
        web=OXIDE + "source: {definition: base}\n",
        app=OXIDE + "source: {definition: omi}\n",
    )
    assert places(found) == [
        ("app.yaml", "source.definition", 3),
        ("omi.yaml", "rebuild_after[1]", 5),
        ("web.yaml", "source.definition", 3),
    ]
    assert "outscale-chroot" in found[0].rule
    assert "there are app, base-2" in found[1].rule
    assert "base-2, base-4" in found[2].rule


def test_what_a_file_with_mistakes_would_be_is_not_taken_for_missing(tmp_path: Path) -> None:
    found = mistakes(tmp_path, base=BASE + "memory: much\n", web=OXIDE + "source: {definition: base}\n")
    assert places(found) == [("base.yaml", "memory", 4)]


def test_circles_are_shown_as_paths(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        a=OXIDE + "source: {definition: c}\n",
        b=OXIDE + "source: {definition: a}\n",
        c=BASE + "rebuild_after: [b]\n",
        own=BASE + "rebuild_after: [own]\n",
    )
    said = " ".join(mistake.rule for mistake in found)
    assert len(found) == 2
    assert "own → own" in said
    assert any(path in said for path in ("a → b → c → a", "b → c → a → b", "c → a → b → c"))


def test_a_queue_has_one_limit(tmp_path: Path) -> None:
    queue = "deployment: {work_queue: {name: vm, concurrency_limit: %d}}\n"
    found = mistakes(tmp_path, a=OMI + queue % 2, b=OMI + queue % 3, c=OMI + queue % 2)
    assert places(found) == [("b.yaml", "deployment.work_queue.concurrency_limit", 3)]
    assert "a.yaml: 2" in found[0].rule


def test_a_matrix_makes_variants(tmp_path: Path) -> None:
    text = OXIDE + (
        "source: {definition: 'base-{{matrix.os}}'}\n"
        "artifact_name: web-{{matrix.os}}-{{timestamp}}\n"
        "matrix:\n  cpus: [2, 4]\n  os: [debian, tiny]\n"
        "provisioners:\n- {type: sleep, duration: '{{ matrix.cpus }}'}\n"
    )
    bases = {"base_tiny": BASE, "base_debian": BASE}
    found = fleet(tmp_path, **bases, web=text)
    assert found["web-2-tiny"].family.parents == {"base-tiny"}
    assert set(found) == {"base-tiny", "base-debian", "web-2-debian", "web-2-tiny", "web-4-debian", "web-4-tiny"}
    web = found["web-4-debian"]
    assert isinstance(web.build, OxideImageDefinition)
    assert (web.build.cpus, web.build.artifact_name) == (4, "web-debian-{{timestamp}}")
    assert web.build.build_name == "web-4-debian"
    assert web.build.provisioners[0].model_dump()["duration"] == 4


def test_what_is_wrong_in_a_matrix_stands_on_its_line(tmp_path: Path) -> None:
    text = BASE + (
        "matrix:\n"  # 4
        "  cpus: [2, 999]\n"  # 5
        "  flavour: [a, b]\n"  # 6
        "provisioners:\n"
        "- {type: shell, inline: ['echo {{matrix.nothing}}']}\n"  # 8
    )
    assert places(mistakes(tmp_path, web=text)) == [
        ("web.yaml", "matrix.flavour", 6),
        ("web.yaml", "provisioners[0].inline[0]", 8),
        ("web.yaml", "cpus", 5),
    ]


@pytest.mark.parametrize("matrix", ["[]", "{}", "x", "{cpus: 2}", "{cpus: []}", "{cpus: [{}]}", "{cpus: [2, '2']}"])
def test_what_is_no_matrix(tmp_path: Path, matrix: str) -> None:
    (found,) = mistakes(tmp_path, web=BASE + f"matrix: {matrix}\n")
    assert found.option.startswith("matrix")
    assert found.line == 4


def test_what_only_the_host_that_builds_must_have(tmp_path: Path) -> None:
    provisioners = "provisioners: [{type: file, source: %s, destination: /x}]\nssh_private_key_file: /nowhere/key\n"
    fleet(tmp_path, web=BASE + provisioners % "/nowhere/file")
    found = mistakes(tmp_path, web=BASE + provisioners % "nowhere")
    assert places(found) == [("web.yaml", "provisioners[0].source", 4)]
    with pytest.raises(DefinitionError, match="ssh_private_key_file"):
        read_one(tmp_path / "web.yaml")


def test_two_deployments_of_one_name(tmp_path: Path) -> None:
    found = mistakes(tmp_path, web=BASE + "matrix: {cpus: [2]}\n", web_2=BASE)
    assert places(found) == [("web.yaml", "matrix", 4)] or places(found) == [("web-2.yaml", "matrix", 1)]
    assert "web-2" in found[0].rule


def test_one_variant_for_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(BASE + "matrix: {cpus: [2, 4]}\n", encoding="utf-8")
    assert read_one(path, model=OxideImageDefinition, variant="web-4").build.build_name == "web-4"
    changed = read_one(path, model=OxideImageDefinition, changes=["cpus=8"], variant="web-4").build
    assert isinstance(changed, OxideImageDefinition)
    assert changed.cpus == 8
    with pytest.raises(DefinitionError, match="one of web-2, web-4"):
        read_one(path, model=OxideImageDefinition)
