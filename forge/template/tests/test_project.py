"""Tests of this project: python -m unittest discover tests."""
# ruff: noqa: INP001, S101

import tempfile
import unittest
from pathlib import Path

from forge import profiles
from forge.check import check, default_plan
from forge.plan import Plan
from forge.project import find
from forge.store import open_store

PROJECT = find(Path(__file__).parent)


class ProjectTest(unittest.TestCase):
    """Nothing here builds anything: plans are made against an empty store."""

    def setUp(self) -> None:
        """Make an empty store."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.store = open_store(str(Path(folder.name) / "store"), cache=Path(folder.name))

    def release(self, profile: str) -> Plan:
        """Return the plan of a release for one profile."""
        chosen = [profiles.load(profile, PROJECT.profiles).profile]
        return default_plan(PROJECT, PROJECT.load("release"), chosen, self.store)

    def test_profiles_locks_and_pipelines_are_valid(self) -> None:
        """The same checks as `forge check`."""
        wrong = [one for one in check(PROJECT, self.store) if not one.good]
        assert not wrong, wrong

    def test_a_bundle_is_published_after_its_gates_only(self) -> None:
        """Also after a change of pipelines/release.py."""
        for profile in profiles.names(PROJECT.profiles):
            with self.subTest(profile=profile):
                needed: set[str] = set()
                left = [step for step in self.release(profile).steps if step.id == "publish"]
                assert left, "nothing is published"
                while left:
                    before = [one.step for one in left.pop().inputs.values()]
                    left += [step for step in before if step.id not in needed]
                    needed |= {step.id for step in before}
                missing = {f"gate@{profile}", f"accuracy-gate@{profile}"} - needed
                assert not missing, f"published without {', '.join(sorted(missing))}"


if __name__ == "__main__":
    unittest.main()
