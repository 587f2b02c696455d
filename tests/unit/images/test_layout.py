"""OCI layouts: verified when read, joined under one index."""

import json
from pathlib import Path

import pytest

from forge import canonical
from forge.errors import ConfigurationError, CorruptedError
from forge.images.documents import IMAGE_MEDIA_TYPE, PlatformImage
from forge.images.layout import index_bytes, join, read_content
from forge.images.platforms import Platform


def blob(layout: Path, data: bytes) -> dict[str, object]:
    digest = canonical.sha256(data)
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": IMAGE_MEDIA_TYPE, "digest": f"sha256:{digest}", "size": len(data)}


def a_layout(folder: Path, platform: Platform) -> tuple[Path, PlatformImage]:
    (folder / "blobs/sha256").mkdir(parents=True)
    system, _, architecture = platform.partition("/")
    config = blob(folder, json.dumps({"os": system, "architecture": architecture}).encode())
    layers = [blob(folder, b"shared"), blob(folder, architecture.encode())]
    data = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    manifest = blob(folder, data)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    image = PlatformImage(
        platform=platform,
        digest=str(manifest["digest"]),
        manifest_bytes=len(data),
        size=1,
        layers=2,
        base="x",
        sbom=f"sha256:{'0' * 64}",
    )
    return folder, image


def test_layout_tells_platform_layers_and_size(tmp_path: Path) -> None:
    layout, image = a_layout(tmp_path / "one", "linux/arm64")
    content = read_content(layout)
    assert content.platform == "linux/arm64"
    assert content.manifest.digest == image.digest
    assert [path.read_bytes() for path in content.layers] == [b"shared", b"arm64"]
    assert content.size == sum(path.stat().st_size for path in layout.glob("blobs/sha256/*"))


@pytest.mark.parametrize("data", [b"sharee", b"share", None], ids=["bit", "short", "missing"])
def test_damaged_blob_is_found(tmp_path: Path, data: bytes | None) -> None:
    layout, _ = a_layout(tmp_path / "one", "linux/arm64")
    path = layout / "blobs/sha256" / canonical.sha256(b"shared")
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(CorruptedError, match="missing or damaged"):
        read_content(layout)


def test_index_that_names_a_path_is_refused(tmp_path: Path) -> None:
    layout, _ = a_layout(tmp_path / "one", "linux/arm64")
    text = (layout / "index.json").read_text()
    (layout / "index.json").write_text(text.replace("sha256:", "sha256:../"))
    with pytest.raises(CorruptedError, match=r"index\.json of an image layout is not valid"):
        read_content(layout)


def test_index_is_the_same_for_any_order_and_joined_layouts_hold_all(tmp_path: Path) -> None:
    arm64 = a_layout(tmp_path / "one", "linux/arm64")
    amd64 = a_layout(tmp_path / "two", "linux/amd64")
    layouts, images = [arm64[0], amd64[0]], [arm64[1], amd64[1]]
    index = index_bytes(images)
    assert index == index_bytes(reversed(images))
    digest = join(layouts, index, tmp_path / "all", tag="1")
    assert digest == f"sha256:{canonical.sha256(index)}"
    top = json.loads((tmp_path / "all/index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in top] == [digest]
    names = {path.name for path in (tmp_path / "all/blobs/sha256").iterdir()}
    # Shared layer once; one configuration, layer and manifest a platform; the index.
    assert len(names) == 1 + 2 * 3 + 1


def test_index_that_names_what_no_layout_holds_is_refused(tmp_path: Path) -> None:
    layout, image = a_layout(tmp_path / "one", "linux/arm64")
    _, other = a_layout(tmp_path / "two", "linux/amd64")
    with pytest.raises(ConfigurationError, match="which is in no layout"):
        join([layout], index_bytes([image, other]), tmp_path / "all", tag="1")
