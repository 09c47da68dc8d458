"""One's own folders: every kind of picture, every way in which a folder can be unusable, named in one line."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from penultimate import InputError, data
from penultimate.support import own, pictures


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """Writes class folders: name -> number of pictures, each of its own grey; part: a folder above them."""

    def write(part="", name="my pictures", **counts):
        for c, (cls, count) in enumerate(counts.items()):
            (tmp_path / name / part / cls).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.new("RGB", (9, 7), (10 * i, 20 * c, 40)).save(tmp_path / name / part / cls / f"{i:02d}.png")
        return tmp_path / name

    return write


def values(split):
    return sorted(split.images[:, :, 0, 0].tolist())


def test_class_folders_are_split_by_class_and_every_picture_is_in_one_split(folder):
    splits = data.load(folder(cat=20, dog=10), image_size=4)
    assert (splits.classes, splits.shape, splits.name) == (("cat", "dog"), (3, 4, 4), "my_pictures")
    counts = [torch.bincount(s.labels).tolist() for s in (splits.train, splits.validation, splits.test)]
    assert counts == [[14, 7], [2, 1], [4, 2]]  # 20 % of each class to test, 10 % of the rest to validate, at least one
    everything = sorted(values(splits.train) + values(splits.validation) + values(splits.test))
    assert everything == sorted([[10 * i, 0, 40] for i in range(20)] + [[10 * i, 20, 40] for i in range(10)])
    for split in (splits.train, splits.validation, splits.test):
        assert torch.equal(split.images[:, 1, 0, 0].long(), 20 * split.labels)
    said = own.describe(splits)
    assert said.endswith("to train: cat 14, dog 7; the largest has 2.0 times as many as the smallest: read balanced accuracy too")


@pytest.mark.parametrize("second, third", [("test", None), ("val", None), ("test", "valid")])
def test_given_splits_are_kept(folder, second, third):
    root = folder("train", a=6, b=4)
    folder(second, a=2, b=3)
    if third:
        folder(third, a=1, b=1)
    splits = data.load(root)
    assert torch.bincount(splits.test.labels).tolist() == [2, 3] and splits.shape == (3, 32, 32)
    assert torch.bincount(splits.validation.labels).tolist() == [1, 1]
    assert len(splits.train) == (10 if third else 8)


def test_pictures_of_every_mode_come_out_alike(folder, tmp_path):
    """A uniform grey of 128 (on white where it is transparent), saved in every way there is."""
    root = folder(a=3, b=3)
    grey, wide = Image.new("L", (12, 8), 128), np.full((8, 12), 128 * 257, np.uint16)
    half = Image.merge("RGBA", [Image.new("L", (12, 8), 1)] * 3 + [Image.new("L", (12, 8), 128)])
    saved = {
        "l.png": grey, "rgb.jpg": grey.convert("RGB"), "p.gif": grey.convert("P"), "cmyk.jpg": grey.convert("RGB").convert("CMYK"),
        "16.png": Image.fromarray(wide), "16.tif": Image.fromarray(wide), "f.tif": Image.fromarray(np.full((8, 12), 128 / 255, np.float32)),
        "i.tif": Image.fromarray(wide.astype(np.int32)), "la.png": grey.convert("LA"), "clear.png": half, "up.PNG": grey, "w.webp": grey,
    }  # fmt: skip
    for name, image in saved.items():
        image.save(root / "a" / f"x {name}")
    found = pictures.find(root)
    images, rows, bad = pictures.decode(found, 5)
    assert not bad and images.shape == (6 + len(saved), 3, 5, 5)
    for name, image in ((found.files[i], images[at]) for at, i in enumerate(rows) if " " in found.files[i]):
        assert np.ptp(image) <= 2 and abs(int(image.mean()) - 128) <= 2, name


def test_grey_pictures_alone_have_one_channel(folder):
    root = folder(a=3, b=3)
    for path in root.glob("*/*.png"):
        Image.new("L", (4, 4), 7).save(path)
    assert data.load(root).shape == (1, 32, 32)


def test_a_photograph_is_turned_upright_and_keeps_its_proportions(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :30] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left becomes the top
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = pictures.picture(tmp_path / "turned.png", 20)
    assert upright.shape == (20, 20, 3) and upright[0].min() > 250 and upright[-1].max() < 5
    Image.fromarray(pixels).save(tmp_path / "flat.png")
    middle = pictures.picture(tmp_path / "flat.png", 20)  # the middle square of a wide picture, not the whole squeezed
    assert middle[:, 0].min() > 250 and middle[:, -1].max() < 5
    assert np.array_equal(pictures.picture(tmp_path / "flat.png", 20)[:, 2:8], np.full((20, 6, 3), 255))


def test_broken_pictures_are_listed_and_skipped_only_when_asked(folder, cache, capsys):
    root = folder(a=6, b=6)
    whole = (root / "a" / "05.png").read_bytes()
    (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "text.jpg").write_text("not a picture")
    (root / "b" / "empty.png").write_bytes(b"")
    said = r"3 of 15 pictures of my pictures cannot be used \(a/cut.png: .*: mend them, or give --skip-bad"
    with pytest.raises(InputError, match=said) as no:
        data.load(root)
    assert "\n" not in str(no.value)
    (listed,) = cache.glob("own/*/bad.txt")
    assert [line.split(":")[0] for line in listed.read_text().splitlines()] == ["a/cut.png", "b/empty.png", "b/text.jpg"]
    splits = data.load(root, skip_bad=True)
    assert sum(len(s) for s in (splits.train, splits.validation, splits.test)) == 12 and "3 unusable ones left out" in splits.provenance
    assert "are skipped" in capsys.readouterr().err
    own.settle(str(root), data.CACHE, skip_bad=True)
    assert data.load(root).fingerprint == splits.fingerprint


def test_a_decompression_bomb_is_not_decoded(folder, monkeypatch):
    root = folder(a=3, b=3)
    Image.new("1", (200, 200)).save(root / "a" / "bomb.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 39_999)
    with pytest.raises(InputError, match="a/bomb.png: 200 x 200 pixels are more than 39,999"):
        data.load(root)


@pytest.mark.filterwarnings("error")
def test_a_bomb_beyond_pillows_limits_is_listed_without_a_warning(folder, monkeypatch):
    root = folder(a=3, b=3)
    Image.new("1", (200, 200)).save(root / "a" / "bomb.png")
    for limit in (30_000, 10_000):  # Pillow warns beyond its limit, and refuses at twice as much
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        monkeypatch.setattr(pictures, "MOST_PIXELS", 39_999)
        _, _, bad = pictures.decode(pictures.find(root), 4)
        assert list(bad) == ["a/bomb.png"]


def test_links_that_lead_out_are_not_followed(folder, tmp_path):
    root = folder(a=3, b=3)
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    (root / "a" / "out.png").symlink_to(tmp_path / "outside.png")
    (root / "a" / "in.png").symlink_to(root / "a" / "00.png")
    (root / "b" / "nothing.png").symlink_to(root / "b" / "gone.png")
    (root / "c").symlink_to(tmp_path)
    (root / "a" / "up").symlink_to(root)
    found = pictures.find(root)
    assert set(found.bad) == {"a/out.png", "b/nothing.png", "c", "a/up"} and "a/in.png" in found.files
    with pytest.raises(InputError, match="a link out of the folder: put the picture itself there"):
        data.load(root)


def test_other_files_and_hidden_ones_are_passed_over(folder, capsys):
    root = folder(a=3, b=3)
    for name in ("notes.txt", "a/Thumbs.db", "b/labels.csv", ".DS_Store", "a/._00.png"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    found = pictures.find(root)
    assert len(found.files) == 6 and found.ignored == ["a/Thumbs.db", "b/labels.csv", "notes.txt"] and not found.bad
    data.load(root)
    assert "3 entries that are no pictures are passed over (a/Thumbs.db, b/labels.csv, notes.txt" in capsys.readouterr().err


def test_names_in_any_script_and_with_spaces(tmp_path):
    for name in ("São Paulo", "東京 都", "Stra\u0308ße"):
        (tmp_path / "Städte" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / "Städte" / name / f"bild № {i}.png")
    splits = data.load(tmp_path / "Städte")
    assert splits.classes == ("Sträße", "São Paulo", "東京 都") and splits.name == "Städte" and len(splits.test) == 3


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_can_be_shown(folder):
    root = folder(a=3, b=3)
    broken = os.fsencode(root) + b"/a/\xff.png"
    with open(broken, "wb") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"a/\\udcff.png"):
        data.load(root)


@pytest.mark.parametrize("few, needed", [(1, 3), (2, 3)])
def test_a_class_with_too_few_pictures_is_named(folder, few, needed):
    with pytest.raises(InputError, match=f"class 'rare' of my pictures has {few} usable picture.* {needed} are needed .*to validate"):
        data.load(folder(common=10, rare=few))


def test_folders_that_hold_no_data_set_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="holds 1 class folder"):
        data.load(folder(name="one", only=5))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds 0 class folder.*expected a folder of pictures for each class"):
        data.load(tmp_path / "empty")
    with pytest.raises(InputError, match="unknown dataset .*none'.*or of a folder of pictures for each class"):
        data.load(tmp_path / "none")
    root = folder("train", name="two", a=4, b=4)
    folder("test", name="two", a=2)
    with pytest.raises(InputError, match=r"test/ and train/ differ in b: give both the same classes"):
        data.load(root)


def test_pictures_are_decoded_once_and_again_when_one_has_changed(folder, monkeypatch):
    root = folder(a=5, b=5)
    first = data.load(root).fingerprint
    decoded = []
    real = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *given: decoded.append(1) or real(*given))
    own._read.cache_clear()
    assert data.load(root).fingerprint == first and not decoded
    Image.new("RGB", (9, 7), (1, 2, 3)).save(root / "a" / "00.png")
    os.utime(root / "a" / "00.png", ns=(1, 1))
    assert data.load(root).fingerprint != first and decoded == [1]


def test_many_classes_are_listed_briefly(folder):
    splits = data.load(folder(**{f"c{i:03d}": 3 for i in range(100)}), image_size=4)
    assert len(splits.classes) == 100 and [len(s) for s in (splits.train, splits.validation, splits.test)] == [100, 100, 100]
    assert "c000 1, c001 1, c002 1, ... 94 more ..., c097 1" in own.describe(splits) and len(own.describe(splits)) < 300


def test_any_data_set_can_be_resized(keras_npz):
    path, _ = keras_npz(x_train=np.full((60, 5, 4, 3), 77, np.uint8))
    splits = data.load(path, image_size=8)
    assert splits.shape == (3, 8, 8) and (splits.train.images == 77).all() and "resized to 8x8" in splits.provenance
    assert data.load("digits", image_size=0).fingerprint == data.load("digits").fingerprint


@pytest.mark.parametrize("train, test", [("training_set", "test_set"), ("Train", "TEST"), ("train data", "val"), ("training", "testing")])
def test_other_names_of_the_splits_are_understood(folder, train, test):
    root = folder(train, a=6, b=4)
    folder(test, a=2, b=3)
    splits = data.load(root)
    assert splits.classes == ("a", "b") and torch.bincount(splits.test.labels).tolist() == [2, 3]


def test_splits_without_their_counterpart_are_no_classes(folder):
    root = folder("test", name="no train", a=4, b=4)
    folder("val", name="no train", a=4, b=4)
    with pytest.raises(InputError, match="no train holds test, val and nothing to go with them: expected a folder of pictures for each"):
        data.load(root)
    assert data.load(folder(name="vehicles", train=9, car=9)).classes == ("car", "train")  # a class may be called that


def test_a_split_without_class_folders_is_named(folder):
    """As competitions give it: the test pictures lie in one heap."""
    root = folder("train", a=4, b=4)
    (root / "test").mkdir()
    Image.new("RGB", (9, 7)).save(root / "test" / "1.png")
    with pytest.raises(InputError, match="test holds no class folder with pictures") as error:
        data.load(root)
    assert "\n" not in str(error.value)


def test_a_folder_of_nothing_but_bad_pictures_is_named(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    for name in "ab":
        (tmp_path / "links" / name).mkdir(parents=True)
        (tmp_path / "links" / name / "1.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(InputError, match="class 'a' of links has 0 usable picture"):
        data.load(tmp_path / "links", skip_bad=True)


def test_pictures_in_a_format_that_is_not_read_are_listed(folder):
    """A phone's folder may be of one format: a class must not vanish from the data set for that."""
    root = folder(a=5, b=5)
    (root / "c").mkdir()
    (root / "c" / "photo.HEIC").write_bytes(b"x")
    with pytest.raises(InputError, match=r"c/photo.HEIC: .HEIC is not read: save it as PNG or JPEG"):
        data.load(root)


def test_folders_that_cannot_be_read_are_named(folder, monkeypatch):
    """To an administrator every folder is readable: the system's answer to others is put in its place."""
    root, real = folder(a=5, b=5), os.scandir

    def scandir(path):
        if os.fspath(path) == os.fspath(closed):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = root / "b"
    with pytest.raises(InputError, match=r"\(b: a folder that cannot be read \(Permission denied\)"):
        data.load(root)
    closed = root
    with pytest.raises(InputError, match=r"my pictures cannot be read \(Permission denied\): make it readable"):
        data.load(root)
