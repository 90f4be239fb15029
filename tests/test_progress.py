"""Progress of a download: a bar on a terminal, a plain line now and then elsewhere."""

import logging

import pytest

from landuse import progress


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (94_300_000, "94.3 MB"), (999_960_000, "1.0 GB")],
)
def test_size(num_bytes: int, text: str) -> None:
    assert progress.size(num_bytes) == text


def test_plain_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.counting_bytes("a.zip", 1000, 4000) as update:
        update(2000)
    assert "a.zip: 2.0 kB of 4.0 kB, " in caplog.text
    with progress.counting_bytes("a.zip", 0, None) as update:
        update(2000)
    assert "a.zip: 2.0 kB, " in caplog.text


def test_few_plain_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress.counting_bytes("a.zip", 0, 4000) as update:
        for now in range(4000):
            update(now)
    assert caplog.text == ""


@pytest.mark.parametrize("total", [4000, None])
def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys, total: int | None) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    progress.terminal.cache_clear()
    with progress.counting_bytes("[red]a.zip", 0, total) as update:
        update(2000)
    progress.terminal.cache_clear()
    shown = capsys.readouterr().err
    assert "[red]a.zip" in shown  # no markup
    assert "2.0 kB" in shown
