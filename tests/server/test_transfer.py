"""server/transfer.py and server/store/sources.py: documents in, and out again as they were."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.gate import Gate
from server import cli, transfer
from server.room.key import RoomKey
from server.room.rows import StoredRoom
from server.store.journal import Journal
from server.store.readers import read_room
from server.store.schema import FolderLock, open_reader
from server.store.sources import Refused, file_name, room_name


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def document(text: str, client_id: int = 1, root: str = "text") -> bytes:
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=client_id)
    doc.get(root, type=pycrdt.Text).insert(0, text)
    return doc.get_update()


def typed(text: str, client_id: int = 1) -> list[bytes]:
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=client_id)
    shared = doc.get("text", type=pycrdt.Text)
    sent: list[bytes] = []
    for letter in text:
        before = doc.get_state()
        shared += letter
        sent.append(doc.get_update(before))
    return sent


def stored(data: Path, name: str) -> StoredRoom:
    with closing(open_reader(data / "journal.db")) as connection:
        return read_room(connection, RoomKey("", name)).stored()


def shown(data: Path, name: str) -> str:
    gate = Gate()
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=99)
    entries = [entry.update for row in stored(data, name).rows for entry in row.entries]
    for ref, update in enumerate(entries):
        for part in gate.admit(update, ref=ref, owner=0).updates:
            doc.apply_update(part)
    return str(doc.get("text", type=pycrdt.Text))


def test_a_file_becomes_the_room_of_its_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan%2F2024 \N{GRINNING FACE}.yjs").write_bytes(document("hello"))
    assert cli.main(["import", "plan%2F2024 \N{GRINNING FACE}.yjs"]) == 0
    room = stored(data, "plan/2024 \N{GRINNING FACE}")
    assert [entry.author for entry in room.rows[0].entries] == ["import"]
    assert shown(data, "plan/2024 \N{GRINNING FACE}") == "hello"
    assert "1 imported, 0 there already, 0 refused" in capsys.readouterr().err


def test_a_file_may_be_given_another_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yjs").write_bytes(document("hello"))
    assert cli.main(["import", "--room", "plan", "x.yjs"]) == 0
    assert shown(data, "plan") == "hello"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "y.yjs").write_bytes(document("hello"))
    assert cli.main(["import", "--room", "plan", "x.yjs", "folder/y.yjs"]) == 2
    assert cli.main(["import", "--room", "plan", "folder"]) == 2


def test_importing_twice_adds_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yjs").write_bytes(document("hello"))
    for _ in range(2):
        assert cli.main(["import", "plan.yjs"]) == 0
    assert len(stored(data, "plan").rows) == 1
    assert "0 imported, 1 there already" in capsys.readouterr().err


def test_what_is_there_is_merged_with(data: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yjs").write_bytes(document("ours ", client_id=1))
    assert cli.main(["import", "plan.yjs"]) == 0
    (tmp_path / "plan.yjs").write_bytes(document("theirs ", client_id=2))
    assert cli.main(["import", "plan.yjs"]) == 0
    assert shown(data, "plan") == "ours theirs "
    assert [row.seq for row in stored(data, "plan").rows] == [1, 2]


def test_one_bad_document_does_not_stop_the_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "a.yjs").write_bytes(document("a"))
    (folder / "b.yjs").write_bytes(b"these bytes are no update")
    (folder / "c.yjs").write_bytes(document("c"))
    (folder / "%FF.yjs").write_bytes(document("bad name"))
    (folder / ".yjs").write_bytes(document("no name"))
    (folder / "%00.yjs").write_bytes(document("nul"))
    (folder / "notes.txt").write_text("not ours")
    (folder / ("n" * 200 + ".yjs")).write_bytes(document("fits"))
    assert cli.main(["import", "documents", "missing.yjs"]) == 1
    said = capsys.readouterr().err
    assert "tutti import: room 'b': " in said
    assert "the name of file '%FF.yjs' is not UTF-8 when decoded" in said
    assert "room '': its name is empty" in said
    assert "its name holds a NUL" in said
    assert "missing.yjs can't be read: no such file or directory" in said
    assert "3 imported, 0 there already, 5 refused" in said
    assert (shown(data, "a"), shown(data, "c")) == ("a", "c")
    assert stored(data, "b").last_seq == 0


def test_limits_of_the_node_hold(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTTI_DOCUMENT_BYTES_MAX", str(64 * 1024))
    monkeypatch.setenv("TUTTI_MESSAGE_BYTES_MAX", str(64 * 1024))
    monkeypatch.setenv("TUTTI_ROOM_NAME_BYTES_MAX", "5")
    large = document("x" * 70_000)
    (tmp_path / "large.yjs").write_bytes(large)
    (tmp_path / "longer.yjs").write_bytes(document("x"))
    assert cli.main(["import", "large.yjs", "longer.yjs"]) == 1
    said = capsys.readouterr().err
    assert f"room 'large': document is {len(large)} bytes, limit is 65536" in said
    assert "room 'longer': its name is 6 bytes, limit is 5" in said


def test_a_document_larger_than_a_message_is_stored_in_parts_a_node_loads(data: Path, tmp_path: Path) -> None:
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=1)
    shared = doc.get("map", type=pycrdt.Map)
    for number in range(40):
        shared[str(number)] = f"{number} " + "x" * 50_000
    (tmp_path / "plan.yjs").write_bytes(doc.get_update())
    assert cli.main(["import", "plan.yjs"]) == 0
    (row,) = stored(data, "plan").rows
    assert len(row.entries) > 1, "one row: all of it or nothing"
    assert max(len(entry.update) for entry in row.entries) < 1_200_000
    assert cli.main(["export", "--room", "plan", "out"]) == 0
    again: pycrdt.Doc[object] = pycrdt.Doc(client_id=2)
    again.apply_update((tmp_path / "out" / "plan.yjs").read_bytes())
    assert again.get("map", type=pycrdt.Map).to_py() == shared.to_py()


def test_what_an_incomplete_document_lacks_may_come_later(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = typed("abc")
    for name, update in (("1", first), ("2", third), ("3", second)):
        (tmp_path / f"{name}.yjs").write_bytes(update)
    for name, text in (("1", "a"), ("2", "a"), ("3", "abc")):
        assert cli.main(["import", "--room", "plan", f"{name}.yjs"]) == 0
        assert shown(data, "plan") == text
        if name == "2":
            assert "room 'plan' lacks edits it refers to" in capsys.readouterr().err
            assert cli.main(["export", "--room", "plan", "out"]) == 0
            assert "1 updates wait for others that never came, and are left out" in capsys.readouterr().err


def hocuspocus_file(path: Path, rows: list[tuple[object, object]]) -> None:
    """As @hocuspocus/extension-sqlite 4.7.0 makes it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'CREATE TABLE IF NOT EXISTS "documents" ("name" varchar(255) NOT NULL, "data" blob NOT NULL, UNIQUE(name))'
        )
        connection.executemany('INSERT INTO "documents" ("name", "data") VALUES (?, ?)', rows)


