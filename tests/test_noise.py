"""Each perturbation's moments, range, determinism and limits. Tolerances are five standard errors of the sample."""

import math

import pytest
import torch

from penultimate import InputError, noise
from penultimate.noise import NOISES, apply

LEVEL = dict(gaussian=0.1, uniform=0.1, laplace=0.1, salt_pepper=0.2, occlusion=0.25, low_resolution=2, coin_flip=0.1)
LEVEL |= dict(blur=1.0, contrast=0.5, jpeg=60)
UNTOUCHED = dict.fromkeys(LEVEL, 0) | {"low_resolution": 1}
RANDOM = ["gaussian", "uniform", "laplace", "salt_pepper", "occlusion", "coin_flip"]
# E[z^4] and E[z^8] of the standardised noise z: the kurtosis, and what its standard error needs.
MOMENTS = {"gaussian": (3, 105), "uniform": (9 / 5, 9), "laplace": (6, 2520), "coin_flip": (1, 1)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return torch.rand(16, 3, 32, 32, generator=generator(99))


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_mean_deviation_and_kurtosis(name, level):
    grey = torch.full((100, 3, 40, 40), 0.5, dtype=torch.float64)  # n = 480,000
    z, (fourth, eighth) = (NOISES[name](grey, level, generator()) - grey) / level, MOMENTS[name]
    error = 5 / math.sqrt(z.numel())
    assert abs(float(z.mean())) < error  # Var z = 1
    assert abs(float(z.square().mean()) - 1) < error * math.sqrt(fourth - 1) + 1e-12  # Var z^2 = E z^4 - 1
    assert abs(float(z.pow(4).mean()) - fourth) < error * math.sqrt(eighth - fourth**2) + 1e-12  # Var z^4 = E z^8 - (E z^4)^2


@pytest.mark.parametrize("name", MOMENTS)
def test_every_value_is_drawn_on_its_own(name):
    z = NOISES[name](torch.zeros(50, 3, 40, 40), 1.0, generator())
    for one, other in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[:, :, 1:], z[:, :, :-1]), (z[..., 1:], z[..., :-1])):
        assert abs(float((one * other).mean())) < 5 / math.sqrt(one.numel())


def test_uniform_is_bounded_by_sqrt_3_deviations():
    z = NOISES["uniform"](torch.zeros(10, 3, 40, 40), 0.1, generator())
    assert 0.999 * math.sqrt(3) * 0.1 < float(z.abs().max()) <= math.sqrt(3) * 0.1 + 1e-7
    assert z.min() < 0 < z.max()


@pytest.mark.parametrize("name", NOISES)
def test_applied_noise_stays_in_range_and_changes_pixels(images, name):
    level = 0.5 if name in MOMENTS else LEVEL[name]
    perturbed = apply(name, images, level, generator())
    assert perturbed.shape == images.shape and perturbed.dtype == images.dtype
    assert float(perturbed.min()) >= 0 and float(perturbed.max()) <= 1
    assert ((perturbed != images).flatten(1).float().mean(1) > 0.05).all()  # in every image


@pytest.mark.parametrize("name", MOMENTS)
def test_apply_is_the_clamped_function(images, name):
    unclamped = NOISES[name](images, 0.5, generator(3))
    assert unclamped.min() < 0 and unclamped.max() > 1
    assert torch.equal(apply(name, images, 0.5, generator(3)), unclamped.clamp(0, 1))


@pytest.mark.parametrize("name", NOISES)
def test_the_weakest_level_leaves_images_alone(images, name):
    torch.testing.assert_close(apply(name, images, UNTOUCHED[name], generator()), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NOISES)
