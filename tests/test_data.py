"""Loading, splitting and augmenting: every image in one split, every unusable file named."""

import dataclasses
import hashlib
import itertools
import pickle
import urllib.error

import numpy as np
import pytest
import torch

from penultimate import InputError, data
from penultimate.support.splits import stratified


def rows(*splits):
    """The images of some splits as sorted byte strings: equal lists, equal sets of images."""
    return sorted(image.numpy().tobytes() for split in splits for image in split.images)


def test_digits_have_the_promised_shapes(digits):
    assert digits.shape == (1, 8, 8) and digits.classes == tuple("0123456789")
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1212, 135, 450]
    for split in (digits.train, digits.validation, digits.test):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.long and split.exact.all()
        assert len(split.images) == len(split.labels) == len(split.exact)
    assert (int(digits.train.images.min()), int(digits.train.images.max())) == (0, 255)


def test_every_digit_is_in_exactly_one_split(digits):
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = np.rint(scans.images * 255 / 16).astype(np.uint8)
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, scans.target, strict=True))
    splits = (digits.train, digits.validation, digits.test)
    assert sorted((i.numpy().tobytes(), int(y)) for s in splits for i, y in zip(s.images, s.labels, strict=True)) == expected
    assert len({image for image, _ in expected}) == len(expected)  # no two scans alike, so the splits are disjoint


def test_digits_are_stratified(digits):
    splits = (digits.train, digits.validation, digits.test)
    per_class = torch.stack([torch.bincount(s.labels, minlength=10) for s in splits]).double()
    expected = per_class.sum(0) * per_class.sum(1, keepdim=True) / per_class.sum()
    assert float((per_class - expected).abs().max()) <= 1.5


@pytest.mark.parametrize("seed", range(8))
def test_a_stratified_split_is_that_of_scikit_learn(seed):
    from sklearn.model_selection import train_test_split

    rng = np.random.default_rng(seed)
    for share in (0.1, 0.25, 0.5):
        labels = np.append(np.repeat(np.arange(7), 2), rng.choice(7, rng.integers(80, 400), p=rng.dirichlet(np.ones(7))))
        expected = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
        for found, wanted in zip(stratified(labels, share, seed), expected, strict=True):
            assert found.tolist() == sorted(wanted)


def test_fingerprint_is_stable_and_sees_every_pixel_and_label(digits):
    assert data.load("digits").fingerprint == digits.fingerprint and len(digits.fingerprint) == 64
    for split, field, at in (("train", "images", (5, 0, 3, 3)), ("validation", "labels", 0), ("test", "images", (449, 0, 7, 7))):
        tensor = getattr(getattr(digits, split), field).clone()
        tensor[at] += 1
        changed = dataclasses.replace(digits, **{split: dataclasses.replace(getattr(digits, split), **{field: tensor})})
        assert changed.fingerprint != digits.fingerprint


def test_a_sample_is_of_all_classes_even_where_a_file_is_sorted_by_class():
    labels = torch.arange(10).repeat_interleave(100)
    split = data.Split(labels.reshape(-1, 1, 1, 1).byte(), labels, labels >= 0)
    drawn = split.sample(200)
    assert len(drawn) == 200 and len(set(drawn.images.flatten().tolist())) == 10
    assert torch.equal(drawn.images.flatten().long(), drawn.labels) and torch.equal(drawn.labels, split.sample(200).labels)
    assert split.sample(1000) is split


def test_a_split_is_indexed_as_one(digits):
    part = digits.test[torch.tensor([3, 1])]
    assert len(part) == 2 and torch.equal(part.images[1], digits.test.images[1]) and part.labels[0] == digits.test.labels[3]


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_in_keras_layout(keras_npz, channels):
    path, arrays = keras_npz(channels)
    splits = data.load(str(path))
    assert (splits.name, splits.classes, splits.shape) == ("set", ("0", "1", "2"), (channels, 5, 4))
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [54, 6, 12]
    expected = torch.from_numpy(arrays["x_test"]).reshape(12, 5, 4, channels)
    for n, c in itertools.product(range(12), range(channels)):
        assert torch.equal(splits.test.images[n, c], expected[n, :, :, c])
    assert splits.test.labels.tolist() == arrays["y_test"].tolist()
    everything = torch.from_numpy(arrays["x_train"]).reshape(60, 5, 4, channels).permute(0, 3, 1, 2)
    assert rows(splits.train, splits.validation) == sorted(i.contiguous().numpy().tobytes() for i in everything)
    assert torch.bincount(splits.validation.labels).tolist() == [2, 2, 2]


