"""arq_core.datasets.fetch: verified or not at all, from a server on this machine that serves right,
wrong, cut and hanging answers.
"""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import bad_server
import pytest
from fetching import Fetching

from arq_core.datasets import download
from arq_core.datasets.fetch import FetchError, fetch, fetch_locked

RIGHT = b"forty-two demonstrations" * 1000
SHA = hashlib.sha256(RIGHT).hexdigest()
NAME = "demos.bin"


@pytest.fixture
def server():
    with bad_server.running(RIGHT) as s:
        yield s


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The final path and the local copy's path, both absent; nothing waits long."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    monkeypatch.setattr(download, "TIMEOUT", (2, 0.3))
    monkeypatch.setattr(download, "PAUSE", 0)
    (tmp_path / "local").mkdir()
    return tmp_path / "cache" / "downloads" / NAME, tmp_path / "local" / NAME


def leftovers(final):
    """Names beside the final one, and what is kept of unfinished downloads, without the empty files
    of the locks.
    """
    return sorted(
        p.name
        for folder in (final.parent, final.parent / ".partial")
        if folder.is_dir()
        for p in folder.iterdir()
        if p != final and p.name != ".partial" and p.suffix != ".lock"
    )


def lock_file(final):
    return final.parent.parent / "datasets.lock.json"


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What is right


def test_download_is_verified_and_happens_once(server, places):
    assert fetch(server.address + "/right", SHA, NAME) == places[0]
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert server.hits == [("/right", None)] and leftovers(places[0]) == []


def test_local_copy_goes_before_the_network(server, places):
    final, local = places
    local.write_bytes(RIGHT)
    assert fetch(server.address + "/right", SHA, NAME) == final and final.read_bytes() == RIGHT
    assert server.hits == [] and leftovers(final) == []


def test_damaged_cache_and_damaged_local_copy_are_replaced_by_a_good_download(server, places):
    final, local = places
    final.parent.mkdir(parents=True)
    final.write_bytes(RIGHT[:100])
    local.write_bytes(b"other")
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert local.read_bytes() == b"other"


@pytest.mark.parametrize("path", ["noranges", "flaky", "first", "chunked", "moved", "slow"])
@pytest.mark.parametrize("sha", [SHA, ""])
def test_every_good_answer_gives_the_file(server, places, path, sha):
    assert fetch_locked(NAME, [f"{server.address}/{path}"], sha).read_bytes() == RIGHT
    assert leftovers(places[0]) == []


