"""A file of SQLite that many open at once."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from eot.sqlite import connect

OPENERS = 8


@pytest.mark.parametrize("turn", range(10))
def test_many_may_make_one_file_at_once(tmp_path, turn):
    path, together = tmp_path / "new" / f"{turn}.sqlite", Barrier(OPENERS)

    def open_it(_):
        together.wait()
        connection = connect(path, synchronous="normal")
        connection.execute("create table if not exists t (x)")
        connection.execute("insert into t values (1)")
        return connection

    with ThreadPoolExecutor(OPENERS) as threads:
        opened = list(threads.map(open_it, range(OPENERS)))
    assert opened[0].execute("select count(*) from t").fetchone() == (OPENERS,)
    assert {each.execute("pragma journal_mode").fetchone() for each in opened} == {("wal",)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for each in opened:
        each.close()


def test_what_is_no_such_file_is_refused_at_once(tmp_path):
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        connect(tmp_path / "text", synchronous="full")


def test_what_another_process_writes_is_read_though_this_one_has_several_connections(tmp_path):
    path = tmp_path / "one.sqlite"
    writer = connect(path, synchronous="full")
    writer.execute("create table t (x)")
    reader = connect(path, synchronous="full")
    write = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('insert into t values (7)'); c.commit()"
    for count in (1, 2):
        subprocess.run([sys.executable, "-c", f"{write}; c.close()"], check=True)
        assert reader.execute("select count(*) from t").fetchone() == (count,)
        assert writer.execute("select count(*) from t").fetchone() == (count,)
    writer.close()
    reader.close()