def test_the_database_of_hocuspocus(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hocuspocus_file(
        tmp_path / "db.sqlite",
        [
            ("plan/a", document("from hocuspocus")),
            ("%2F stays", document("raw name")),
            ("broken", b"\xff\xff"),
            ("text", "not a blob"),
            (b"\xff\xfe", document("x")),
        ],
    )
    before = (tmp_path / "db.sqlite").read_bytes()
    assert cli.main(["import", "db.sqlite"]) == 1
    assert "2 imported, 0 there already, 3 refused" in capsys.readouterr().err
    assert shown(data, "plan/a") == "from hocuspocus"
    assert shown(data, "%2F stays") == "raw name"
    assert (tmp_path / "db.sqlite").read_bytes() == before


def test_another_database_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE people (name)")
    assert cli.main(["import", "other.sqlite"]) == 1
    assert "is no database of @hocuspocus/extension-sqlite: no such table: documents" in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yjs").write_bytes(document("hello"))
    with FolderLock(data):
        assert cli.main(["import", "plan.yjs"]) == 1
    assert f"tutti import: data folder {data} is in use by another node" in capsys.readouterr().err
    assert not (data / "journal.db").exists()


def test_ctrl_c_ends_it_after_the_document_it_is_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.yjs").write_bytes(document(name))
    real = Path.read_bytes

    def read_and_interrupt(path: Path) -> bytes:
        if path.name == "b.yjs":
            signal.raise_signal(signal.SIGINT)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_interrupt)
    assert cli.main(["import", "."]) == 130
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert "2 imported" in said
    assert "stopped by request, 2 documents left" in said
    assert shown(data, "b") == "b"
    assert stored(data, "c").last_seq == 0


def test_a_disk_that_fails_ends_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.yjs").write_bytes(document(name))

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("server.store.writer.Writer._insert", broken)
    assert cli.main(["import", "."]) == 1
    said = capsys.readouterr().err
    assert "tutti import: the journal can't be written: database or disk is full" in said
    assert "0 imported" in said


def test_progress_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transfer, "PROGRESS_INTERVAL_S", 0.0)
    for name in "abc":
        (tmp_path / f"{name}.yjs").write_bytes(document(name))
    assert cli.main(["import", "."]) == 0
    size = len(document("a"))
    assert f"2 of 3 documents, {2 * size} bytes" in capsys.readouterr().err