def test_a_proxy_of_the_environment_is_asked(server, places, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    assert fetch("http://data.invalid/right", SHA, NAME).read_bytes() == RIGHT
    assert server.hits == [("http://data.invalid/right", None)]


# Resuming


def test_an_answer_that_breaks_off_is_continued_where_it_stopped(server, places):
    fetch(server.address + "/flaky", SHA, NAME)
    size = bad_server.PIECE
    assert server.hits == [
        ("/flaky", f"bytes={n}-" if n else None) for n in range(0, len(RIGHT), size)
    ]


def test_a_killed_download_is_continued_by_the_next_process(server, places):
    final, _ = places
    killed = Fetching(NAME, [server.address + "/stalls"], SHA)
    part = final.parent / ".partial" / (NAME + ".part")
    wait_for(lambda: part.is_file() and server.hits)
    # the server gives no more than its first piece
    time.sleep(0.3)
    killed.process.kill()
    killed.process.join()
    kept = part.stat().st_size
    assert not final.exists() and kept <= bad_server.PIECE
    # another address: the hash proves that the pieces fit
    fetch(server.address + "/right", SHA, NAME)
    assert (
        server.hits[-1] == ("/right", f"bytes={kept}-" if kept else None)
        and final.read_bytes() == RIGHT
    )


@pytest.fixture
def half(places):
    """The first half of the file, kept from an earlier download."""
    part = places[0].parent / ".partial" / (NAME + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(RIGHT[:12_000])

    def of(address, validator='"1"'):
        part.with_suffix(".origin").write_text(f"{address}\n{validator}\n", encoding="utf-8")
        return part

    return of


def test_without_a_hash_only_the_same_version_from_the_same_address_is_continued(
    server, places, half
):
    half(server.address + "/right")
    assert fetch_locked(NAME, [server.address + "/right"]).read_bytes() == RIGHT
    assert server.hits == [("/right", "bytes=12000-")]


@pytest.mark.parametrize("origin", ["http://elsewhere.invalid/right", None])
def test_without_a_hash_a_part_from_elsewhere_is_not_used(server, places, half, origin):
    part = half(origin)
    if origin is None:
        # killed while it was written
        part.with_suffix(".origin").write_text(f'{server.address}/right\n"1', encoding="utf-8")
    assert fetch_locked(NAME, [server.address + "/right"]).read_bytes() == RIGHT
    assert server.hits == [("/right", None)]


def test_a_file_that_changed_meanwhile_is_taken_from_the_start(server, places):
    data = fetch_locked(NAME, [server.address + "/changing"]).read_bytes()
    # not the beginnings of versions 1 and 2
    assert data == b"\3" * 20_000


@pytest.mark.parametrize("kept", [b"x" * 12_000, RIGHT + b"more", RIGHT, RIGHT[:-1] + b"x"])
def test_a_kept_part_of_any_content_ends_in_the_right_file(server, places, half, kept):
    half(server.address + "/right").write_bytes(kept)
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert leftovers(places[0]) == []


def test_a_server_that_gives_another_range_is_refused(server, places):
    with pytest.raises(
        FetchError, match="Content-Range 'bytes 17-23999/24000' for the bytes from 5000 on"
    ):
        fetch(server.address + "/shifted", SHA, NAME)


# Wrong answers


@pytest.mark.parametrize(
    "path, sha, seen",
    [
        ("wrong", SHA, hashlib.sha256(RIGHT[::-1]).hexdigest()),
        ("absent", SHA, "HTTP 404"),
        ("broken", "", "HTTP 503"),
        ("page", SHA, "a web page"),
        ("page", "", "a web page"),
        ("disguised", "", "a web page ('Quota exceeded')"),
        ("disguised", SHA, "a web page ('Quota exceeded')"),
        ("zipped", SHA, "Content-Encoding gzip"),
        ("loop", "", "more than 10 redirects"),
        ("file", "", "file:///etc/hostname is no address of a web server"),
        ("long", SHA, "100 bytes"),
        ("nolength", SHA, "5,000 bytes"),
        ("nolength", "", "no stated length"),
        ("huge", "", "a file of 100,000,000,000,000,000 bytes"),
        ("silent", SHA, "Timeout"),
        ("nonsense", "", "no stated length"),
    ],
)
def test_bad_download_leaves_nothing_and_says_what_was_seen(server, places, path, sha, seen):
    final, local = places
    final.parent.mkdir(parents=True)
    earlier = final.with_name("earlier.bin")
    earlier.write_bytes(b"good")
    with pytest.raises(FetchError) as error:
        fetch_locked(NAME, [f"{server.address}/{path}"], sha)
    assert (
        not final.exists()
        and leftovers(final) == ["earlier.bin"]
        and earlier.read_bytes() == b"good"
    )
    for text in (
        NAME,
        f"{server.address}/{path}",
        sha,
        str(final),
        str(local),
        "ARQ_LOCAL_DATA",
        seen,
    ):
        assert text in str(error.value)
    assert not lock_file(final).exists()


@pytest.mark.parametrize(
    "path, seen",
    [("cut", "stopped after 5,000"), ("stalls", "Timeout"), ("drips", "bytes in 0 seconds")],
)
def test_an_answer_that_never_ends_is_given_up_and_its_beginning_kept(
    server, places, path, seen, monkeypatch
):
    monkeypatch.setattr(download, "WINDOW", 0.2)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    with pytest.raises(FetchError, match=seen):
        fetch(f"{server.address}/{path}", SHA, NAME)
    final = places[0]
    kept = final.parent / ".partial" / (NAME + ".part")
    assert not final.exists() and RIGHT.startswith(kept.read_bytes()) and kept.stat().st_size > 0
    size = kept.stat().st_size
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert server.hits[-1] == ("/right", f"bytes={size}-")


@pytest.mark.parametrize("expected", [10_000, len(RIGHT)])
def test_no_more_is_written_than_expected(server, places, expected, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        download,
        "discard",
        lambda part, of=download.discard: (sizes.append(part.stat().st_size), of(part)),
    )
    with pytest.raises(FetchError, match=f"more than {expected:,} bytes"):
        fetch_locked(NAME, [server.address + "/endless"], "", expected)
    assert sizes == [expected] and leftovers(places[0]) == []


def test_no_more_is_written_than_the_bound_where_nothing_is_promised(server, places, monkeypatch):
    monkeypatch.setattr(download, "MOST", 1_000_000)
    with pytest.raises(FetchError, match="more than 1,000,000 bytes"):
        fetch_locked(NAME, [server.address + "/endless"])
    assert leftovers(places[0]) == []


def test_another_size_than_expected_is_refused_before_anything_is_written(server, places):
    with pytest.raises(FetchError, match="a file of 24,000 bytes, expected 23,999"):
        fetch_locked(NAME, [server.address + "/right"], "", len(RIGHT) - 1)
    assert leftovers(places[0]) == []


def test_a_file_that_is_not_hdf5_is_not_taken_under_such_a_name(server, places):
    with pytest.raises(FetchError, match=r"24,000 bytes that are no \.hdf5 file"):
        fetch_locked("own.hdf5", [server.address + "/right"])


def test_mirrors_are_asked_in_order_and_all_are_named(server, places):
    addresses = [f"{server.address}/{p}" for p in ("absent", "wrong", "cut", "right", "broken")]
    assert fetch_locked(NAME, addresses, SHA).read_bytes() == RIGHT
    assert list(dict.fromkeys(path for path, _ in server.hits)) == [
        "/absent",
        "/wrong",
        "/cut",
        "/right",
    ]
    with pytest.raises(FetchError) as error:
        fetch_locked("other.bin", addresses[:2] + addresses[4:], SHA)
    assert all(a in str(error.value) for a in addresses[:2] + addresses[4:])


def test_offline_names_a_truncated_cache_file_with_size_and_hash_and_leaves_it(server, places):
    final, _ = places
    server.shutdown()
    server.server_close()
    final.parent.mkdir(parents=True)
    final.write_bytes(RIGHT[:100])
    with pytest.raises(
        FetchError, match=f"100 bytes with SHA-256 {hashlib.sha256(RIGHT[:100]).hexdigest()}"
    ):
        fetch(server.address + "/right", SHA, NAME)
    assert final.read_bytes() == RIGHT[:100]


def test_without_an_address_the_message_says_where_to_put_the_file(places):
    with pytest.raises(
        FetchError,
        match=f"Get the file from its publisher by other means and put it at {places[0]}",
    ):
        fetch_locked(NAME, [], SHA)
    places[0].write_bytes(RIGHT)
    assert fetch_locked(NAME, [], SHA) == places[0]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "/etc/a",
        "a\\b",
        ".hidden",
        "a\0",
        "a\n",
        "C:a",
        "a" * 300,
        "-f",
        "é",
    ],
)
def test_a_name_that_is_a_path_is_refused(places, name):
    with pytest.raises(FetchError, match="expected a plain file name"):
        fetch_locked(name, [], SHA)
    assert not places[0].parent.exists()


