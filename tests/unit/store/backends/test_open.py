"""Which backend a URL means, and that no message repeats a password of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, NotInStoreError
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.mirrors import Mirrors
from forge.store.backends.open import cache_folder, check_exists, local_folder, open_objects
from forge.store.backends.s3 import S3Objects
from forge.store.backends.web import ATTEMPTS, WebObjects

ENDPOINT = {"FORGE_S3_ENDPOINT": "http://127.0.0.1:9", "FORGE_ALLOW_HTTP": "1"}


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("/srv/store", "/srv/store"),
        ("/srv/a b%20c", "/srv/a b%20c"),
        ("file:///srv/store", "/srv/store"),
        ("file://localhost/srv/store", "/srv/store"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("s3:bucket", None),
        ("file://elsewhere/srv", "other"),
        ("file://", "other"),
        ("s3://bucket/x", "other"),
        ("https://host/x", "other"),
    ],
)
def test_a_path_and_a_file_url_mean_a_folder(url: str, folder: str | None) -> None:
    if folder == "other":
        assert local_folder(url) is None
    else:
        assert local_folder(url) == (Path(folder) if folder else Path.cwd() / url)


def test_a_path_is_of_the_working_folder_or_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder("artifacts") == tmp_path / "artifacts"
    monkeypatch.setenv("HOME", "/home/me")
    assert local_folder("~/artifacts") == Path("/home/me/artifacts")


def test_each_kind_of_url_has_its_backend(tmp_path: Path) -> None:
    assert isinstance(open_objects(str(tmp_path / "none")), DirectoryObjects)
    assert not (tmp_path / "none").exists()
    web = open_objects("https://host/x/")
    assert isinstance(web, WebObjects)
    assert web.url == "https://host/x"
    s3 = open_objects("s3://bucket/a/prefix/", environment=ENDPOINT)
    assert isinstance(s3, S3Objects)
    assert s3.url == "s3://bucket/a/prefix"


@pytest.mark.parametrize(
    "url", ["ftp://me:hunter2@host/x", "s3://", "s3:///prefix", "s3://me:hunter2@bucket/x",
            "file://host/x", "gopher://x", "://x", "https://[::1/x", "s3://[me:hunter2@x/y"],
)  # fmt: skip
def test_another_url_is_refused_and_its_password_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_objects(url)
    assert "hunter2" not in str(caught.value)
    assert "s3://bucket/prefix" in caught.value.hint
    assert caught.value.exit_code == 3


def test_mirrors_are_in_the_order_they_are_given(tmp_path: Path) -> None:
    urls = [str(tmp_path / "a"), "https://host/x", str(tmp_path / "b")]
    found = open_objects(urls[0], mirrors=urls[1:])
    assert isinstance(found, Mirrors)
    assert [one.url for one in found.standings()] == urls


def test_a_web_server_with_mirrors_is_tried_less_often() -> None:
    alone = open_objects("https://host/x")
    (place,) = open_objects("https://host/x", mirrors=["/x"])._places[:1]  # type: ignore[attr-defined]
    assert isinstance(alone, WebObjects)
    assert alone._attempts == ATTEMPTS
    assert place.objects._attempts == 2


def test_one_rate_limit_is_shared_by_all_places() -> None:
    urls = ["s3://b/x", "s3://c/x"]
    found = open_objects(urls[0], mirrors=urls[1:], limit_rate=5000, environment=ENDPOINT)
    limits = [place.objects._limit for place in found._places]  # type: ignore[attr-defined]
    assert limits[0] is limits[1]
    assert limits[0].bytes_per_s == 5000
    unlimited = open_objects("s3://b/x", environment=ENDPOINT)
    assert unlimited._limit is None  # type: ignore[attr-defined]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "forge.store.backends.s3")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match="extra 's3'") as caught:
        open_objects("s3://bucket/x")
    assert "s3://bucket/x" in caught.value.what
    assert "boto3" in caught.value.why
    assert "forge-release[s3]" in caught.value.hint


def test_only_a_missing_folder_is_known_to_be_missing(tmp_path: Path) -> None:
    check_exists(str(tmp_path))
    check_exists("s3://no-such-bucket/x")
    check_exists("https://no-such-host/x")
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(NotInStoreError, match=str(path)) as caught:
            check_exists(path.as_uri())
        assert "--store" in caught.value.hint
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"FORGE_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg"}, "/mine"),
        ({"FORGE_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/forge"),
        ({"XDG_CACHE_HOME": ""}, "~/.cache/forge"),
        ({}, "~/.cache/forge"),
    ],
)
def test_the_cache_folder_follows_from_the_environment(
    environment: dict[str, str], folder: str
) -> None:
    assert cache_folder(environment) == Path(folder).expanduser()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FORGE_CACHE": "/f"}, "/f"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/forge"),
        ({"HOME": "/h"}, "/h/.cache/forge"),
    ],
)
def test_the_cache_is_in_the_users_cache_folder(environment: dict[str, str], expected: str) -> None:
    assert str(cache_folder(environment)) == expected


def test_a_user_without_a_home_has_a_cache_in_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(_uid: int) -> object:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    expected = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}" / "forge"
    assert cache_folder({}) == expected
    assert cache_folder({"HOME": "relative"}) == expected


@pytest.mark.skipif(os.getuid() != 0, reason="makes a folder of another user")
def test_a_folder_that_another_user_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = tmp_path / f"cache-{os.getuid()}"
    taken.mkdir()
    os.chown(taken, 12345, 12345)
    assert cache_folder({"HOME": "relative"}).parent != taken


@pytest.mark.parametrize(
    "url", ["s3://bucket/a?b", "s3://bucket/a#b", "file:///tmp/a?b", "file:///tmp/a#b"]
)
def test_rest_of_a_url_is_not_dropped(url: str) -> None:
    """Else the store is another one than the user named."""
    with pytest.raises(ConfigurationError, match="not a valid store URL") as caught:
        open_objects(url, environment=ENDPOINT)
    assert "percent-encode" in caught.value.hint
    assert local_folder(url) is None


def test_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%20d"
    open_objects(str(folder)).write("x", b"by path")
    encoded = f"file://{tmp_path}/a%3Fb%23c%2520d"
    assert open_objects(encoded).read("x", max_bytes=9).data == b"by path"