def fill(tmp_path: Path, **texts: str) -> None:
    for name, text in texts.items():
        (tmp_path / f"{name}.yjs").write_bytes(document(text))
        assert cli.main(["import", f"{name}.yjs"]) == 0


def test_a_room_is_written_as_a_new_client_gets_it(data: Path, tmp_path: Path) -> None:
    updates = typed("hello")
    for number, update in enumerate(updates):
        (tmp_path / f"{number}.yjs").write_bytes(update)
        assert cli.main(["import", "--room", "plan", f"{number}.yjs"]) == 0
    assert cli.main(["export", "--room", "plan", "out"]) == 0
    assert (tmp_path / "out" / "plan.yjs").read_bytes() == document("hello")


def test_files_are_not_written_over_unless_asked_to(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, a="first", b="second")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.yjs").write_text("precious")
    assert cli.main(["export", "--all", "out"]) == 1
    said = capsys.readouterr().err
    assert "room 'a': out/a.yjs exists, --force writes over it" in said
    assert "1 rooms written to out, 1 not" in said
    assert (tmp_path / "out" / "a.yjs").read_text() == "precious"
    assert cli.main(["export", "--all", "--force", "out"]) == 0
    assert (tmp_path / "out" / "a.yjs").read_bytes() == document("first")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.yjs", "b.yjs"], "no part is left behind"


def test_text_and_json(data: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    fill(tmp_path, plan="hello \N{GRINNING FACE}")
    assert cli.main(["export", "--room", "plan", "--format", "text", "--root", "text", "out"]) == 0
    assert (tmp_path / "out" / "plan.txt").read_text() == "hello \N{GRINNING FACE}"
    assert cli.main(["export", "--room", "plan", "--format", "json", "--root", "text", "--as", "delta", "out"]) == 0
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == [{"insert": "hello \N{GRINNING FACE}"}]
    assert cli.main(["export", "--room", "plan", "--format", "json", "--root", "text", "out"]) == 1
    capfdbinary.readouterr()
    assert cli.main(["export", "--room", "plan", "--format", "text", "--root", "text", "-"]) == 0
    assert capfdbinary.readouterr() == ("hello \N{GRINNING FACE}".encode(), b"")


def test_what_is_not_there_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--all", "out"]) == 1
    assert "journal.db can't be opened" in capsys.readouterr().err
    fill(tmp_path, a="a")
    assert cli.main(["export", "--room", "b", "out"]) == 1
    assert "room 'b': there is no such room" in capsys.readouterr().err
    assert cli.main(["export", "out"]) == 2
    assert cli.main(["export", "--all", "-"]) == 2
    (tmp_path / "file").touch()
    assert cli.main(["export", "--all", "file"]) == 1


def test_an_export_reads_beside_a_running_node(data: Path, tmp_path: Path) -> None:
    fill(tmp_path, a="a")

    async def export() -> None:
        journal = Journal.open(data)
        journal.start(asyncio.get_running_loop())
        try:
            assert await asyncio.to_thread(cli.main, ["export", "--all", "out"]) == 0
        finally:
            await journal.close()

    asyncio.run(export())
    assert (tmp_path / "out" / "a.yjs").read_bytes() == document("a")


def test_everything_comes_back_under_its_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names no file could have as they are, more rooms than a page, and one that can't be done."""
    monkeypatch.setattr(transfer, "ROOMS_PER_PAGE", 3)
    smile = "\N{GRINNING FACE}"
    names = [".", "..", "../../evil", "/etc/passwd", "a/b", "%2F", "a%2Fb", smile, "~", "-", " ", "A", "con"]
    hocuspocus_file(tmp_path / "db.sqlite", [(name, document(name)) for name in [*names, "n" * 300]])
    assert cli.main(["import", "db.sqlite"]) == 0
    assert cli.main(["export", "--all", "deep/out"]) == 1
    long = "n" * 300
    assert f"room '{long}': deep/out/{long}.yjs can't be written: file name too long" in capsys.readouterr().err
    assert len(list((tmp_path / "deep" / "out").iterdir())) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "db.sqlite", "deep"], "nothing outside"
    monkeypatch.setenv("TUTTI_DATA_DIR", str(tmp_path / "other"))
    assert cli.main(["import", "deep/out"]) == 0
    for name in names:
        assert shown(tmp_path / "other", name) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_a_name_survives_being_a_files(name: str) -> None:
    encoded = file_name(name, ".yjs")
    assert room_name(encoded) == name
    assert "/" not in encoded
    assert not encoded.startswith(".")
    assert encoded.isascii()


def test_a_files_name_that_is_no_text() -> None:
    with pytest.raises(Refused, match="is not UTF-8 when decoded"):
        room_name("%FF.yjs")
