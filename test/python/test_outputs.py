"""Outputs follow links, and never take the place of a pipe or a device."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from galvatron import archive, outputs, reference, report
from galvatron.data import indexed
from galvatron.errors import GalvatronError


@pytest.fixture
def link(tmp_path):
    """A link to a file of another folder that is not there yet."""
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other/target")
    return tmp_path / "link"


def test_a_link_is_followed(link, tmp_path):
    report.write_whole(str(link), "page")
    assert link.is_symlink() and (tmp_path / "other" / "target").read_text() == "page"
    reference.write_log(link, [])
    assert link.is_symlink() and (tmp_path / "other" / "target").read_text().startswith("step")
    with archive._beside(link) as (temporary, final):
        assert temporary.name == "link" and temporary.parent.parent == final.parent
        assert final == (tmp_path / "other" / "target").resolve()
    assert os.listdir(tmp_path / "other") == ["target"]


def test_indexed_datasets_follow_links(tmp_path):
    (tmp_path / "other").mkdir()
    for suffix in (".bin", ".idx"):
        (tmp_path / f"web{suffix}").symlink_to(f"other/web{suffix}")
    with indexed.writing(tmp_path / "web", {"": "u16"}) as writers:
        writers[""].add(np.arange(4))
    assert (tmp_path / "web.bin").is_symlink() and (tmp_path / "web.idx").is_symlink()
    assert sorted(os.listdir(tmp_path / "other")) == ["web.bin", "web.idx"]


def test_a_circle_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "web.bin")
    with pytest.raises(GalvatronError, match="cannot write .*circle: "):
        outputs.destination(tmp_path / "circle", "name another")
    for write in (
        lambda: archive.check_writable(tmp_path / "pipe"),
        lambda: reference.write_log(tmp_path / "pipe", []),
        lambda: indexed.writing(tmp_path / "web", {"": "u16"}).__enter__(),
    ):
        with pytest.raises(GalvatronError, match="cannot write .*(pipe|web.bin): it is no file; "):
            write()
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "web.bin").is_fifo()


def test_a_page_goes_into_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    report.write_whole(str(tmp_path / "pipe"), "page")
    reader.join()
    assert got == ["page"] and (tmp_path / "pipe").is_fifo()