def test_npz_labels_and_images_stay_together(keras_npz):
    labels = np.arange(60) % 3
    images = np.broadcast_to(labels[:, None, None].astype(np.uint8), (60, 5, 4))
    path, _ = keras_npz(x_train=images, x_test=np.zeros((12, 5, 4), np.uint8), y_train=labels)
    splits = data.load(path)
    for split in (splits.train, splits.validation):
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)


def test_labels_may_be_a_column(keras_npz):
    path, arrays = keras_npz(y_train=(np.arange(60) % 3)[:, None].astype(np.uint8), y_test=(np.arange(12) % 3)[:, None])
    splits = data.load(path)
    assert splits.test.labels.tolist() == arrays["y_test"][:, 0].tolist() and splits.train.labels.shape == (54,)


def test_masks_tell_rebuilt_images(keras_npz):
    exact = np.arange(60) % 10 > 0
    path, arrays = keras_npz(exact_train=exact)
    splits = data.load(path)
    rebuilt = {image.tobytes() for image, original in zip(np.moveaxis(arrays["x_train"], 3, 1), exact, strict=True) if not original}
    for split in (splits.train, splits.validation):
        assert [image.numpy().tobytes() in rebuilt for image in split.images] == (~split.exact).tolist()
    assert splits.test.exact.all() and "54 of 60 train images, 12 of 12 test images" in splits.provenance


def test_unknown_dataset_names_the_known():
    with pytest.raises(InputError, match="unknown dataset 'mnist': choose one of digits, cifar10, svhn, or the path of an .npz file"):
        data.load("mnist")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}/none.npz does not exist: expected an .npz file with x_train and x_test uint8"):
        data.load(tmp_path / "none.npz")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_named(keras_npz, kept):
    path, _ = keras_npz()
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(InputError, match=f"{path} is damaged or not an .npz file"):
        data.load(path)


def test_a_text_file_is_not_an_npz(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("not a zip archive")
    with pytest.raises(InputError, match=f"{path} is damaged or not an .npz file"):
        data.load(path)


def test_an_npz_with_pickled_objects_is_refused(keras_npz):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    trap = np.empty(60, dtype=object)
    trap[0] = Trap()
    path, _ = keras_npz(y_train=trap)
    with pytest.raises(InputError, match=f"{path} is damaged.*allow_pickle=False"):
        data.load(path)


@pytest.mark.parametrize(
    "replaced, message",
    [
        (dict(y_test=None), "has no 'y_test': expected x_train and x_test uint8"),
        (dict(x_train=None), "has no 'x_train'"),
        (dict(x_train=np.zeros((60, 5, 4, 3), np.float32)), r"x_train is float32 \(60, 5, 4, 3\).*expected x_train and x_test uint8"),
        (dict(x_test=np.zeros((12, 60), np.uint8)), r"x_test is uint8 \(12, 60\)"),
        (dict(y_train=np.zeros(60)), "y_train is float64; expected .*integers"),
        (dict(y_train=np.zeros(59, int)), "60 images in x_train but 59 labels in y_train"),
        (dict(y_train=np.arange(60) % 3 - 1), "train labels run from -1 to 1, expected 0 to 1"),
        (dict(y_test=np.arange(12)), "test labels run from 0 to 11, expected 0 to 2"),
        (
            dict(y_train=np.array([0] * 59 + [1]), y_test=np.zeros(12, int)),
            "60 training images of 2 classes, 1 in the smallest, leave none for validation",
        ),
        (dict(x_test=np.zeros((12, 4, 4, 3), np.uint8)), r"train images are \(3, 5, 4\), test images \(3, 4, 4\)"),
        (dict(x_train=np.zeros((0, 5, 4, 3), np.uint8), y_train=np.zeros(0, int)), "x_train has no images"),
        (dict(x_train=np.zeros((20, 5, 4, 3), np.uint8), y_train=np.arange(20) % 3), "give at least 2 for each class and 30 in all"),
        (dict(exact_train=np.ones(59, bool)), r"exact_train is bool \(59,\); expected bool \(60,\)"),
        (dict(exact_test=np.ones(12, int)), r"exact_test is int64 \(12,\); expected bool \(12,\)"),
        (dict(x_test=np.zeros((0, 5, 4, 3), np.uint8), y_test=np.zeros(0, int)), "x_test has no images"),
    ],
)
def test_a_file_of_the_wrong_layout_is_named(keras_npz, replaced, message):
    path, _ = keras_npz(**replaced)
    with pytest.raises(InputError, match=message) as error:
        data.load(path)
    assert path.stem in str(error.value) and "\n" not in str(error.value)


def test_a_bare_array_is_not_taken_for_an_archive(tmp_path):
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="bare.npz is damaged or not an .npz file"):
        data.load(str(tmp_path / "bare.npz"))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar10_in_the_format_of_its_archive(tmp_path, monkeypatch):
    """A small archive cannot have the official checksums, so these are replaced; torchvision's own reader does the rest."""
    folder, rng, files = tmp_path / "cifar-10-batches-py", np.random.default_rng(0), {}
    folder.mkdir()
    for name, n in (("data_batch_1", 100), ("test_batch", 20)):
        content = {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(n)]}
        (folder / name).write_bytes(pickle.dumps(content))
        files[name] = content
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(data.CIFAR10_CLASSES)}))
    reader = data.vision.imported("torchvision.datasets").CIFAR10
    monkeypatch.setattr(reader, "train_list", [["data_batch_1", md5(folder / "data_batch_1")]])
    monkeypatch.setattr(reader, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setattr(reader, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")})
    splits = data.load("cifar10", tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test), splits.shape) == (90, 10, 20, (3, 32, 32))
    assert torch.equal(splits.test.images, torch.from_numpy(files["test_batch"]["data"]).reshape(20, 3, 32, 32))
    assert splits.test.labels.tolist() == files["test_batch"]["labels"] and splits.classes[9] == "truck"


def test_cifar10_prefers_an_npz_in_the_data_folder(keras_npz):
    path, _ = keras_npz(name="cifar10.npz", train=200, classes=10)
    splits = data.load("cifar10", path.parent)
    assert (splits.name, splits.classes, len(splits.train)) == ("cifar10", data.CIFAR10_CLASSES, 180)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), OSError("disk"), RuntimeError("corrupted")])
