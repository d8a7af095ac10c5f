"""`.env`, NAME_FILE secrets and numbers: read by our own few lines, since nothing is installed when they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.environment import BadEnvironment, load_dotenv, port_of, value_of


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> dict[str, str]:
    file = tmp_path / ".env"
    file.write_text(text, encoding="utf-8")
    environ = {} if environ is None else environ
    load_dotenv(file, environ)
    return environ


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=plain", "plain"),
        ("export KEY=plain", "plain"),
        ("KEY = spaced ", "spaced"),
        ("KEY=with # comment", "with"),
        ("KEY=p#ss$word=", "p#ss$word="),
        ("KEY='single # kept'  # comment", "single # kept"),
        ('KEY="double $HOME kept"', "double $HOME kept"),
        ("KEY=ünï", "ünï"),
    ],
)
def test_a_line_of_dotenv_means_what_it_says(tmp_path: Path, line: str, value: str) -> None:
    assert loaded(tmp_path, f"# heading\n\n{line}\n") == {"KEY": value}


def test_an_empty_value_and_a_comment_alone_count_as_unset(tmp_path: Path) -> None:
    assert loaded(tmp_path, "A=\nB= # nothing\nC=''\n") == {}


def test_the_real_environment_wins_over_dotenv(tmp_path: Path) -> None:
    assert loaded(tmp_path, "PORT=9000\nHOST=h", {"PORT": "8123"}) == {"PORT": "8123", "HOST": "h"}


@pytest.mark.parametrize("line", ["just words", "1KEY=x", "KEY='open", "a b=c"])
def test_a_line_that_means_nothing_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadEnvironment, match=r"\.env:2"):
        loaded(tmp_path, f"A=1\n{line}\n")


def test_a_secret_comes_from_its_variable_or_its_file_never_both(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    assert value_of({"API_KEY": "x"}, "API_KEY") == "x"
    assert value_of({"API_KEY_FILE": str(file)}, "API_KEY") == "s3cret"
    assert value_of({}, "API_KEY") == ""
    with pytest.raises(BadEnvironment, match="both set"):
        value_of({"API_KEY": "x", "API_KEY_FILE": str(file)}, "API_KEY")
    with pytest.raises(BadEnvironment, match="cannot read"):
        value_of({"API_KEY_FILE": str(tmp_path / "absent")}, "API_KEY")


@pytest.mark.parametrize("text", ["0", "65536", "80a", "-1", "8 0"])
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadEnvironment, match="PORT"):
        port_of({"PORT": text}, "PORT", 8000)
