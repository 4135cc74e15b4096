"""A new kind of source is one file, in a package of anybody's."""

from __future__ import annotations

import pickle
import sys
import textwrap

import pytest
from training_files import assert_same_items, image, jpeg, one_line_error, source, write

from mfsynth.shards.labels import Moment
from mfsynth.sources import base, registry
from mfsynth.training.data import PartSettings, open_mixture

EXAMPLE = base.__doc__.split("of yours:\n")[1].split("The package names it")[0]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay a package of one module out as pip does, with its entry points."""

    def lay_out(code, **entry_points):
        module = "kinds_of_a_stranger"
        write(tmp_path / f"{module}.py", textwrap.dedent(code))
        about = tmp_path / "strangers_kinds-1.0.dist-info"
        write(about / "METADATA", "Metadata-Version: 2.1\nName: strangers-kinds\nVersion: 1.0\n")
        lines = [f"{kind} = {module}:{name}" for kind, name in entry_points.items()]
        write(about / "entry_points.txt", "\n".join([f"[{registry.GROUP}]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)
        registry._kinds.cache_clear()

    yield lay_out
    sys.modules.pop("kinds_of_a_stranger", None)
    monkeypatch.undo()
    registry._kinds.cache_clear()


def test_the_example_of_the_docstring_is_a_source_wherever_sources_are(install, tmp_path):
    install(EXAMPLE, beside="BesideSettings")
    for number in range(3):
        write(tmp_path / "photos" / f"{number}.jpg", jpeg(image(number)))
        write(tmp_path / "photos" / f"{number}.txt", f"cup {number}")
    settings = {"kind": "beside", "path": str(tmp_path / "photos")}
    opened = source(**settings)
    assert [item.text for item in (opened[2], opened[0])] == ["cup 2", "cup 0"]
    assert opened[1].name.endswith("1.jpg")
    assert_same_items(pickle.loads(pickle.dumps(opened))[1], opened[1])

    part = PartSettings.model_validate({**settings, "weight": 2.0, "mirror": True})
    assert part.model_dump() == {
        **settings,
        "weight": 2.0,
        "crop": "random",
        "mirror": True,
        "sparsity": (),
        "joint_only": False,
    }
    mixture = open_mixture([part], 4, 4)
    assert sorted(mixture.captions()) == ["cup 0", "cup 1", "cup 2"]
    assert mixture.sample(0, 0).rgb.shape == (4, 4, 3)


def test_a_mistake_in_an_installed_kind_is_told_like_any_other(install):
    install(EXAMPLE, beside="BesideSettings")
    with pytest.raises(ValueError, match=r"beside\.path\n  Field required"):
        source(kind="beside")
    with pytest.raises(ValueError, match="'mujoco', 'beside'"):
        source(kind="besides", path="x")


@pytest.mark.parametrize(
    ("code", "kind", "problem"),
    [
        ("import no_such_module", "broken", r"can't be imported \(ModuleNotFoundError: No module"),
        ("B = 1", "broken", r"can't be imported \(AttributeError"),
        ("A = 1", "number", "is not a subclass of mfsynth.sources.settings.So"),
        (EXAMPLE + "    A = BesideSettings", "other", 'has no field kind: Literal."other".'),
        (EXAMPLE + "    A = BesideSettings", "folder", "has one of this name, and so has mfsynth"),
    ],
)
def test_a_package_whose_kind_is_unusable_is_named(install, code, kind, problem):
    install(code, **{kind: "A"})
    with one_line_error(f"^sources.{kind}: .*strangers-kinds 1.0 .*{problem}"):
        source(kind=kind)


def test_packages_of_kinds_that_are_not_named_are_not_imported(install, tmp_path):
    install("raise ImportError('no such luck')", broken="A")
    with one_line_error("no such folder"):
        source(kind="folder", layout="scannet", path=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"labels": ("episode",), "moments": None}, "has labels and no moment;"),
        ({"lables": ("episode",), "moment": lambda self, index: None}, "has moment and no labels;"),
    ],
)
def test_half_of_what_labels_need_is_told_of_not_taken_for_none(install, tmp_path, members, said):
    install(EXAMPLE, beside="BesideSettings")
    opened = source(kind="beside", path=str(tmp_path))
    assert base.as_labelled(opened) is None
    assert base.labels_of(opened) == ()
    assert base.scene_of(opened, 3) == "item 3"
    assert base.told_scene(opened, 3) is None
    half = type("Half", (type(opened),), members)(())
    for ask in (base.labels_of, lambda half: base.scene_of(half, 0)):
        with one_line_error(f"^Half {said}"):
            ask(half)


def test_what_has_labels_and_moments_is_a_labelled_source_whoever_wrote_it(install, tmp_path):
    install(EXAMPLE, beside="BesideSettings")
    opened = source(kind="beside", path=str(tmp_path))
    members = {"labels": ("episode",), "moment": lambda self, index: Moment("walk", index)}
    whole = type("Whole", (type(opened),), members)(())
    assert base.labels_of(whole) == ("episode",)
    assert base.scene_of(whole, 3) == base.told_scene(whole, 3) == "walk"