def test_cifar10_without_a_network_says_where_to_put_the_file(tmp_path, monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(data.vision.imported("torchvision.datasets").CIFAR10, "download", fail)
    with pytest.raises(InputError, match=f"CIFAR10 is not in {tmp_path} and could not be downloaded.*put cifar10.npz there") as found:
        data.load("cifar10", tmp_path)
    assert "\n" not in str(found.value)


def test_cifar10_images():
    if not (data.CACHE / "cifar10.npz").exists():
        pytest.skip("no cifar10.npz in the data folder")
    splits = data.load("cifar10")
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [45_000, 5_000, 10_000] and splits.shape == (3, 32, 32)
    for split, each in ((splits.train, 4_500), (splits.validation, 500), (splits.test, 1_000)):
        assert torch.bincount(split.labels).tolist() == [each] * 10
    mean, std = data.channel_statistics(torch.cat([splits.train.images, splits.validation.images]))
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-4)  # the paper's, to three digits
    assert std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-3)
    assert int(splits.test.exact.sum()) == 9_827 and int(splits.train.exact.sum() + splits.validation.exact.sum()) == 49_152


def test_svhn_in_its_own_format(tmp_path, monkeypatch):
    from scipy.io import savemat

    reader, rng, images = data.vision.imported("torchvision.datasets").SVHN, np.random.default_rng(0), {}
    official = {}
    for part, n in (("train", 100), ("test", 20)):
        images[part] = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": images[part], "y": (np.arange(n) % 10 + 1)[:, None].astype(np.uint8)})  # labels 1 ... 10
        official[part] = ("", path.name, md5(path))
    monkeypatch.setattr(reader, "split_list", official)
    splits = data.load("svhn", tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test), splits.shape) == (90, 10, 20, (3, 32, 32))
    assert splits.test.labels.tolist() == [(i + 1) % 10 for i in range(20)]  # label 10 is the digit 0
    for n, c in itertools.product(range(20), range(3)):
        assert np.array_equal(splits.test.images[n, c].numpy(), images["test"][:, :, c, n])


def test_svhn_without_a_network_says_so(tmp_path, monkeypatch):
    def fail(self):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(data.vision.imported("torchvision.datasets").SVHN, "download", fail)
    mend = "or put its train_32x32.mat and test_32x32.mat there"
    with pytest.raises(InputError, match=f"SVHN is not in {tmp_path} and could not be downloaded.*no route to host.*{mend}"):
        data.load("svhn", tmp_path)


