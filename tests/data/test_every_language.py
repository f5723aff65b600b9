"""The command that prepares every language: it passes over sound text of many scripts, and fails where a language loses pairs."""

import sys
from pathlib import Path

import every_language
import pytest
from invented import LANGUAGES, LATIN, parallel

CHOSEN = [language for language in LANGUAGES if language.name in ("Hindi", "Burmese", "Chinese", "Kawi")]


def test_languages_are_prepared_without_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for language in CHOSEN:
        pairs = parallel(LATIN, language, count=150)
        for ending, side in (("eng", "source"), (language.name, "target")):
            (tmp_path / f"text.{ending}").write_text("".join(f"{getattr(pair, side)}\n" for pair in pairs), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["every_language", str(tmp_path)])
    assert every_language.main() == 0, capsys.readouterr().out
    shown = capsys.readouterr().out
    assert len([line for line in shown.splitlines() if " of 150 " in line]) == 2 * len(CHOSEN) + 1
    assert "0 beyond 0.5% or failed" in shown and "DEVANAGARI" in shown

    hindi = tmp_path / "text.Hindi"
    lines = hindi.read_text(encoding="utf-8").splitlines(keepends=True)
    hindi.write_text("".join(["<br>\n" if number % 50 == 0 else line for number, line in enumerate(lines)]), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["every_language", str(tmp_path), "Hindi"])
    assert every_language.main() == 1
    assert "HtmlTagFilter 3" in capsys.readouterr().out
