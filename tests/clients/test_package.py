"""What is installed: the Debian package with its scripts, man pages and completions, and the binary without
the demo. The package is made from the binary under test, and installed into a directory of its own."""

import gzip
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tomllib
import urllib.parse

import pytest

import conftest
import harness
import vendor

BUILD = harness.ROOT / "deploy" / "debian" / "build"
UNITS = ("osprey.service", "osprey.socket")
ONE_DAY = {"SOURCE_DATE_EPOCH": "1795000000"}
# Packed quickly: how small it becomes is not what is tested.
QUICKLY = {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}


def osprey(*arguments):
    conftest.need_osprey()
    return subprocess.run([harness.osprey_binary(), *arguments], capture_output=True, text=True)


@pytest.mark.skipif(not harness.TINY_IO, reason="tests/run tiny builds without the demo")
def test_a_build_without_the_demo_says_so():
    for arguments in (["demo"], ["demo", "--once", "--listen", "127.0.0.1:0"]):
        done = osprey(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1 and "this build has no demo" in done.stderr
    assert "demo" not in osprey("--help").stdout
    mistaken = osprey("serve")
    assert mistaken.returncode == 2 and "demo" not in mistaken.stderr


def test_a_health_check_has_a_program_to_ask_with(tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[limits]\npre_drain_delay = "1h"\n')
    # Whether Hologres can be reached is no matter of whether clients are accepted.
    with harness.Osprey(harness.free_port(), config=config) as running:
        ask = ["ready", "--metrics", f"0.0.0.0:{running.metrics_port}"]
        done = osprey(*ask)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
        running.process.send_signal(signal.SIGTERM)
        harness.wait_for(lambda: osprey(*ask).returncode == 1, "the drain to be told")
        assert osprey(*ask).stderr == "osprey: not ready: draining\n"
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(20)
    gone = osprey(*ask)
    assert gone.returncode == 1 and "refused" in gone.stderr and gone.stdout == ""


def build(binary, directory, **environment):
    environment = {**os.environ, **ONE_DAY, **QUICKLY, **environment}
    return harness.run([BUILD, binary, directory], env=environment).strip()


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """The binary under test, without what a debugger needs."""
    conftest.need_osprey()
    if shutil.which("dpkg-shlibdeps") is None:
        pytest.skip("NOT RUN, for want of dpkg-dev")
    stripped = tmp_path_factory.mktemp("binary") / "osprey"
    harness.run(["strip", "-s", "-o", stripped, harness.osprey_binary()])
    return stripped


@pytest.fixture(scope="module")
def package(binary, tmp_path_factory):
    return build(binary, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """What is in it, control files under DEBIAN."""
    directory = tmp_path_factory.mktemp("unpacked")
    harness.run(["dpkg-deb", "--raw-extract", package, directory])
    return directory


def fields(unpacked):
    text = (unpacked / "DEBIAN" / "control").read_text()
    return dict(re.findall(r"^(\S+): (.*)$", text, flags=re.M))


def test_its_description_is_that_of_the_binary(package, unpacked):
    version = osprey("--version").stdout.split()[1]
    known = fields(unpacked)
    assert "@" not in re.sub(r"<\S+@\S+>", "", (unpacked / "DEBIAN" / "control").read_text())
    assert known["Version"] == version.replace("-", "~") + "-1"
    architecture = harness.run(["dpkg", "--print-architecture"]).strip()
    assert package.endswith(f"/osprey_{known['Version']}_{architecture}.deb")
    assert known["Architecture"] == architecture
    # Names are those of the libraries that the loader asks for.
    assert re.search(r"libc6 \(>= [\d.]+\)", known["Depends"])
    assert "systemd-sysusers" in known["Depends"]
    files = [path for path in (unpacked / "usr").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1024
    assert size <= int(known["Installed-Size"]) < size * 1.2 + 500


def test_files_belong_to_root_and_only_root_may_write(package, unpacked):
    listed = harness.run(["dpkg-deb", "--contents", package])
    assert listed.count("\n") > 40
    executable = set()
    for line in listed.splitlines():
        mode, owner, *_, name = line.split()
        assert owner == "root/root", line
        assert mode in ("drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"), line
        if mode == "-rwxr-xr-x":
            executable.add(name)
    assert executable == {"./usr/bin/osprey"}
    for name in ("postinst", "prerm", "postrm"):
        script = unpacked / "DEBIAN" / name
        assert stat.S_IMODE(script.stat().st_mode) == 0o755
        harness.run(["sh", "-n", script])
    # What the administrator may change is asked about at an upgrade; nothing else is under /etc.
    assert (unpacked / "DEBIAN" / "conffiles").read_text() == "/etc/osprey/osprey.toml\n"
    assert [path.name for path in (unpacked / "etc").rglob("*") if path.is_file()] == ["osprey.toml"]
    harness.run(["md5sum", "--check", "--quiet", unpacked / "DEBIAN" / "md5sums"], cwd=unpacked)


def test_the_same_inputs_give_the_same_bytes(binary, package, tmp_path):
    again = build(binary, tmp_path, TZ="Asia/Shanghai")
    with open(package, "rb") as first, open(again, "rb") as second:
        assert first.read() == second.read()


def test_the_service_and_the_configuration_fit_the_package(unpacked):
    service = (unpacked / "usr/lib/systemd/system/osprey.service").read_text()
    (command,) = re.findall(r"^ExecStart=(\S+) serve --config (\S+)$", service, flags=re.M)
    program, config = (unpacked / path.lstrip("/") for path in command)
    assert program.exists()
    (user,) = re.findall(r"^User=(.*)$", service, flags=re.M)
    assert f"u {user} -" in (unpacked / "usr/lib/sysusers.d/osprey.conf").read_text()
    (socket,) = re.findall(
        r"^ListenStream=(.*)$", (unpacked / "usr/lib/systemd/system/osprey.socket").read_text(), flags=re.M
    )
    check = [program, "check-config", "--config", config]
    # As it is shipped, one thing is missing; the package therefore starts nothing.
    bare = subprocess.run(check, capture_output=True, text=True, env={})
    assert bare.returncode == 2 and "upstream.address" in bare.stderr, bare.stderr
    assert len(bare.stderr.splitlines()) == 2, bare.stderr
    named = subprocess.run(check, capture_output=True, text=True, env={"OSPREY_UPSTREAM": "holo:80"})
    assert named.returncode == 0 and "warning" not in named.stderr, named.stderr
    assert tomllib.loads(named.stdout)["listen"]["addresses"] == [socket]


def test_systemd_takes_the_units(unpacked, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT RUN, for want of systemd-analyze")
    for unit in UNITS:
        # The program is not installed here.
        text = (unpacked / "usr/lib/systemd/system" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/usr/bin/osprey", str(unpacked / "usr/bin/osprey")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in UNITS)],
        capture_output=True,
        text=True,
    )
    # Of others' units of this machine it complains, too.
    about = [line for line in done.stderr.splitlines() if "osprey" in line]
    assert done.returncode == 0 and about == [], done.stderr


class Root:
    """A directory that dpkg takes for a system; its packages' scripts run with DPKG_ROOT."""

    def __init__(self, directory):
        self.directory = directory
        for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc", "tmp"):
            (directory / name).mkdir(parents=True)
        (directory / "var/lib/dpkg/status").touch()

    def dpkg(self, *arguments):
        forced = ["script-chrootless", "depends", "confdef", "confold"]
        command = ["dpkg", f"--root={self.directory}", *(f"--force-{name}" for name in forced)]
        return harness.run([*command, *arguments], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})

    def status(self):
        command = ["dpkg-query", f"--admindir={self.directory}/var/lib/dpkg", "-W", "-f"]
        done = subprocess.run([*command, "${Version} ${db:Status-Status}", "osprey"], capture_output=True, text=True)
        return done.stdout

    def path(self, name):
        return self.directory / name.lstrip("/")

    def enabled(self):
        wants = self.path("/etc/systemd/system").glob("*.wants/osprey.*")
        return {path.name for path in wants}


@pytest.fixture
def root(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("NOT RUN, for want of root: dpkg gives files to their owners")
    if shutil.which("systemd-sysusers") is None or shutil.which("deb-systemd-helper") is None:
        pytest.skip("NOT RUN, for want of systemd-sysusers or deb-systemd-helper")
    return Root(tmp_path / "root")


@pytest.fixture(scope="module")
def next_version(unpacked, tmp_path_factory):
    """The same, as a later version with another configuration."""
    work = tmp_path_factory.mktemp("next")
    shutil.copytree(unpacked, work / "osprey")
    control = work / "osprey" / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99.0-1", control.read_text(), flags=re.M))
    with (work / "osprey/etc/osprey/osprey.toml").open("a") as file:
        file.write("# A line that is new in this version.\n")
    harness.run(["dpkg-deb", "--root-owner-group", "--build", work / "osprey", work / "next.deb"],
                env={**os.environ, **QUICKLY})
    return work / "next.deb"


def test_installed_upgraded_removed_and_purged(root, package, next_version):
    root.dpkg("--install", package)
    assert root.status().endswith("-1 installed")
    # The user is there, and nothing is enabled: it has to be configured first.
    assert re.search(r"^osprey:", root.path("/etc/passwd").read_text(), flags=re.M)
    assert root.enabled() == set()
    assert harness.run([root.path("/usr/bin/osprey"), "--version"]).startswith("osprey ")
    config = root.path("/etc/osprey/osprey.toml")

    # What the administrator has done is kept at an upgrade.
    config.write_text('[upstream]\naddress = "holo:80"\n')
    systemctl = ["systemctl", f"--root={root.directory}"]
    harness.run([*systemctl, "enable", "osprey.service"])
    (secret := root.path("/etc/osprey/password")).write_text("x")
    (state := root.path("/var/lib/osprey/keys.json")).parent.mkdir(parents=True, exist_ok=True)
    state.write_text("{}")
    root.dpkg("--install", next_version)
    assert root.status() == "99.0-1 installed"
    assert config.read_text() == '[upstream]\naddress = "holo:80"\n'
    assert root.enabled() == {"osprey.service"} and state.exists()

    # Removed: the program goes, configuration and state stay.
    root.dpkg("--remove", "osprey")
    assert root.status() == "99.0-1 config-files"
    assert not root.path("/usr/bin/osprey").exists() and config.exists() and state.exists()
    # Installed anew, it is as before.
    root.dpkg("--install", next_version)
    assert config.read_text() == '[upstream]\naddress = "holo:80"\n'
    assert root.enabled() == {"osprey.service"}

    # Purged: what Osprey has written goes, and what points to it; the administrator's own file stays.
    root.dpkg("--purge", "osprey")
    assert root.status().split()[-1:] in ([], ["not-installed"])
    assert not config.exists() and not state.parent.exists() and root.enabled() == set()
    assert secret.exists()


def test_man_pages_are_ones_that_man_shows(unpacked):
    pages = sorted((unpacked / "usr/share/man/man1").iterdir())
    commands = re.findall(r"^  ([a-z-]+)$", osprey("--help").stdout, flags=re.M)
    commands = [name for name in commands if name != "help"]
    assert len(commands) >= 6
    expected = {"osprey.1.gz", *(f"osprey-{command}.1.gz" for command in commands)}
    assert {page.name for page in pages} == expected
    if shutil.which("groff") is None:
        pytest.skip("NOT RUN, for want of groff")
    for page in pages:
        roff = gzip.decompress(page.read_bytes())
        done = subprocess.run(
            ["groff", "-K", "utf8", "-man", "-ww", "-T", "utf8"], input=roff, capture_output=True
        )
        assert done.stderr == b"", f"{page.name}: {done.stderr.decode()}"
        text = re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout.decode())
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"):
            assert re.search(f"^{section}$", text, flags=re.M), f"{page.name}: {section}"


def test_pages_that_cannot_be_written_are_told(tmp_path):
    (tmp_path / "file").touch()
    done = osprey("man-pages", str(tmp_path / "file" / "pages"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("osprey: cannot write man pages to "), done.stderr


def completed(script, *words):
    """What bash offers for the last of the words."""
    command = f"""
        source {script}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _osprey osprey "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(harness.run(["bash", "-c", command, "bash", "osprey", *words]).split())


def test_bash_completes_commands_and_flags(unpacked):
    script = unpacked / "usr/share/bash-completion/completions/osprey"
    assert completed(script, "che") == {"check-config"}
    assert "man-pages" not in completed(script, "")
    assert {"--config", "--upstream", "--encrypted-project"} <= completed(script, "serve", "--")
    assert completed(script, "doctor", "--data") == {"--database"}
    assert completed(script, "completions", "z") == {"zsh"}


@pytest.mark.parametrize(
    "shell, path",
    [("zsh", "zsh/vendor-completions/_osprey"), ("fish", "fish/vendor_completions.d/osprey.fish")],
)
def test_other_shells_can_read_theirs(unpacked, shell, path):
    if shutil.which(shell) is None:
        pytest.skip(f"NOT RUN, for want of {shell}")
    harness.run([shell, "-n", unpacked / "usr/share" / path])


def test_documents_are_where_debian_has_them(unpacked):
    documents = unpacked / "usr/share/doc/osprey"
    changes = gzip.decompress((documents / "changelog.Debian.gz").read_bytes()).decode()
    known = fields(unpacked)
    assert changes.startswith(f"osprey ({known['Version']}) ")
    assert f" -- {known['Maintainer']}  Wed, 18 Nov 2026" in changes
    assert b"# Changelog" in gzip.decompress((documents / "changelog.gz").read_bytes())
    copyright = (documents / "copyright").read_text()
    assert "License: Apache-2.0" in copyright
    for name in re.findall(r"[\w.-]+\.gz", copyright):
        assert (documents / name).exists(), name
    for page in (harness.ROOT / "docs").rglob("*.md"):
        assert (documents / "docs" / page.relative_to(harness.ROOT / "docs")).exists()
    assert (documents / "examples/prometheus/alerts.yml").exists()


def sbom(*arguments, epoch="1795000000"):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    return harness.run([harness.ROOT / "deploy" / "sbom", *arguments], env=environment)


def test_the_bill_of_materials_has_what_is_in_the_binary():
    everything = "--features=traces"
    made = json.loads(sbom(everything))
    assert made == json.loads(sbom(everything)) and made["metadata"]["timestamp"] == "2026-11-18T11:06:40Z"
    lock = tomllib.loads((harness.ROOT / "Cargo.lock").read_text())["package"]
    version = urllib.parse.quote
    locked = {f"pkg:cargo/{entry['name']}@{version(entry['version'])}": entry.get("checksum") for entry in lock}
    components = {part["bom-ref"]: part for part in made["components"]}
    assert len(components) == len(made["components"]) > 100
    for name, part in components.items():
        assert name == part["purl"]
        assert part["hashes"] == [{"alg": "SHA-256", "content": locked[name]}], name
        assert part["licenses"][0]["expression"], name
    osprey = made["metadata"]["component"]
    manifest = tomllib.loads((harness.ROOT / "Cargo.toml").read_text())
    assert (osprey["name"], osprey["version"]) == ("osprey", manifest["package"]["version"])
    # Each part is reached from Osprey, and Osprey's own are those of its manifest.
    needs = {node["ref"]: node["dependsOn"] for node in made["dependencies"]}
    assert set(needs) == {osprey["bom-ref"], *components}
    reached, ahead = set(), [osprey["bom-ref"]]
    while ahead:
        at = ahead.pop()
        if at not in reached:
            reached.add(at)
            ahead += needs[at]
    assert reached == set(needs)
    own = {re.fullmatch(r"pkg:cargo/(.*)@.*", name)[1] for name in needs[osprey["bom-ref"]]}
    assert own == set(manifest["dependencies"])

    # What only tests need is not in it, nor what the demo needs where there is none.
    tests = set(manifest["dev-dependencies"]) - set(manifest["dependencies"])
    assert tests and not tests & {part["name"] for part in made["components"]}
    with_demo, without = (
        {part["name"] for part in json.loads(sbom(*flags))["components"]} for flags in ([], ["--no-default-features"])
    )
    assert without < with_demo
    assert {"rusqlite", "libsqlite3-sys", "sqlparser"} <= with_demo - without


def test_the_bill_of_materials_is_one_of_cyclonedx(tmp_path):
    python = vendor.environment("schemas") / "python"
    script = """if True:
        import sys
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
        text = sys.stdin.read()
        wrong = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "book", "name": "a"}]}'
        check = JsonStrictValidator(SchemaVersion.V1_6).validate_str
        print(check(text), check(wrong) is None)
    """
    said = harness.run([python, "-c", script], input=sbom())
    assert said.strip() == "None False"


def test_the_texts_of_the_licences_are_there():
    text = sbom("--licences")
    for part in json.loads(sbom())["components"]:
        assert f"\n{part['name']} {part['version']} (" in text, part["name"]
    # Also of what crates carry inside: AWS-LC's own.
    assert "Apache License" in text and "BoringSSL" in text and "Permission is hereby granted" in text


def test_lintian_finds_nothing(package):
    if shutil.which("lintian") is None:
        pytest.skip("NOT RUN, for want of lintian")
    # That a first upload closes a bug is a rule of Debian's archive.
    command = ["lintian", "--fail-on", "error,warning", "--suppress-tags", "initial-upload-closes-no-bugs"]
    done = subprocess.run([*command, package], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