def test_augment_without_pad_or_flip_is_the_identity(digits):
    assert torch.equal(data.augment(digits.test.images, 0, False), digits.test.images)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_images_lie_in_memory_as_new_ones_do(channels):
    """Greyscale too: with other strides, PyTorch takes them for channels-last, and narrow networks crashed in backward."""
    images = torch.zeros(5, channels, 8, 6, dtype=torch.uint8)
    assert data.augment(images, 2, True).stride() == images.stride()


@pytest.mark.parametrize("pad, flip", [(2, True), (1, False), (0, True)])
def test_every_augmented_image_is_a_shift_or_a_mirrored_shift(pad, flip):
    gen = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (600, 3, 5, 6), dtype=torch.uint8, generator=gen)
    moved = data.augment(images, pad, flip, gen)
    assert moved.shape == images.shape and moved.dtype == images.dtype
    met = set()
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        for mirrored, down, right in itertools.product((False, True), range(2 * pad + 1), range(2 * pad + 1)):
            padded = np.pad(before[:, :, ::-1] if mirrored else before, ((0, 0), (pad, pad), (pad, pad)))
            if np.array_equal(padded[:, down : down + 5, right : right + 6], after):
                met.add((mirrored, down, right))
                break
        else:
            pytest.fail("no shift or mirrored shift of the image")
    assert len(met) == (2 * pad + 1) ** 2 * (1 + flip)  # and each of them occurs


def plain_augment(images, pad, flip, generator):
    """Image by image, by slices; the numbers drawn for all images at once: down, mirrored, right."""
    draw = lambda high: torch.randint(0, high, (len(images), 1), generator=generator).flatten().tolist()  # noqa: E731
    down = draw(2 * pad + 1)
    mirrored = draw(2) if flip else [0] * len(images)
    right = draw(2 * pad + 1)
    moved = []
    for image, y, back, x in zip(images, down, mirrored, right, strict=True):
        channels, height, width = image.shape
        ground = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=image.dtype)
        ground[:, pad : pad + height, pad : pad + width] = image
        crop = ground[:, y : y + height, x : x + width]
        moved.append(crop.flip(2) if back else crop)
    return torch.stack(moved)


@pytest.mark.parametrize("pad, flip", [(4, True), (2, False), (0, True)])
@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (7, 1, 5, 6), (1, 2, 1, 8)])
def test_the_gather_of_a_batch_is_the_loop_over_its_images_and_its_draws(shape, pad, flip):
    for images in (torch.randint(0, 256, shape, dtype=torch.uint8), torch.rand(shape, dtype=torch.float64)):
        gens = [torch.Generator().manual_seed(5) for _ in range(2)]
        found, expected = data.augment(images, pad, flip, gens[0]), plain_augment(images, pad, flip, gens[1])
        assert torch.equal(found, expected) and found.dtype == images.dtype and found.is_contiguous()
        assert torch.equal(*(torch.rand(1, generator=gen) for gen in gens))  # and both have drawn as often


def test_augment_mirrors_half_of_the_images():
    images = torch.rand(2000, 1, 1, 8)
    mirrored = (data.augment(images, 0, True, torch.Generator().manual_seed(0)) != images).any(3).float().mean()
    assert abs(float(mirrored) - 0.5) < 5 * 0.5 / 2000**0.5  # five standard errors


def test_augment_is_decided_by_its_generator():
    images = torch.rand(50, 3, 8, 8)
    once, again, other = (data.augment(images, 2, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_channel_statistics_equal_torch():
    images = torch.randint(0, 256, (20, 3, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] //= 4
    mean, std = data.channel_statistics(images)
    values = images.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, values.mean(1).float())
    torch.testing.assert_close(std, values.std(1, correction=0).float())


def test_to_unit_divides_by_255():
    every = torch.arange(256, dtype=torch.uint8)
    assert data.to_unit(every).dtype == torch.float32
    assert data.to_unit(every).tolist() == pytest.approx([v / 255 for v in range(256)])


def test_a_smaller_picture_is_averaged_not_picked(tmp_path, keras_npz):
    """Stripes of one pixel, at a quarter of the side: grey with antialiasing, black or white or half of either without."""
    stripes = np.zeros((60, 16, 16), np.uint8)
    stripes[:, :, ::4] = 255  # one column of four
    path, _ = keras_npz(x_train=stripes, x_test=stripes[:12])
    small = data.load(str(path), image_size=4).train.images
    assert small.shape[1:] == (1, 4, 4) and small[..., 1:3].float().sub(255 / 4).abs().max() < 8
