"""What a newcomer is told about the machine."""
from __future__ import annotations

from pathlib import Path

import pytest

from recs.jobs import doctor


def found(config: str, root: Path | str) -> dict[str, doctor.Finding]:
    return {f.what: f for f in doctor.findings(config, str(root))}


def test_a_machine_that_passes_the_tests_is_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert doctor.main(["--root", str(tmp_path / "lake")]) == 0
    said = capsys.readouterr().out
    assert "Java" in said and "none yet" in said and "mend" not in said
    assert not (tmp_path / "lake").exists()     # nothing is made


def test_what_is_wrong_comes_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("RECS_JARS_DIR", str(tmp_path))
    bad = tmp_path / "bad.yaml"
    bad.write_text("log: mappings/tiny\nmodells: [blend]\n")
    seen = found(str(bad), tmp_path)
    assert seen["Java"].well is False and "apt-get install openjdk-17" in seen["Java"].remedy
    assert seen["Delta's jars"].well is False and "configuration" in seen and seen["configuration"].well is False
    assert doctor.main(["--config", str(bad), "--root", str(tmp_path)]) == 2


def test_a_text_model_that_is_not_there_is_named(tmp_path: Path):
    asked = tmp_path / "text.yaml"
    asked.write_text("log: mappings/generated\ntext: {model: /no/such/model}\n")
    seen = found(str(asked), tmp_path)
    assert seen["text model"].well is False and "/no/such/model: no folder here" in seen["text model"].found
    asked.write_text("log: mappings/generated\ntext: {model: hashed}\n")
    assert "text model" not in found(str(asked), tmp_path)
    assert found(str(asked), "s3://bucket/recs")["tables"].well is None
