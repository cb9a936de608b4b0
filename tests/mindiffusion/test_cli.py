"""What every command does before its work: settings, and a terminal of any encoding."""

import os

import pytest

from mindiffusion.cli import load_settings
from mindiffusion.errors import UserError


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A function: loads a .env of these bytes; returns what it says of MINE."""

    def load(content):
        monkeypatch.setenv("MINE", "")
        monkeypatch.delenv("MINE")
        (tmp_path / ".env").write_bytes(content)
        load_settings(tmp_path / ".env")
        return os.environ.get("MINE")

    return load


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_settings_are_taken_over_unless_they_are_set(mark, settings, monkeypatch, tmp_path):
    assert settings(mark + "MINE=größer\n".encode()) == "größer"
    monkeypatch.setenv("MINE", "stands")
    load_settings(tmp_path / ".env")
    assert os.environ["MINE"] == "stands"


@pytest.mark.parametrize(
    "content",
    ["MINE=größer".encode("latin-1"), "MINE=x".encode("utf-16"), "MINE=x".encode("utf-16-le")],
)
def test_settings_that_are_not_utf8_are_one_line(content, settings):
    with pytest.raises(UserError, match=r"\.env.* UTF-8"):
        settings(content)


def test_settings_need_not_be_there_and_may_be_a_folder(tmp_path):
    load_settings(tmp_path / ".env")
    (tmp_path / ".env").mkdir()
    load_settings(tmp_path / ".env")


@pytest.mark.parametrize("words", [["-m", "benchmark", "reproduce", "--help"]])
def test_help_is_shown_on_any_terminal(words, tmp_path, run_cli):
    done = run_cli(words, tmp_path, timeout=60, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "\\u2026" in done.stdout


def test_settings_of_another_encoding_end_a_command_by_one_line(workdir, call):
    from benchmark.__main__ import main

    (workdir / ".env").write_bytes(b"# caf\xe9\n")
    code, _, errors = call(main, ["doctor"])
    assert code == 2 and errors.startswith("error: .env, line 1: byte 0xe9 is not UTF-8")
