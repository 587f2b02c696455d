"""Publishing to a real S3 server: its conditional writes are what keeps publishers apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import StoreError
from forge.release import publish
from forge.release.catalog import Catalog
from forge.release.lifecycle.expiry import status
from forge.store import open_objects
from tests.support.release_world import World, publish_at_once
from tests.support.seaweed import ROLES_BUCKET, Seaweed


@pytest.fixture
def world(seaweedfs: Seaweed, tmp_path: Path) -> World:
    made = World(tmp_path)
    url = f"s3://{seaweedfs.bucket()}/prefix"
    made.objects = open_objects(url, environment=seaweedfs.environment)
    return made


def on_canary(world: World) -> str:
    client = world.client()
    client.refresh()
    channel = client.channel("demo", "canary")
    client.manifest("demo", channel.version, "development")
    client.proof_keys()
    return channel.version


def test_release_rotation_and_promotion_reach_a_client_through_s3(world: World) -> None:
    world.publish("1.0.0")
    assert on_canary(world) == "1.0.0"
    world.rotate("online")
    world.publish("1.1.0", channel="beta")
    assert on_canary(world) == "1.0.0"
    world.promote("1.1.0", "canary")
    assert on_canary(world) == "1.1.0"
    assert not world.publish("1.1.0", channel="beta").written
    assert {row.alarm for row in status(world.objects, world.ring(), world.now)} == {"ok"}


def test_publishers_at_once_on_s3_all_end_up_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_LEASE_WAIT_S", 0.0)
    world.publish("1.0.0")
    publish_at_once(world, 3)
    assert len(Catalog(world.objects).versions("demo")) == 4
    assert on_canary(world) == "1.0.0"


def test_rights_of_each_workflow_role_are_enough_for_its_job_and_no_more(
    own_seaweedfs: Seaweed, tmp_path: Path
) -> None:
    own_seaweedfs.client().create_bucket(Bucket=ROLES_BUCKET)
    world = World(tmp_path)

    def become(role: str) -> None:
        environment = own_seaweedfs.environment | own_seaweedfs.role(role)
        world.objects = open_objects(f"s3://{ROLES_BUCKET}/forge", environment=environment)

    become("publish")
    world.publish("1.0.0")
    become("build")
    with pytest.raises(StoreError, match="AccessDenied"):
        world.publish("1.1.0")
    become("promote")
    with pytest.raises(StoreError, match="AccessDenied"):
        world.objects.write_new("packs/aa/x", b"1")
    world.promote("1.0.0", "stable")
    assert Catalog(world.objects).channels("demo")["stable"] == "1.0.0"
