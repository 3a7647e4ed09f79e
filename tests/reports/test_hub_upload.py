"""Uploading an export: against a Hub of a folder, without a connection; a private repository stays private."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import pyro_hvae as hv
from pyro_hvae.errors import ConfigError, DeviceError

huggingface_hub = pytest.importorskip("huggingface_hub")
TOKEN = "hf_secretsecretsecretsecret"
FILES = ["README.md", "config.json", "model.safetensors"]


class FakeHub:
    """The calls of `HfApi` that are used, on a folder; `public` are repositories that are there already."""

    def __init__(self, folder, public=(), fail=None):
        self.folder, self.public, self.fail, self.private = folder, public, fail, {}

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        assert repo_type == "model" and exist_ok
        if self.fail:
            raise self.fail
        self.private.setdefault(repo_id, False if repo_id in self.public else bool(private))

    def model_info(self, repo_id):
        return SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert "Exported by pyro-hvae" in commit_message
        for name in allow_patterns:
            (self.folder / repo_id).mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder_path, name), self.folder / repo_id / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def make(**how):
        fake = FakeHub(tmp_path / "hub", **how)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: fake)
        return fake

    return make


def test_the_calls_are_those_of_the_client():
    import inspect

    for name in ("create_repo", "model_info", "upload_folder"):
        known = inspect.signature(getattr(huggingface_hub.HfApi, name)).parameters
        assert set(inspect.signature(getattr(FakeHub, name)).parameters) <= set(known)


def test_an_upload_opens_as_the_run(hub, vae_run, tmp_path, command):
    fake = hub()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.txt").write_text(TOKEN)
    code, out, err = command("export", vae_run, tmp_path / "out", "--hub", "me/vae", "--private")
    assert not code, err
    assert "https://huggingface.co/me/vae" in out and TOKEN not in out + err
    assert sorted(os.listdir(tmp_path / "hub/me/vae")) == FILES and fake.private["me/vae"]
    assert repr(hv.load(tmp_path / "hub/me/vae")) == repr(hv.load(vae_run))


def test_nothing_private_is_put_into_a_public_repository(hub, vae_run, tmp_path):
    hub(public=["me/vae"])
    with pytest.raises(ConfigError, match="it is public, so that nothing was uploaded"):
        hv.export(vae_run, tmp_path / "out", hub="me/vae", private=True)
    assert not (tmp_path / "hub").exists() and sorted(os.listdir(tmp_path / "out")) == FILES


@pytest.mark.parametrize("fail", [OSError(f"refused {TOKEN}"), ValueError(f"bad header {TOKEN}"), RuntimeError(TOKEN)])
def test_a_refusal_keeps_the_folder_and_the_token(hub, vae_run, tmp_path, command, fail):
    hub(fail=fail)
    code, out, err = command("export", vae_run, tmp_path / "out", "--hub", "me/vae")
    assert code == 3 and "hf auth login" in err and TOKEN not in out + err
    assert sorted(os.listdir(tmp_path / "out")) == FILES


def test_names_are_checked_before_anything_is_written(vae_run, tmp_path):
    for name in ("vae", "me/../vae", "a/b/c", "me/", "me/v ae"):
        with pytest.raises(ConfigError, match="Example: --hub me/digits-vhp|Write OWNER/NAME"):
            hv.export(vae_run, tmp_path / "out", hub=name)
    with pytest.raises(ConfigError, match="Give both, or neither"):
        hv.export(vae_run, tmp_path / "out", private=True)
    assert not (tmp_path / "out").exists()


def test_without_the_extra(vae_run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(DeviceError, match="the extra 'hub'"):
        hv.export(vae_run, tmp_path / "out", hub="me/vae")
