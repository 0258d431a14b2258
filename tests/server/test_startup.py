"""The checks before a node serves, against real folders and real sockets."""

import socket
from pathlib import Path

import pytest

from server.settings import Settings, SettingsError
from server.startup import listen, prepare_folder

Address = tuple[int, int, int, str, tuple[str, int]]


def resolving_to(*hosts: str) -> object:
    """A stand-in for `getaddrinfo` of a name with these IPv4 addresses."""

    def getaddrinfo(_host: str, port: int, **_: object) -> list[Address]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return getaddrinfo


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b", "data_dir")
    prepare_folder(tmp_path / "a" / "b", "data_dir")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError, match=r"^data_dir .*file can't be written to: file exists$"):
        prepare_folder(blocked, "data_dir")
    with pytest.raises(SettingsError, match=r"^data_dir .*deeper can't be written to: not a directory$"):
        prepare_folder(blocked / "deeper", "data_dir")


def test_a_folder_that_takes_no_files_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"^record_dir /proc/self can't be written to: "):
        prepare_folder(Path("/proc/self"), "record_dir")


def test_it_listens_where_it_was_told() -> None:
    (listener,) = listen(Settings(port=0))
    with listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert port > 0
        assert not listener.getblocking()
        with socket.create_connection((host, port), timeout=5):
            pass


def test_a_port_in_use_is_one_sentence() -> None:
    (first,) = listen(Settings(port=0))
    with first:
        port = first.getsockname()[1]
        with pytest.raises(
            SettingsError,
            match=rf"^can't listen on 127\.0\.0\.1 port {port}: address already in use \(another program has it: choose another port\)$",
        ):
            listen(Settings(port=port))


def test_all_addresses_of_a_name_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.2", "127.0.0.3", "127.0.0.2"))
    first, second = listen(Settings(port=0))
    with first, second:
        assert [listener.getsockname()[0] for listener in (first, second)] == ["127.0.0.2", "127.0.0.3"]
        assert first.getsockname()[1] == second.getsockname()[1]


def test_an_address_this_machine_lacks_is_passed_over_when_another_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("192.0.2.1", "127.0.0.2"))
    (only,) = listen(Settings(port=0))
    with only:
        assert only.getsockname()[0] == "127.0.0.2"
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("192.0.2.1"))
    with pytest.raises(SettingsError, match="port 0: cannot assign requested address"):
        listen(Settings(port=0))


def test_when_the_second_address_is_taken_the_first_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.2"))
    (taken,) = listen(Settings(port=0))
    port = taken.getsockname()[1]
    with taken:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.3", "127.0.0.2"))
        with pytest.raises(SettingsError, match="address already in use"):
            listen(Settings(port=port))
    for listener in listen(Settings(port=port)):
        listener.close()


def test_an_unknown_host_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(SettingsError, match=r"^host nowhere\.example can't be resolved: name or service not known$"):
        listen(Settings(host="nowhere.example"))
