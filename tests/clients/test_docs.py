"""The documentation holds together: links lead somewhere, configurations are ones that Osprey takes,
settings and alerts that are named are there."""

import pathlib
import re
import subprocess
import urllib.parse

import pytest
import yaml

import conftest
import harness

DOCS = harness.ROOT / "docs"
PAGES = sorted(
    path
    for path in [*harness.ROOT.glob("*.md"), *DOCS.rglob("*.md"), *harness.ROOT.glob("*/*.md")]
    + list((harness.ROOT / "deploy").rglob("*.md"))
)
PAGES = list(dict.fromkeys(PAGES))


def name(path):
    return str(path.relative_to(harness.ROOT))


def without_code(text):
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """The anchors of a page's headings, as Markdown's renderers make them, and its own."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.S | re.M)
    made = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#+ +(.*)$", text, flags=re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        made.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return made


def test_every_page_is_found():
    assert {"README.md", "SECURITY.md", "docs/runbook.md", "docs/zh/errors.md"} <= set(map(name, PAGES))
    assert {"deploy/kubernetes/README.md", "benches/README.md"} <= set(map(name, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        led_to = (page.parent / path).resolve() if path else page
        assert led_to.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(led_to), f"{target}: there is no such heading"


def structure(page):
    """What a translation has in common with its original: headings, code without its comments, tables by
    their rows and by the code in them, items of lists, links beside those between the languages."""
    text = page.read_text()
    code = [
        [re.sub(r" +# .*", "", line) for line in block.splitlines()]
        for block in re.findall(r"^```sh\n(.*?)^```$", text, flags=re.S | re.M)
    ]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    rows = [re.findall(r"`[^`]+`", line) for line in prose.splitlines() if line.startswith("|")]
    return {
        "headings": re.findall(r"^#+", prose, flags=re.M),
        "fences": re.findall(r"^```(\w+)", text, flags=re.M),
        "code": code,
        "rows": [sorted(spans) for spans in rows],
        "bold": len(re.findall(r"^\*\*", prose, flags=re.M)),
        "items": re.findall(r"^- \[([^\]]+)\]", prose, flags=re.M),
        "links": sorted(
            set(re.findall(r"\]\(([^)\s]+)\)", prose)) - {"README.md", "README.zh.md", "docs/errors.md"}
        ),
        "settings": sorted(set(re.findall(r"`((?:[a-z_]+\.)?[a-z]+_[a-z_]+)`", prose))),
    }


def test_the_chinese_readme_has_the_structure_of_the_english():
    english, chinese = structure(harness.ROOT / "README.md"), structure(harness.ROOT / "README.zh.md")
    for part, there in english.items():
        assert chinese[part] == there, part


def test_chinese_is_spaced_as_it_is_written():
    """A space between an ideograph and a Latin letter, none beside full-width punctuation."""
    ideograph, latin, wide = "[\u4e00-\u9fff]", "[A-Za-z0-9]", "[，。：；！？（）、《》“”]"
    wrong = f"{ideograph}{latin}|{latin}{ideograph}| {wide}|{wide} "
    page = harness.ROOT / "README.zh.md"
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    prose = re.sub(r" *\| *", "|", re.sub(r"`[^`\n]*`", "X", prose))
    for number, line in enumerate(prose.splitlines()):
        found = re.search(wrong, line)
        assert not found, f"line {number + 1}: {line[max(found.start() - 10, 0) : found.end() + 10]!r}"


def blocks():
    for page in PAGES:
        for number, text in enumerate(
            re.findall(r"^```toml\n(.*?)^```$", page.read_text(), flags=re.S | re.M)
        ):
            yield pytest.param(text, id=f"{name(page)}-{number}")


@pytest.mark.parametrize("text", blocks())
def test_configurations_are_ones_that_osprey_takes(text, tmp_path):
    conftest.need_osprey()
    # The files of secrets that a page names are here, and not there.
    for path in re.findall('^[a-z_]*_file = "(.*)"', text, flags=re.M):
        secret = tmp_path / pathlib.Path(path).name
        secret.write_text("0123456789abcdef" * 4)
        secret.chmod(0o600)
        text = text.replace(path, str(secret))
    # systemd makes the directory of sockets.
    text = re.sub(r'(socket = ")/run/osprey', rf"\g<1>{tmp_path}", text)
    config = tmp_path / "osprey.toml"
    config.write_text(text)
    command = [harness.osprey_binary(), "check-config", "--config", config]
    account = re.search(r"^\[catalog\][^\[]*^user = ", text, flags=re.M)
    environment = {"OSPREY_CATALOG_PASSWORD": "x"} if account else {}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def test_settings_that_are_named_are_there():
    """As `section.key`, in any page."""
    sections = "listen|upstream|route|protect|catalog|keys|observe|limits"
    shown = (harness.ROOT / "config" / "osprey.toml").read_text()
    keys = set(re.findall(r"^(?:#= |#e\.g\. |#or: )?(\w+) = ", shown, flags=re.M))
    keys |= set(re.findall(r"\[+(?:\w+\.)?(\w+)\]+", shown))
    found = 0
    for page in PAGES:
        # The changelog also names what is gone.
        if page.name == "CHANGELOG.md":
            continue
        for section, key in re.findall(rf"`({sections})\.(\w+)", page.read_text()):
            found += 1
            assert key in keys or key == "rs", f"{name(page)}: {section}.{key}"
    assert found > 30


def test_the_summary_has_every_page():
    listed = set(re.findall(r"\]\(([^)]+)\)", (DOCS / "SUMMARY.md").read_text()))
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert listed == there - {"SUMMARY.md"}


def test_the_runbook_has_every_alert():
    rules = yaml.safe_load((harness.ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    parts = re.findall(r"^## (\w+)$", (DOCS / "runbook.md").read_text(), flags=re.M)
    assert parts == alerts


def test_threats_have_their_tests():
    """Each row of SECURITY.md's tables names tests, each in its file, and all of them are there."""
    text = (harness.ROOT / "SECURITY.md").read_text()
    threats = re.search(r"^## Threats$(.*?)^## ", text, flags=re.S | re.M)[1]
    rows = [line for line in threats.splitlines() if line.startswith("| ") and "what the attacker does" not in line]
    assert len(rows) > 30
    for row in rows:
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 3, row
        for part in cells[2].split("; "):
            file, _, names = part.partition(": ")
            file = file.strip("`")
            path = harness.ROOT / file if "/" in file else harness.HERE / file
            there = set(re.findall(r"^ *(?:async )?(?:def|fn) (\w+)", path.read_text(), flags=re.M))
            names = re.findall(r"`(\w+)`", names)
            assert names, row
            for test in names:
                assert test in there, f"{file}: there is no {test}"
