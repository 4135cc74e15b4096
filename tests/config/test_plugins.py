"""What installed packages add is looked up once, and again when packages come or go."""

from __future__ import annotations

from mfsynth.config.plugins import find_plugins

GROUP = "mfsynth.things"


def test_a_package_that_comes_or_goes_while_a_process_lives_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_plugins(GROUP, ()) == {}
    about = tmp_path / "my_things-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-things\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\ncup = my_things:Cup\n")
    assert [*find_plugins(GROUP, ())] == ["cup"]
    about.rename(tmp_path / "gone")
    assert find_plugins(GROUP, ()) == {}


def test_packages_are_not_looked_through_again_for_every_question(monkeypatch):
    found = find_plugins(GROUP, ())

    def again(**_):
        raise AssertionError

    monkeypatch.setattr("mfsynth.config.plugins.entry_points", again)
    assert find_plugins(GROUP, ()) == found