# The lock file


def test_first_use_records_the_hash_and_later_uses_ask_nobody(server, places):
    final, _ = places
    assert fetch_locked(NAME, [server.address + "/right"]) == fetch_locked(NAME, []) == final
    entry = json.loads(lock_file(final).read_text(encoding="utf-8"))[NAME]
    assert (entry["sha256"], entry["bytes"], entry["source"]) == (
        SHA,
        len(RIGHT),
        server.address + "/right",
    )
    assert server.hits == [("/right", None)] and leftovers(final) == []


def test_a_file_put_there_by_hand_is_recorded_too(places):
    final, _ = places
    final.parent.mkdir(parents=True)
    final.write_bytes(RIGHT)
    assert fetch_locked(NAME, []) == final
    assert json.loads(lock_file(final).read_text(encoding="utf-8"))[NAME]["source"] == str(final)


def test_publisher_changes_a_locked_file(server, places):
    final, _ = places
    fetch_locked(NAME, [server.address + "/right"])
    final.unlink()
    with pytest.raises(FetchError) as error:
        fetch_locked(NAME, [server.address + "/wrong"])
    when = json.loads(lock_file(final).read_text(encoding="utf-8"))[NAME]["locked"]
    for text in (
        f"locked on {when} from {server.address}/right",
        SHA,
        hashlib.sha256(RIGHT[::-1]).hexdigest(),
        str(lock_file(final)),
        "remove the entry 'demos.bin'",
    ):
        assert text in str(error.value)
    assert not final.exists()
    lock_file(final).unlink()  # what the message says
    assert fetch_locked(NAME, [server.address + "/wrong"]).read_bytes() == RIGHT[::-1]


def test_a_locked_file_that_was_edited_is_an_error_and_is_not_replaced(server, places):
    final, _ = places
    fetch_locked(NAME, [server.address + "/right"])
    final.write_bytes(b"edited")
    with pytest.raises(
        FetchError, match=r"6 bytes with SHA-256(.|\n)*locked on(.|\n)*remove what lies at"
    ):
        fetch_locked(NAME, [server.address + "/right"])
    assert final.read_bytes() == b"edited" and len(server.hits) == 1
    final.unlink()
    assert fetch_locked(NAME, [server.address + "/right"]).read_bytes() == RIGHT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "3",
        '{"demos.bin": 3}',
        '{"demos.bin": {"sha256": "a"}}',
        '{"demos.bin": {"sha256": 5}}',
        '{"demos.bin": []}',
        "\xff",
    ],
)
def test_a_damaged_lock_file_is_one_clear_error(places, text):
    final, _ = places
    final.parent.mkdir(parents=True)
    lock_file(final).write_text(text, "latin1")
    with pytest.raises(FetchError, match=r"datasets\.lock\.json: saw .*, expected JSON"):
        fetch_locked(NAME, [])