def test_the_generator_decides_the_draw(images, name):
    state = torch.get_rng_state()
    once, again, other = (apply(name, images, LEVEL[name], generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert torch.equal(once, other) == (name not in RANDOM)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone


@pytest.mark.parametrize("name", NOISES)
def test_the_images_given_are_not_changed(images, name):
    before = images.clone()
    apply(name, images, LEVEL[name], generator())
    assert torch.equal(images, before)


def test_salt_and_pepper_hits_its_share_of_pixels():
    grey, level = torch.full((50, 3, 40, 40), 0.5), 0.2
    perturbed = apply("salt_pepper", grey, level, generator())
    hit = perturbed != 0.5
    pixels = hit[:, 0].numel()
    assert abs(float(hit[:, 0].float().mean()) - level) < 5 * math.sqrt(level * (1 - level) / pixels)
    assert set(perturbed.unique().tolist()) == {0.0, 0.5, 1.0}
    assert abs(float(perturbed[hit].mean()) - 0.5) < 5 * 0.5 / math.sqrt(level * pixels)  # as many of 1 as of 0
    assert (perturbed == perturbed[:, :1]).all()  # all channels together


def test_occlusion_covers_a_square_of_the_promised_side(monkeypatch):
    monkeypatch.setattr(noise, "OCCLUDING_PATCHES", 1)
    covered = apply("occlusion", torch.ones(500, 3, 24, 32), 0.25, generator()) == 0
    assert (covered == covered[:, :1]).all()
    rows, columns = covered[:, 0].any(2), covered[:, 0].any(1)
    assert (rows.sum(1) == 6).all() and (columns.sum(1) == 6).all()  # a quarter of the shorter side
    assert (covered[:, 0].sum((1, 2)) == 36).all()  # with 6 rows and 6 columns: a solid square, none of it outside
    assert rows.any(0).all() and columns.any(0).all()  # any place, up to the border


def test_four_patches_cover_between_one_and_four_squares(images):
    covered = (apply("occlusion", torch.ones(200, 3, 32, 32), 0.25, generator()) == 0)[:, 0].sum((1, 2))
    assert int(covered.min()) >= 8**2 and int(covered.max()) <= 4 * 8**2
    assert float(covered.float().mean()) > 2.5 * 8**2
    kept = apply("occlusion", images, 0.25, generator())
    assert torch.equal(kept[kept > 0], images[kept > 0])


@pytest.mark.parametrize("level, side", [(70 / 32, 70), (1.0, 32), (0.01, 0)])
def test_patches_that_do_not_fit_are_an_error(images, level, side):
    with pytest.raises(InputError, match=rf"occlusion level {level} makes patches of {side} px in a 32x32 image"):
        apply("occlusion", images, level)


def test_low_resolution_keeps_a_constant_and_loses_detail():
    constant, board = torch.full((1, 3, 9, 7), 0.3), (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).float()[None, None]
    torch.testing.assert_close(apply("low_resolution", constant, 2), constant)
    blurred = apply("low_resolution", board, 2)[..., 2:-2, 2:-2]  # a chequerboard's blocks of 2x2 all have mean 0.5
    assert float((blurred - 0.5).abs().max()) < 0.1 and blurred.shape[-1] == 28


def test_low_resolution_halves_the_grid():
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    torch.testing.assert_close(apply("low_resolution", ramp, 2)[..., 3:-3], ramp[..., 3:-3])  # a straight ramp survives bilinear
    dot = torch.zeros(1, 1, 16, 16)
    dot[..., 8, 8] = 1
    spread = apply("low_resolution", dot, 3)
    assert float(spread.max()) < 0.2 and float(spread.sum()) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("level", [0, 0.5, 100])
def test_a_factor_that_cannot_apply_is_an_error(images, level):
    with pytest.raises(InputError, match=f"low_resolution level {level} is not a factor from 1 to 32 for a 32x32 image"):
        apply("low_resolution", images, level)


def test_a_composition_applies_in_turn_with_one_generator(images):
    gen = generator(5)
    in_turn = apply("gaussian", apply("occlusion", images, 0.3, gen), 0.1, gen)
    assert torch.equal(apply("occlusion+gaussian", images, (0.3, 0.1), generator(5)), in_turn)
    assert not torch.equal(apply("gaussian+occlusion", images, (0.1, 0.3), generator(5)), in_turn)


@pytest.mark.parametrize(
    "name, level, message",
    [
        ("gauss", 0.1, "unknown noise 'gauss': choose one of gaussian, uniform, laplace, salt_pepper, occlusion, low_resolution"),
        ("gaussian+fog", (0.1, 0.1), "unknown noise 'fog'"),
        ("occlusion+gaussian", 0.1, r"noise 'occlusion\+gaussian' needs 2 levels, got 1"),
        ("gaussian", (0.1, 0.2), "noise 'gaussian' needs 1 levels, got 2"),
        ("gaussian", math.nan, r"gaussian level nan is not a number from 0 to below 2\^62"),
        ("gaussian", math.inf, "gaussian level inf"),
        ("gaussian", -0.1, "gaussian level -0.1"),
        ("salt_pepper", 1.5, "salt_pepper level 1.5 is not a share of pixels"),
        ("blur", 10.5, "blur level 10.5 is no kernel for a 32x32 image: choose from 0 to 10.3 px"),
        ("contrast", 1.01, "contrast level 1.01 is not a share of contrast: choose from 0 to 1"),
        ("jpeg", 100, "jpeg level 100 is not 100 minus a quality: choose a whole number from 0 to 99"),
        ("jpeg", 49.5, "jpeg level 49.5 is not"),
    ],
)
def test_a_bad_noise_or_level_is_named(images, name, level, message):
    with pytest.raises(InputError, match=message):
        apply(name, images, level)


@pytest.mark.parametrize("name, level", [("contrast", 0.5), ("jpeg", 50)])
@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_that_are_neither_grey_nor_in_colour_are_named(name, level, channels):
    with pytest.raises(InputError, match=f"{name} needs images of 1 or 3 channels, these have {channels}"):
        apply(name, torch.rand(2, channels, 8, 8), level)


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.full((1, 1, 4, 4), 1.01), r"images run from 1.01 to 1.01: expected finite values in \[0,1\]"),
        (torch.full((1, 1, 4, 4), -0.01), "images run from -0.01"),
        (torch.full((1, 1, 4, 4), math.nan), "images run from nan"),
        (torch.full((1, 1, 4, 4), math.inf), "images run from inf"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "images are torch.uint8"),
        (torch.zeros(4, 4), r"of shape \(4, 4\): expected floats in \[0,1\] of shape \(N,C,H,W\)"),
    ],
)
def test_bad_images_are_named(bad, message):
    with pytest.raises(InputError, match=message):
        apply("gaussian", bad, 0.1)


