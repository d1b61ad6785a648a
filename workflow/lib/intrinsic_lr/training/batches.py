"""Mini-batches: which images each member sees at which step, and how they are changed."""

import torch
from torch import Tensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.augmentation import Augmentation, OwnAugmentation
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.devices import to_device
from intrinsic_lr.study.plan import TrainingPlan


class Batches:
    """Supplies the mini-batches of each step: shuffles without replacement, the last incomplete batch dropped.

    Args:
        plan: names the random streams.
        data: the data set on its device.
    """

    def __init__(self, plan: TrainingPlan, data: Dataset) -> None:
        self._plan = plan
        self._data = data
        self._augmentation = _augmentation(plan, data)
        count = len(data.train_labels)
        self.full = plan.batch_size == "full"
        self.size = count if self.full else int(plan.batch_size)
        if self.size > count:
            raise InputError(f"batch_size: must be full, or 1 to {count} training images, got {self.size}")
        self.steps_per_epoch = plan.steps_per_epoch(count)
        # Without augmentation the images are normalised once; a row of (N, C*H*W) is gathered per image.
        self._images = None if self._augmentation else data.normalize(data.train_images)
        self._epoch = -1
        self._order = torch.empty(0)
        self._draws: Tensor | None = None

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (R, B, C, H, W) and labels (R, B) of a step; (N, C, H, W), (N,) where all share them."""
        if self.full and self._images is not None:
            return self._images, self._data.train_labels
        epoch, position = divmod(step, self.steps_per_epoch)
        self._shuffle(epoch)
        chosen = slice(position * self.size, (position + 1) * self.size)
        shape = (len(self._order), self.size)
        index = self._order[:, chosen].flatten()
        labels = self._data.train_labels.index_select(0, index).view(shape)
        if self._images is not None:
            return self._images.index_select(0, index).unflatten(0, shape), labels
        images = self._data.train_images.index_select(0, index).unflatten(0, shape)
        return self._data.normalize(self._augmentation.apply(images, self._draws[:, chosen])), labels

    def several(self, step: int, most: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return what the steps from one on see, those of its epoch and at most so many; None where images change.

        Images (N, C, H, W) and labels (N,) of the data set, and which of them each member sees, (R, steps, B).
        """
        if self.full or self._images is None:
            return None
        epoch, position = divmod(step, self.steps_per_epoch)
        self._shuffle(epoch)
        end = min(self.steps_per_epoch, position + most)
        order = self._order[:, position * self.size : end * self.size].unflatten(1, (-1, self.size))
        return self._images, self._data.train_labels, order

    def _shuffle(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        count, seeds, device = len(self._data.train_labels), self._plan.epoch_seeds, self._data.train_labels.device
        if self.full:
            order = torch.arange(count).expand(len(self._plan.members), -1).contiguous()
        else:
            streams = [torch.Generator().manual_seed(seed) for seed in seeds("order", epoch)]
            order = torch.stack([torch.randperm(count, generator=stream) for stream in streams])
        self._order = to_device(order, device)
        if self._augmentation:
            self._draws = to_device(self._augmentation.draws(seeds("augmentation", epoch), count), device)
        self._epoch = epoch


def _augmentation(plan: TrainingPlan, data: Dataset) -> Augmentation | OwnAugmentation | None:
    if plan.augmentation_code is None:
        return Augmentation.from_string(plan.augmentation)
    own = OwnAugmentation(plan.augmentation_code)
    own.try_out(data.train_images[:4])
    return own
