"""What a diagnosis says, in which order, and with which exit code."""

import json

import pytest
from pydantic import ValidationError

from vitrail.doctor.findings import Finding, diagnose


def test_the_gravest_comes_first_and_causes_stay_before_what_follows() -> None:
    kinds = [("a", "ok"), ("b", "warning"), ("c", "fault"), ("d", "note"), ("e", "unchecked"), ("f", "fault")]
    found = diagnose("run", [Finding.model_validate({"check": check, "severity": kind, "found": "1"}) for check, kind in kinds])
    assert [one.check for one in found.findings] == ["c", "f", "b", "d", "a", "e"]
    assert found.exit_code == 1 and not found.clean
    assert found.to_text().splitlines()[-1] == "2 faults, 1 warning, 1 note; 1 ok, 1 not checked"


@pytest.mark.parametrize(("severity", "clean"), [("warning", False), ("note", True), ("ok", True)])
def test_only_faults_change_the_exit_code(severity: str, clean: bool) -> None:
    found = diagnose("run", [Finding.model_validate({"check": "a", "severity": severity, "found": "1"})])
    assert found.exit_code == 0 and found.clean is clean


def test_nothing_checked_is_not_nothing_wrong() -> None:
    unchecked = Finding(check="a", severity="unchecked", found="there is no data/")
    found = diagnose("run", [unchecked, unchecked])
    assert found.exit_code == 4 and found.to_text().splitlines()[-1].startswith("nothing could be checked")
    found = diagnose("run", [unchecked, Finding(check="b", severity="ok", found="1")])
    assert found.exit_code == 0 and found.to_text().splitlines()[-1].startswith("no faults")
    assert diagnose("run", []).exit_code == 0


def test_a_finding_says_what_was_found_expected_and_to_be_done() -> None:
    found = Finding(check="heads", severity="fault", found="2 of 4 silent", expected="none", remedy="fewer", numbers={"silent": 2})
    assert found.to_text() == "FAULT        heads: 2 of 4 silent\n    expected: none\n    try: fewer"
    assert json.loads(found.model_dump_json())["numbers"] == {"silent": 2.0}
    with pytest.raises(ValidationError):
        found.check = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_well_takes_one_line() -> None:
    found = Finding(check="heads", severity="ok", found="all of 4 at work", expected="none", remedy="nothing")
    assert "\n" not in found.to_text()
