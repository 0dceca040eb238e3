"""An output folder carries all that it needs: it can be moved, and the model beside it deleted."""

from __future__ import annotations

import shutil

from harness import call
from plans import PLANS


def test_moved_folder_trains_alike(models, tokens, tmp_path):
    compiled = models("gpt2").compile("tp2-pp2", PLANS["tp2-pp2"])
    before = compiled.train(tmp_path / "before", "--steps", 3, "--data", tokens)
    elsewhere = tmp_path / "else where" / "moved"
    shutil.copytree(compiled.folder, elsewhere, symlinks=True)
    home = compiled.folder.with_name("away")
    compiled.folder.rename(home)
    try:
        moved = type(compiled)(elsewhere).train(tmp_path / "after", "--steps", 3, "--data", tokens)
        # From inside, by a relative path, and through a link.
        inside = call("./launch", "--steps", 1, "--data", tokens, cwd=elsewhere)
        (tmp_path / "train").symlink_to(elsewhere / "launch")
        linked = call(tmp_path / "train", "--steps", 1, "--data", tokens)
    finally:
        home.rename(compiled.folder)
    assert moved.losses == before.losses
    assert inside.returncode == 0, inside.stderr
    assert linked.returncode == 0, linked.stderr


def test_no_absolute_path_inside(models):
    model = models("gpt2")
    compiled = model.compile("tp2-pp2", PLANS["tp2-pp2"])
    for file in compiled.folder.iterdir():
        assert not file.is_symlink(), file
        if file.name.startswith("stage") or file.name in ("launch", "plan.json"):
            content = file.read_bytes()
            for folder in (compiled.folder, model.folder, model.folder.parent):
                assert str(folder).encode() not in content, f"{file.name} names {folder}"
    for stage in ("stage0", "stage1"):
        listed = call("readelf", "-d", compiled.folder / stage).stdout
        assert "$ORIGIN" in listed
        assert "[/" not in listed, listed