def test_one_bad_pixel_is_enough():
    images = torch.full((2, 1, 4, 4), 0.5)
    images[1, 0, 3, 3] = math.nan
    with pytest.raises(InputError, match="finite"):
        apply("gaussian", images, 0.1)


def eight_bits(images):
    return (images * 255).round() / 255


@pytest.mark.parametrize("level", [0.5, 1.7])
def test_blur_is_the_convolution_with_a_gaussian(level):
    image, reach = torch.rand(1, 1, 9, 11, generator=generator()), math.ceil(3 * level)
    weights = [math.exp(-(k**2) / (2 * level**2)) for k in range(-reach, reach + 1)]
    mirrored = lambda i, size: size - 1 - abs(size - 1 - abs(i))  # noqa: E731  the edge itself is not repeated
    expected = torch.zeros(9, 11)
    for row in range(9):
        for column in range(11):
            for i, down in enumerate(weights):
                for j, right in enumerate(weights):
                    at = mirrored(row + i - reach, 9), mirrored(column + j - reach, 11)
                    expected[row, column] += down * right / sum(weights) ** 2 * eight_bits(image)[0, 0][at]
    assert float((apply("blur", image, level)[0, 0] - expected).abs().max()) < 0.51 / 255 + 1e-5  # its result is rounded


def test_contrast_moves_every_pixel_to_the_mean_grey():
    image = torch.rand(1, 1, 16, 16, generator=generator())
    expected = 0.3 * eight_bits(image) + 0.7 * eight_bits(image).mean()
    assert float((apply("contrast", image, 0.7) - expected).abs().max()) < 1.01 / 255  # its result is cut to whole grey levels
    assert len(apply("contrast", image, 1.0).unique()) == 1


def test_jpeg_is_pillows_at_the_quality_that_is_left(images):
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray((images[3].permute(1, 2, 0) * 255).round().byte().numpy()).save(stream, "jpeg", quality=30)
    expected = torch.frombuffer(bytearray(Image.open(stream).tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1)
    assert torch.equal((apply("jpeg", images, 70)[3] * 255).round().byte(), expected)
    lost = [float((apply("jpeg", images, level) - images).abs().mean()) for level in (10, 50, 90)]
    assert lost == sorted(lost)


@pytest.mark.parametrize("name, level", [("blur", 0.1), ("low_resolution", 1), ("gaussian", 0), ("contrast", 0)])
def test_a_setting_that_leaves_images_untouched_is_named(images, name, level):
    with pytest.raises(InputError, match=f"{name} level {level} leaves all 16 images as they are"):
        noise.must_touch(name, eight_bits(images), level)
    noise.must_touch(name, images, LEVEL[name])


def test_occlusion_draws_up_to_four_squares():
    """Of one pixel each in a large image: hardly ever one over the other."""
    seen = NOISES["occlusion"](torch.ones(2000, 1, 32, 32), 1 / 32, torch.Generator().manual_seed(0))
    assert int((seen == 0).flatten(1).sum(1).max()) == 4


def test_low_resolution_takes_factors_up_to_the_smaller_side_alone():
    images = torch.rand(1, 1, 8, 16)
    assert NOISES["low_resolution"](images, 8.0).shape == images.shape
    for level in (0.9, 8.1):
        with pytest.raises(InputError, match="not a factor from 1 to 8"):
            NOISES["low_resolution"](images, level)
