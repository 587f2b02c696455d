"""Real kustomize renders every overlay, and what it renders holds before the API's own schemas.

No cluster: that a pod starts was not seen here.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from forge.profiles import names

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
VERSIONS = ("1.33", "1.37")  # the oldest that Kubernetes still maintains or nearly so, the newest
OVERLAYS = [f"overlays/{name}" for name in names(ROOT / "profiles")]
DIGEST = "sha256:" + "0" * 64

Document = dict[str, Any]


@pytest.fixture(scope="session")
def kustomize() -> str:
    found = shutil.which("kustomize") or shutil.which("kustomize", path=ROOT / ".forge" / "bin")
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        pytest.skip("neither kustomize nor Go is here: see https://go.dev/dl")
    environment = os.environ | {"GOBIN": str(ROOT / ".forge" / "bin"), "GOFLAGS": "-mod=mod"}
    subprocess.run([go, "install", KUSTOMIZE], check=True, env=environment, timeout=500)
    return str(ROOT / ".forge" / "bin" / "kustomize")


def build(kustomize: str, folder: Path) -> dict[str, Document]:
    """What kustomize makes of a folder, by kind; one of each."""
    done = subprocess.run(
        [kustomize, "build", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    documents = list(yaml.safe_load_all(done.stdout))
    found = {one["kind"]: one for one in documents}
    assert len(found) == len(documents)
    return found


def pod(found: dict[str, Document]) -> Document:
    spec: Document = found["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", ["deployment", "networkpolicy", "service", "slots"])
@pytest.mark.parametrize("version", VERSIONS)
def test_documents_of_the_base_hold_before_the_schemas(name: str, version: str) -> None:
    document = yaml.safe_load((FOLDER / "base" / f"{name}.yaml").read_text())
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_do_refuse(version: str) -> None:
    document = yaml.safe_load((FOLDER / "base" / "deployment.yaml").read_text())
    document["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.sample
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("overlay", [*OVERLAYS, "site.example"])
def test_what_is_rendered_holds_before_the_schemas(kustomize: str, overlay: str) -> None:
    found = build(kustomize, FOLDER / overlay)
    assert set(found) == {
        "ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service",
    }  # fmt: skip
    for document in found.values():
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_closed(kustomize: str, overlay: str) -> None:
    spec = pod(build(kustomize, FOLDER / overlay))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    [main], [provision] = spec["containers"], spec["initContainers"]
    gpu = "runtimeClassName" in spec or "limits" in main["resources"]
    for container in (main, provision):
        closed = {
            "allowPrivilegeEscalation": False,
            # NVIDIA's hooks write into a container that gets a GPU: kserve#5711.
            "readOnlyRootFilesystem": container is provision or not gpu,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["securityContext"] == closed
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in provision["env"]
    for volume in spec["volumes"]:
        if "hostPath" in volume:
            [mount] = [one for one in main["volumeMounts"] if one["name"] == volume["name"]]
            assert mount["readOnly"] is True


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_and_selectors_lead_to_the_one_pod(kustomize: str, overlay: str) -> None:
    found = build(kustomize, FOLDER / overlay)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels["forge-release.github.io/profile"] == Path(overlay).name
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    spec = pod(found)
    claims = [one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"]
              if "persistentVolumeClaim" in one]  # fmt: skip
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]
    for container in (*spec["containers"], *spec["initContainers"]):
        maps = [one["configMapRef"]["name"] for one in container["envFrom"]
                if "configMapRef" in one]  # fmt: skip
        assert maps == [found["ConfigMap"]["metadata"]["name"]]
    assert found["ConfigMap"]["data"]["HARDWARE_PROFILE"] == Path(overlay).name


def keeps_away(spec: Document, labels: dict[str, str]) -> bool:
    """Whether a pod may not be on the node of a pod with these labels, in any namespace."""
    rule = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    for term in rule:
        selector = term["labelSelector"]
        equal = selector.get("matchLabels", {}).items() <= labels.items()
        rules = [one for one in selector.get("matchExpressions", []) if one["operator"] == "In"]
        listed = [labels.get(one["key"]) in one["values"] for one in rules]
        here = term["topologyKey"] == "kubernetes.io/hostname" and term["namespaceSelector"] == {}
        if here and equal and all(listed):
            return True
    return False


@pytest.mark.slow
@pytest.mark.network
def test_no_two_devices_share_a_node(kustomize: str, tmp_path: Path) -> None:
    """Two folders of one profile, as the guide says, and all the overlays themselves."""
    shutil.copytree(FOLDER, tmp_path / "k")
    for number in "12":
        folder = tmp_path / "k" / f"thor-{number}"
        shutil.copytree(FOLDER / "site.example", folder)
        text = (folder / "kustomization.yaml").read_text()
        text = text.replace("overlays/development", "overlays/jetson-agx-thor")
        text = text.replace('"-1"', f'"-{number}"').replace('device: "1"', f'device: "{number}"')
        text = text.replace("namespace: forge", f"namespace: forge-{number}")
        (folder / "kustomization.yaml").write_text(text)
    folders = [tmp_path / "k" / "thor-1", tmp_path / "k" / "thor-2"]
    folders += [FOLDER / overlay for overlay in OVERLAYS]
    found = [build(kustomize, folder)["Deployment"]["spec"]["template"] for folder in folders]
    for one, other in itertools.product(found, found):
        assert keeps_away(one["spec"], other["metadata"]["labels"])
    assert not keeps_away(found[0]["spec"], {"app.kubernetes.io/name": "another"})


@pytest.mark.slow
@pytest.mark.network
def test_components_switch_the_runtime_class_and_the_read_only_root(
    kustomize: str, tmp_path: Path
) -> None:
    shutil.copytree(FOLDER, tmp_path / "k")
    path = tmp_path / "k" / "site.example" / "kustomization.yaml"
    text = path.read_text().replace("overlays/development", "overlays/rtx-pro-4000")
    path.write_text(text)
    plain = pod(build(kustomize, path.parent))
    path.write_text(
        f"{text}components: [../components/runtime-class, ../components/read-only-root]\n"
    )
    found = pod(build(kustomize, path.parent))
    assert ("runtimeClassName" in plain, found["runtimeClassName"]) == (False, "nvidia")
    [before], [after] = plain["containers"], found["containers"]
    assert before["securityContext"]["readOnlyRootFilesystem"] is False
    assert after["securityContext"]["readOnlyRootFilesystem"] is True
    for version in VERSIONS:
        kubernetes_validate.validate(
            build(kustomize, path.parent)["Deployment"], version, strict=True
        )


@pytest.mark.slow
@pytest.mark.network
def test_only_the_api_is_let_in_and_only_names_and_https_out(kustomize: str) -> None:
    policy = build(kustomize, FOLDER / OVERLAYS[0])["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "api", "protocol": "TCP"}]}]
    out = [one for rule in policy["egress"] for one in rule["ports"]]
    assert {(one["protocol"], one["port"]) for one in out} == {
        ("UDP", 53), ("TCP", 53), ("TCP", 443),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.network
def test_a_site_sets_its_image_once_and_the_agent_is_told_it(kustomize: str) -> None:
    found = build(kustomize, FOLDER / "site.example")
    spec = pod(found)
    image = f"registry.example/forge/device@{DIGEST}"
    for container in (*spec["containers"], *spec["initContainers"]):
        assert container["image"] == image
    environment = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    assert environment["FORGE_IMAGE"] == image
    # Two devices of one SKU in one namespace do not take each other's pods.
    labels = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert labels["forge-release.github.io/device"] == "1"
    assert found["ConfigMap"]["data"]["HARDWARE_PROFILE"] == "development"


@pytest.mark.slow
@pytest.mark.network
def test_kustomize_edit_changes_the_image_of_a_site(kustomize: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "k")
    site = tmp_path / "k" / "site.example"
    image = f"registry.example/other@sha256:{'1' * 64}"
    argv = [kustomize, "edit", "set", "image", f"forge={image}"]
    subprocess.run(argv, cwd=site, check=True, timeout=60)
    spec = pod(build(kustomize, site))
    assert spec["containers"][0]["image"] == image
    assert spec["containers"][0]["env"][0] == {"name": "FORGE_IMAGE", "value": image}
