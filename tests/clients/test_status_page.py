"""The status page: in a real Chromium, on a phone and on a desk, light and dark; and what it answers to whom."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import urllib.error
import urllib.request

import psycopg
import pytest

import conftest
import devtools
import harness

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=alert(1)>"
PICTURES = pathlib.Path(
    os.environ.get(
        "OSPREY_PICTURES", pathlib.Path(os.environ.get("CARGO_TARGET_DIR", harness.ROOT / "target")) / "status-page"
    )
)


@pytest.fixture(scope="module")
def shown(cluster):
    """An Osprey that has steered, healed and refused something."""
    conftest.need_osprey()
    database = cluster.create_database("status_page")
    options = "SERVER odps_server OPTIONS (project_name 'finance_byok', table_name 'salaries')"
    cluster.query(database, f'CREATE FOREIGN TABLE "{HOSTILE}" (id int, name text) {options}')
    cluster.query(database, f'GRANT SELECT ON "{HOSTILE}" TO PUBLIC')
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.wait_until_known(database)
        with osprey.endpoint(database).connect(autocommit=True) as connection:
            connection.execute(f'SELECT count(*) FROM "{HOSTILE}"')
        with osprey.endpoint(database).connect(autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM events")
            connection.execute(f"SET {harness.ORC} = on")
            with pytest.raises(psycopg.Error):
                connection.execute(f'SELECT count(*) FROM "{HOSTILE}"')
            yield osprey


def ask(osprey, path, host=None):
    request = urllib.request.Request(f"http://127.0.0.1:{osprey.metrics_port}{path}")
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode()


def test_what_it_reads(shown):
    status, headers, text = ask(shown, "/status.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    read = json.loads(text)
    assert read["state"] == "ready"
    tables = {table["name"]: [dict(zip(table["columns"], row)) for row in table["rows"]] for table in read["tables"]}
    assert any(row["relation"] == f"public.{HOSTILE}" for row in tables["tables"])
    assert any(row["project"] == "finance_byok" for row in tables["keys"])
    assert tables["advice"][0]["code"] == "OSP-1002" and tables["advice"][0]["relation"] == f"public.{HOSTILE}"
    assert [row["engine"] for row in tables["latency"]] == ["local", "hqe", "sqe"]
    assert next(row for row in tables["limits"] if row["setting"] == "limits.max_sessions")["taken"] >= 1
    # Sessions are people, and no statement is kept.
    assert "sessions" not in tables and "SELECT" not in text


@pytest.mark.parametrize("host, status", [("localhost", 200), ("evil.example", 421), ("10.0.0.1:9464", 200)])
def test_by_which_names(shown, host, status):
    assert ask(shown, "/", host)[0] == ask(shown, "/status.json", host)[0] == status
    assert ask(shown, "/metrics", host)[0] == 200


def test_it_can_be_switched_off_and_named(cluster, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[observe]\nstatus_page = "off"\n')
    with harness.Osprey.in_front_of(cluster, config=config) as osprey:
        for path in ("/", "/status.json", "/status.js"):
            status, _, text = ask(osprey, path)
            assert status == 404 and "observe.status_page" in text
        osprey.reload(text='[observe]\nstatus_page = "on"\nstatus_hosts = ["osprey.example.com"]\n')
        assert ask(osprey, "/", "osprey.example.com:9464")[0] == 200
        assert ask(osprey, "/", "other.example.com")[0] == 421


@pytest.fixture
def open_page(shown, tmp_path):
    """Opens the page in Chromium, of a width and a colour scheme, and waits until it has drawn itself."""
    if CHROMIUM is None:
        pytest.skip("NOT RUN, for want of chromium")
    with contextlib.ExitStack() as stack:

        def open_page(width, scheme):
            page = stack.enter_context(devtools.Page(CHROMIUM, tmp_path / f"{width}-{scheme}", width, scheme))
            page.ask("Page.navigate", url=f"http://127.0.0.1:{shown.metrics_port}/")
            drawn = "document.querySelectorAll('#tables section').length > 5"
            harness.wait_for(lambda: page.value(drawn), "the page to be drawn", 60)
            assert page.complaints() == []
            return page

        yield open_page


def test_it_shows_the_figures(open_page):
    page = open_page(1440, "light")
    text = page.value("document.body.innerText")
    assert "It is ready." in text
    for title in ("Latest advice", "How long statements take", "Protected relations", "Projects and their keys", "Limits"):
        assert title in text, title
    assert "finance_byok" in text and "OSP-1002" in text
    # One statement was run again; and a name is a text.
    assert re.search(r"Run again\s.*?1 since the start", text, re.DOTALL), text
    assert HOSTILE in text and page.value("document.images.length") == 0
    # The keyboard's focus outlives the next reading.
    page.value("document.querySelector('.scroll:has(table)').focus()")
    up = "document.getElementById('version').textContent"
    before = page.value(up)
    harness.wait_for(lambda: page.value(up) != before, "the next reading", 60)
    assert page.value("document.activeElement.className") == "scroll"


@pytest.mark.parametrize("scheme, ground", [("light", "rgb(251, 251, 250)"), ("dark", "rgb(18, 22, 26)")])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits(open_page, width, scheme, ground):
    """Nothing is wider than the window, every chart has its words, and a key reaches what can be scrolled. Pictures
    are kept, to be looked at."""
    page = open_page(width, scheme)
    assert page.value("document.documentElement.scrollWidth") == page.value("innerWidth") == width
    assert page.value("getComputedStyle(document.body).backgroundColor") == ground
    labels = page.value("[...document.querySelectorAll('svg')].map(chart => chart.getAttribute('aria-label'))")
    assert len(labels) == 5 and all("in the last ten minutes" in label for label in labels)
    assert page.value("[...document.querySelectorAll('.scroll:has(table)')].every(place => place.tabIndex === 0)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{width}-{scheme}.png").write_bytes(page.picture())
