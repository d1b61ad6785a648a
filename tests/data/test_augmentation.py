import pytest
import torch
from torchvision.transforms import functional as reference

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.augmentation import Augmentation


def test_texts_of_augmentations():
    texts = {"crop=4,flip": (4, True), "crop=12": (12, False), "flip": (0, True)}
    assert all(Augmentation.from_string(text) == Augmentation(*values) for text, values in texts.items())
    assert Augmentation.from_string("none") is None


@pytest.mark.parametrize("text", ["", "crop", "crop=0", "crop=-1", "crop=100", "flip,crop=4", "crop=4, flip"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match=r"augmentation: .*crop=N"):
        Augmentation.from_string(text)


@pytest.mark.parametrize("text", ["crop=4,flip", "crop=2", "flip"])
@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 5, 7)])
def test_apply_is_pad_crop_flip_of_each_image(text, shape):
    augmentation = Augmentation.from_string(text)
    images = torch.randint(1, 256, (3, 20, *shape), dtype=torch.uint8)
    draws = augmentation.draws([5, 6, 7], 20)
    found = augmentation.apply(images, draws)
    for r in range(3):
        for b in range(20):
            top, left, flipped = draws[r, b].tolist()
            image = reference.pad(images[r, b], [augmentation.crop])
            image = reference.crop(image, top, left, *shape[1:])
            image = reference.hflip(image) if flipped else image
            assert torch.equal(found[r, b], image)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()


def test_draws_cover_their_range_evenly():
    assert not Augmentation(4, False).draws([0, 1], 100)[..., 2].any()
    draws = Augmentation(2, True).draws([0], 20_000)[0]
    for column, values in ((0, 5), (1, 5), (2, 2)):
        counts = torch.bincount(draws[:, column].int(), minlength=values).double()
        assert len(counts) == values
        # Pearson's statistic has mean values - 1 and variance 2 (values - 1).
        assert ((counts - 20_000 / values) ** 2 / (20_000 / values)).sum() < values - 1 + 5 * (2 * values) ** 0.5
    assert abs(torch.corrcoef(draws.double().T) - torch.eye(3)).max() < 5 / 20_000**0.5


def test_a_replicate_is_drawn_alike_in_any_block():
    augmentation = Augmentation(4, True)
    alone = augmentation.draws([11], 50)
    before = torch.random.get_rng_state()
    block = augmentation.draws([3, 11, 7], 50)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(block[1], alone[0])
    assert not torch.equal(block[0], block[1])
