"""A report has what was published and verified, and says of the rest why it is missing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.canonical import sha256
from forge.errors import CorruptedError, NotFoundError, TrustError, UsageError
from forge.release.repository.verified_index import first_root
from forge.release.withdraw import yank
from forge.report.gather import gather
from forge.report.report import ReleaseReport
from tests.support.release_world import World
from tests.support.report_world import ReportWorld, Version, result_of
from tests.support.smoke_results import GPU

PROFILES = ("development", "jetson-agx-orin")


def published(folder: Path, versions: int = 3) -> tuple[ReportWorld, dict[str, list[Manifest]]]:
    """Versions 1.0.0, 1.1.0, … for both profiles."""
    world = ReportWorld(folder)
    made = {f"1.{n}.0": world.publish(Version(f"1.{n}.0", n), *PROFILES) for n in range(versions)}
    return world, made


def report_of(world: ReportWorld, version: str, **given: int) -> ReleaseReport:
    return gather(world.store, world.root, "demo", version, now=world.now, **given)


def delete_tree(world: ReportWorld, digest: str) -> None:
    """As garbage collection does."""
    world.store.objects.delete(f"trees/{digest}.json")


def test_each_profile_has_its_manifest_figures_and_history(tmp_path: Path) -> None:
    world, made = published(tmp_path)
    found = report_of(world, "1.2.0")
    assert [one.name for one in found.profiles] == list(PROFILES)
    for number, one in enumerate(found.profiles):
        assert one.manifest == made["1.2.0"][number]
        assert [past.manifest for past in one.history] == [made[v][number] for v in sorted(made)]
        assert one.current.manifest is one.manifest
        assert [past.result for past in one.history] == [result_of(n) for n in range(3)]
        assert all(past.receipt is not None and not past.note for past in one.history)


def test_a_later_version_and_another_profile_are_not_in_the_history(tmp_path: Path) -> None:
    world, _ = published(tmp_path)
    world.publish(Version("1.3.0", 3), "development")
    world.publish(Version("1.4.0-rc.1", 4), "jetson-agx-orin")
    assert [past.version for past in report_of(world, "1.3.0").profiles[0].history] == [
        "1.0.0", "1.1.0", "1.2.0", "1.3.0",
    ]  # fmt: skip
    (orin,) = report_of(world, "1.4.0-rc.1").profiles
    assert [past.version for past in orin.history] == ["1.0.0", "1.1.0", "1.2.0", "1.4.0-rc.1"]
    assert len(report_of(world, "1.0.0").profiles[0].history) == 1


@pytest.mark.parametrize(("versions", "shown"), [(1, ["1.2.0"]), (2, ["1.1.0", "1.2.0"])])
def test_the_newest_versions_are_compared(tmp_path: Path, versions: int, shown: list[str]) -> None:
    world, _ = published(tmp_path)
    found = report_of(world, "1.2.0", versions=versions).profiles[0]
    assert [past.version for past in found.history] == shown
    assert [one.version for one in found.downloads] == [None, *reversed(shown[:-1])]


def test_digests_are_those_of_the_objects_in_the_store(tmp_path: Path) -> None:
    world, _ = published(tmp_path)
    found = report_of(world, "1.2.0")
    assert found.root_sha256 == sha256(world.root)
    for one in found.profiles:
        digest = one.manifest_sha256
        name = f"tuf/targets/bundles/demo/1.2.0/{digest}.{one.name}.json"
        assert sha256(world.store.objects.read(name, max_bytes=10**6).data) == digest
        assert one.proofs is not None
        folder = tmp_path / f"proofs-{one.name}"
        world.store.unpack(one.manifest.proofs.digest, folder)
        assert {each.name: each.sha256 for each in one.proofs.files} == {
            path.name: sha256(path.read_bytes()) for path in folder.iterdir()
        }


def test_channels_are_those_that_point_to_this_version(tmp_path: Path) -> None:
    world, _ = published(tmp_path)
    world.world.promote("1.1.0", "stable")
    world.world.promote("1.1.0", "plant")
    assert set(report_of(world, "1.1.0").channels) == {"stable", "plant"}
    assert report_of(world, "1.2.0").channels == ("canary",)
    assert report_of(world, "1.0.0").channels == ()


def test_roles_are_in_the_order_of_trust_with_their_expiry(tmp_path: Path) -> None:
    world, _ = published(tmp_path, versions=1)
    roles = {one.role: one for one in report_of(world, "1.0.0").roles}
    assert list(roles) == ["root", "targets", "bundles", "channels", "snapshot", "timestamp"]
    lives = {role: (one.expires - world.now).days for role, one in roles.items()}
    assert lives["timestamp"] in (6, 7)
    assert lives["root"] in (364, 365)


def test_a_yanked_version_says_so(tmp_path: Path) -> None:
    world, _ = published(tmp_path, versions=2)
    yank(world.store, world.world.ring(), "demo", "1.0.0", now=world.now)
    assert report_of(world, "1.0.0").yanked
    assert not report_of(world, "1.1.0").yanked


def test_gates_and_steps_come_from_the_signed_chain(tmp_path: Path) -> None:
    world, made = published(tmp_path, versions=1)
    one = report_of(world, "1.0.0").profiles[0]
    chain = made["1.0.0"][0].chain
    assert [(step.step, step.key, step.outputs) for step in one.steps] == [
        (link.step, link.key, link.outputs) for link in chain
    ]
    assert one.gates.smoke is not None
    assert one.gates.smoke.passed
    assert one.gates.smoke.summary == one.manifest.smoke
    assert one.gates.accuracy is not None
    assert set(one.gates.steps) == {
        "gate@development", "accuracy-gate@development", "text@development"
    }  # fmt: skip
    repository = next(step for step in one.steps if step.step == "repository@development")
    engine = next(step for step in one.steps if step.step == "engine@development")
    assert (repository.inputs or {})["engine"] == engine.outputs["engine"]


def test_what_was_collected_as_garbage_is_missing_and_the_rest_is_there(tmp_path: Path) -> None:
    world, made = published(tmp_path)
    last = made["1.2.0"][0]
    verdict = next(
        link.outputs["verdict"] for link in last.chain if link.step == "gate@development"
    )
    for digest in (made["1.0.0"][0].proofs.digest, made["1.0.0"][0].tree.digest, verdict):
        delete_tree(world, digest)
    world.store.objects.delete(f"actions/{last.chain[0].key}.json")
    one = report_of(world, "1.2.0").profiles[0]
    assert one.history[0].result is None
    assert one.history[0].note == "its proofs are not stored any more"
    assert [each.bytes is None for each in one.downloads] == [False, False, True]
    assert made["1.0.0"][0].tree.digest in one.downloads[-1].note
    assert one.gates.smoke is None
    assert one.gates.accuracy is not None
    assert one.steps[0].inputs is None


def test_a_version_whose_own_proofs_are_gone_shows_its_manifest(tmp_path: Path) -> None:
    world, made = published(tmp_path)
    delete_tree(world, made["1.2.0"][0].proofs.digest)
    first, second = report_of(world, "1.2.0").profiles
    assert (first.proofs, first.sbom, first.current.result) == (None, None, None)
    assert first.manifest == made["1.2.0"][0]
    assert first.downloads[0].bytes is None
    assert second.proofs is not None


def test_a_bundle_without_predicates_has_none(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    world.publish(Version("1.0.0", 0, predicates=False))
    one = report_of(world, "1.0.0").profiles[0]
    assert one.proofs is not None
    assert (one.current.result, one.current.receipt) == (None, None)
    assert one.current.note == "published without: benchmark, accuracy"


def test_versions_measured_on_another_machine_are_not_comparable(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    elsewhere = result_of(0).model_copy(update={"machine": GPU})
    world.publish(Version("1.0.0", 0, result=elsewhere))
    world.publish(Version("1.1.0", 1, result=result_of(1, (4, 8))))
    world.publish(Version("1.2.0", 2))
    world.publish(Version("1.3.0", 3))
    history = report_of(world, "1.3.0").profiles[0].history
    assert [history[-1].comparable(past) for past in history] == [False, False, True, True]


def test_licence_files_of_the_bundle_are_named(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    files = {"models/COPYING.txt": b"x", "models/licences.py": b"x", "models/unlicensed": b"x"}
    world.publish(Version("1.0.0", 0, files=files))
    assert report_of(world, "1.0.0").profiles[0].licences == (
        "models/COPYING.txt", "models/licences.py", "models/llm/1/engine/LICENSE",
    )  # fmt: skip


def test_a_changed_lock_means_that_packages_are_installed_again(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    for number, lock in enumerate(("a", "b", "b")):
        locks = {"triton": lock * 64}
        world.publish(Version(f"1.{number}.0", number, environments=locks))
    downloads = report_of(world, "1.2.0").profiles[0].downloads
    assert {one.version: one.environment_changed for one in downloads} == {
        None: True, "1.1.0": False, "1.0.0": True,
    }  # fmt: skip


class TestRefused:
    """What a device would refuse is not reported."""

    def test_a_store_that_was_signed_from_another_root(self, tmp_path: Path) -> None:
        world, _ = published(tmp_path / "a", versions=1)
        other = ReportWorld(tmp_path / "b")
        with pytest.raises(TrustError):
            gather(world.store, other.root, "demo", "1.0.0", now=world.now)

    def test_expired_metadata(self, tmp_path: Path) -> None:
        world, _ = published(tmp_path, versions=1)
        with pytest.raises(TrustError, match="expired"):
            gather(world.store, world.root, "demo", "1.0.0", now=world.now + timedelta(days=9))

    def test_proofs_that_no_trusted_key_has_signed(self, tmp_path: Path) -> None:
        world, made = published(tmp_path, versions=1)
        world.world.rotate("bundles", revoke=True)
        with pytest.raises(TrustError):
            report_of(world, "1.0.0")
        assert made

    def test_damaged_proofs(self, tmp_path: Path) -> None:
        world, made = published(tmp_path, versions=1)
        name = f"trees/{made['1.0.0'][0].proofs.digest}.json"
        data = world.store.objects.read(name, max_bytes=10**6).data
        world.store.objects.write(name, data.replace(b'"size":', b'"size": '))
        with pytest.raises(CorruptedError):
            report_of(world, "1.0.0")

    def test_a_bundle_or_version_that_is_not_published(self, tmp_path: Path) -> None:
        world, _ = published(tmp_path, versions=1)
        with pytest.raises(NotFoundError, match=r"demo 1\.0\.1 is not published"):
            report_of(world, "1.0.1")
        with pytest.raises(NotFoundError, match="No bundle 'dem' is published") as error:
            gather(world.store, world.root, "dem", "1.0.0", now=world.now)
        assert "did you mean 'demo'?" in error.value.hint
        with pytest.raises(UsageError, match="not a valid version"):
            report_of(world, "newest")


def test_an_earlier_version_that_is_refused_is_named_and_not_shown(tmp_path: Path) -> None:
    world, _ = published(tmp_path, versions=1)
    world.world.publish("1.1.0", "development")  # with proofs that are made up
    world.publish(Version("1.2.0", 2), "development")
    history = report_of(world, "1.2.0").profiles[0].history
    assert [past.result is None for past in history] == [False, True, False]
    assert history[1].note


def test_without_a_root_of_a_device_the_first_root_of_the_store_is_taken(tmp_path: Path) -> None:
    world, _ = published(tmp_path, versions=1)
    assert first_root(world.store.objects) == world.root
    with pytest.raises(TrustError, match="no root metadata"):
        first_root(World(tmp_path / "empty").objects)
