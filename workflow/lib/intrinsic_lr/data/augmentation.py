"""Random changes of images, drawn separately for every replicate: crops, flips, and functions of the user's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode

_TEXT = re.compile(r"flip|crop=([1-9][0-9]?)(,flip)?")


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image each time it is seen."""

    crop: int = 0  # pixels of zeros on each side, before a crop of the original size is taken
    flip: bool = False  # whether the image is mirrored left to right with probability 1/2

    @classmethod
    def from_string(cls, text: str) -> "Augmentation | None":
        """Return `flip`, `crop=N` or `crop=N,flip` as an augmentation, and None for `none`."""
        if text == "none":
            return None
        if not (match := _TEXT.fullmatch(text)):
            allowed = "none, flip, crop=N or crop=N,flip, N from 1 to 99"
            raise InputError(f"augmentation: must be {allowed}, got {text!r}")
        return cls(crop=int(match[1] or 0), flip=text.endswith("flip"))

    def draws(self, seeds: Sequence[int], count: int) -> torch.Tensor:
        """Draw how `count` images of each replicate are to be changed, each replicate by its own seed alone.

        Returns int16 (R, count, 3) on the CPU: top and left edge of the crop in the padded image, each uniform on
        0..2*crop, and 1 where the image is flipped.
        """
        result = torch.zeros(len(seeds), count, 3, dtype=torch.int16)
        for row, seed in zip(result, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            row[:, :2] = torch.randint(2 * self.crop + 1, (count, 2), generator=generator)
            if self.flip:
                row[:, 2] = torch.randint(2, (count,), generator=generator)
        return result

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Pad with zeros, crop, then flip, as torchvision's `RandomCrop(padding)` and flip do.

        The images, before and after, are uint8 (R, B, C, H, W); `draws`, on any device, are (R, B, 3).
        """
        R, B, C, H, W = images.shape
        top, left, flipped = draws.to(images.device, torch.int64, non_blocking=True).unbind(-1)
        of_replicate, of_image, of_channel, row, column = (
            torch.arange(size, device=images.device) for size in images.shape
        )
        columns = torch.where(flipped[..., None].bool(), column.flip(0), column) + left[..., None]
        return F.pad(images, (self.crop,) * 4)[
            of_replicate.view(R, 1, 1, 1, 1),
            of_image.view(1, B, 1, 1, 1),
            of_channel.view(1, 1, C, 1, 1),
            (top[..., None] + row).view(R, B, 1, H, 1),
            columns.view(R, B, 1, 1, W),
        ]


@dataclass(frozen=True)
class OwnAugmentation:
    """A function of the user's, `augment(images, generator)`, for the images of one replicate in a batch."""

    code: UserCode

    def draws(self, seeds: Sequence[int], count: int) -> torch.Tensor:
        """Draw a seed for each image of each replicate, int64 (R, count, 1); a batch takes that of its first."""
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack([torch.randint(2**62, (count, 1), generator=stream) for stream in streams])

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return uint8 images (R, B, C, H, W) changed by `draws` (R, B, 1), replicate by replicate.

        Raises:
            InputError: where the function fails, or returns images of another shape or type.
        """
        augment = self.code.function("augment")
        changed = []
        for own, seed in zip(images, draws[:, 0, 0].tolist(), strict=True):
            found = augment(own.clone(), torch.Generator().manual_seed(seed))
            if not isinstance(found, torch.Tensor) or (found.shape, found.dtype) != (own.shape, own.dtype):
                raise InputError(
                    f"{self.code.file}: augment: expected uint8 images of shape {tuple(own.shape)}, got "
                    + (f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else repr(found))
                )
            changed.append(found)
        return torch.stack(changed)

    def try_out(self, images: torch.Tensor) -> None:
        """Refuse a function that fails, or that gives other images (B, C, H, W) for the same generator."""
        draws = self.draws([0], len(images))
        if not torch.equal(self.apply(images[None], draws), self.apply(images[None], draws)):
            raise InputError(
                f"{self.code.file}: augment: expected the same images for the same generator, got others; draw "
                "all random numbers from the generator that it is given"
            )