def test_entries_recorded_at_the_same_time_are_all_kept(server, places):
    names = [f"file{i}.bin" for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: fetch_locked(n, [server.address + "/right"]), names))
    assert sorted(json.loads(lock_file(places[0]).read_text(encoding="utf-8"))) == sorted(names)


# Two processes, full disks, folders that cannot be written to


@pytest.mark.parametrize("sha", [SHA, ""])
def test_of_two_processes_one_waits_and_uses_the_other_s_file(server, places, sha):
    both = [Fetching(NAME, [server.address + "/slow"], sha) for _ in range(2)]
    answers = [process.answer() for process in both]
    assert [path for path, *_ in answers] == [str(places[0])] * 2 and places[
        0
    ].read_bytes() == RIGHT
    assert len(server.hits) == 1 and sum("waiting for it" in err for _, err, _ in answers) == 1


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(server, places, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**34))
    with pytest.raises(
        FetchError,
        match=r"34,359,738,368 bytes are to come, 17,179,869,184 are free.*set ARQ_CACHE",
    ):
        fetch_locked(NAME, [server.address + "/tera"])
    assert leftovers(places[0]) == []


def test_a_limit_met_while_writing_is_said_and_what_came_is_kept(server, places):
    error, *_ = Fetching(
        NAME, [server.address + "/right"], SHA, before=[("small_files", 10_000)]
    ).answer()
    assert error.startswith("FetchError") and "File too large" in error and "set ARQ_CACHE" in error
    assert not places[0].exists()
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert server.hits[-1] == ("/right", "bytes=10000-")


def on_disk(cache, address, *steps):
    """The answer of a process whose cache is a disk of its own."""
    cache.mkdir(exist_ok=True)
    answer, *_ = Fetching(NAME, [address], SHA, before=[("own_disk", str(cache), *steps)]).answer()
    if answer.startswith("impossible"):
        pytest.skip(
            f"DISK TEST NOT RUN: this system lets no user mount a disk of its own ({answer})"
        )
    return answer


def test_local_copy_may_lie_in_a_folder_of_its_own(places, tmp_path):
    (tmp_path / "local" / "of" / "one").mkdir(parents=True)
    (tmp_path / "local" / "of" / "one" / "same.zip").write_bytes(RIGHT)
    found = fetch("http://127.0.0.1:9/absent", SHA, NAME, local="of/one/same.zip")
    assert found == places[0] and found.read_bytes() == RIGHT


def test_local_copy_under_its_plain_name_is_taken_too(places):
    places[1].write_bytes(RIGHT)
    assert fetch("http://127.0.0.1:9/absent", SHA, NAME, local="of/one/same.zip") == places[0]


@pytest.mark.parametrize("local", ["../up.zip", "/etc/passwd", "a//b", "a/", "a/../b", ".hidden"])
def test_local_path_leads_nowhere_else(places, local):
    with pytest.raises(FetchError, match="expected a path below the local folder"):
        fetch("http://127.0.0.1:9/absent", SHA, NAME, local=local)


def test_a_disk_that_fills_up_is_said(server, places):
    error = on_disk(places[0].parent.parent, server.address + "/chunked", "size=16k")
    assert (
        error.startswith("FetchError")
        and "No space left on device" in error
        and "set ARQ_CACHE" in error
    )


def test_a_read_only_disk_is_said_but_a_verified_file_on_it_is_used(server, places):
    final, local = places
    cache = final.parent.parent
    error = on_disk(cache, server.address + "/right", "ro")
    assert (
        error.startswith("FetchError")
        and "Read-only file system" in error
        and "set ARQ_CACHE" in error
    )
    (local.parent / "elsewhere").write_bytes(RIGHT)
    steps = (
        ["mkdir", str(final.parent)],
        ["cp", str(local.parent / "elsewhere"), str(final)],
        ["mount", "-o", "remount,ro", str(cache)],
    )
    assert on_disk(cache, server.address + "/right", "size=1m", *steps) == str(final)
    assert server.hits == []


def test_a_file_where_the_cache_should_be_is_said(server, places):
    places[0].parent.parent.write_bytes(b"")
    with pytest.raises(FetchError, match="Not a directory.*set ARQ_CACHE"):
        fetch(server.address + "/right", SHA, NAME)


@pytest.mark.parametrize("path", ["right", "wrong", "flaky", "page", "file"])
@pytest.mark.parametrize("name", [NAME, "../a"])
def test_nothing_outside_the_cache_is_written(server, places, path, name):
    _, _, written = Fetching(name, [f"{server.address}/{path}"], "").answer()
    assert bool(written) == (name == NAME) and all(
        p.startswith(str(places[0].parent.parent)) for p in written
    )
