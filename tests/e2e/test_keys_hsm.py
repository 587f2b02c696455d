"""Root keys in a PKCS#11 token (SoftHSM): the ceremony works with nothing but its PIN."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from forge.errors import UsageError
from forge.release.keys.kms import enrol
from forge.release.lifecycle import keys as key_folder
from tests.support.release_world import NOW, PASSPHRASE, World

pkcs11 = pytest.importorskip("pkcs11")
MODULES = sorted(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"))
pytestmark = pytest.mark.skipif(not MODULES, reason="SoftHSM is not here: apt-get install softhsm2")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a P-256 key in a token of its own."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(MODULES[0]))
    label = "forge-root"
    command = ["softhsm2-util", "--init-token", "--free", "--label", label]
    command += ["--pin", PASSPHRASE, "--so-pin", "5678"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    library = pkcs11.lib(str(MODULES[0]))
    library.reinitialize()  # it reads its configuration once
    with library.get_token(token_label=label).open(rw=True, user_pin=PASSPHRASE) as session:
        curve = pkcs11.util.ec.encode_named_curve_parameters("secp256r1")
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
        )
        parameters.generate_keypair(store=True, id=b"\x02", label="root")
    return f"hsm:2?label={label}"


def test_root_key_of_a_token_signs_and_devices_follow(token: str, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    shutil.rmtree(world.keys)
    key_folder.init(
        world.keys, passphrase=PASSPHRASE, now=NOW, root_keys=1, threshold=1, uris={"root-1": token}
    )
    assert not (world.keys / "root-1.pem").exists()
    world.release("1.0.0")
    before = world.client()
    before.refresh()
    assert world.rotate("online") == "online-2"
    before.refresh()


def test_wrong_pin_is_told_as_such(token: str) -> None:
    with pytest.raises(UsageError, match="Cannot use the key") as caught:
        enrol(token, "root-1", "root", lambda: "wrong")
    assert "PIN" in str(caught.value.why).upper()
