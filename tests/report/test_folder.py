from __future__ import annotations

import pytest

from atacvi.report import InputError, new_folder


def _earlier_output(path):
    path.mkdir()
    for name in ("report.html", "multiome.h5mu"):
        (path / name).write_text("old")
    return path


def _fail(path, error):
    with new_folder(path, overwrite=True) as work:
        (work / "file").write_text("x")
        raise error


def test_folder_appears_only_at_the_end(tmp_path):
    with new_folder(tmp_path / "out") as work:
        (work / "file").write_text("x")
        assert not (tmp_path / "out").exists()
        assert work.parent == tmp_path  # beside it: a rename does not cross file systems
    assert (tmp_path / "out" / "file").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(error, tmp_path):
    with pytest.raises(error):
        _fail(tmp_path / "out", error)
    assert not list(tmp_path.iterdir())


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as work:
        (work / "file").write_text("x")
    assert (tmp_path / "out" / "file").exists()


def test_earlier_output_stays_when_the_new_one_fails(tmp_path):
    out = _earlier_output(tmp_path / "out")
    with pytest.raises(ValueError):
        _fail(out, ValueError)
    assert (out / "report.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_earlier_output_comes_back_when_the_move_fails(tmp_path, monkeypatch):
    from pathlib import Path

    out = _earlier_output(tmp_path / "out")
    rename = Path.rename

    def fail(self, target):
        if self.suffix == ".part":
            msg = "disk"
            raise OSError(msg)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk"), new_folder(out, overwrite=True):
        pass
    assert (out / "report.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_earlier_output_is_replaced_whole(tmp_path):
    out = _earlier_output(tmp_path / "out")
    with new_folder(out, overwrite=True) as work:
        (work / "report.html").write_text("new")
    assert [p.name for p in out.iterdir()] == ["report.html"]


def test_link_keeps_leading_to_the_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link") as work:
        (work / "file").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").exists()


def test_dead_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="leads nowhere"), new_folder(tmp_path / "link"):
        pass


def test_mode_is_that_of_a_new_folder(tmp_path):
    (tmp_path / "plain").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode
