"""Batch norm over the batch of all workers, on any device.

Statistics of a worker's share alone would make the number of workers a hyperparameter.
`nn.SyncBatchNorm` refuses CPU tensors, and on a GPU its forward pass waits for the device in every
layer; here one all-gather of (count, mean, squared deviations) a layer, combined by Chan, Golub and
LeVeque's rule, and one all-reduce in the backward pass, without a wait.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.errors import SpecError


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics cover the rows of every worker.

    State-dict keys are the same. Workers may hold different numbers of rows, or none. Gradients
    of weight and bias cover the worker's own rows: they are to be summed over workers.
    """

    def __init__(self, like: nn.BatchNorm2d, group: dist.ProcessGroup | None) -> None:
        """Take over another layer's settings, parameters and running statistics.

        Args:
            like: a layer with weights and running statistics.
            group: the workers; None for all of them.
        """
        super().__init__(like.num_features, like.eps, like.momentum)
        self.group = group
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.train(like.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and dtype."""
        if not self.training:
            return super().forward(input)
        output, mean_C, variance_C, count = _Normalize.apply(
            input, self.weight, self.bias, self.eps, self.group
        )
        unbiased_C = variance_C * (count / (count - 1).clamp(min=1))
        self._follow(self.running_mean, mean_C)
        self._follow(self.running_var, unbiased_C)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return output  # type: ignore[no-any-return]

    @torch.no_grad()
    def _follow(self, running_C: Tensor | None, batch_C: Tensor) -> None:
        if running_C is not None and self.momentum is not None:
            running_C.lerp_(batch_C.to(running_C.dtype), self.momentum)


def convert_global_batch_norm(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Make every batch norm of a module cover all workers, in place; no-op for one worker.

    State-dict keys stay as they are.

    Args:
        module: the network.
        group: the workers; default all of them.

    Raises:
        SpecError: the network has a batch norm other than `nn.BatchNorm2d`, or one without weights
            or momentum.
    """
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return
    kinds = (nn.BatchNorm2d, GlobalBatchNorm2d)
    for child in module.modules():
        if not isinstance(child, nn.modules.batchnorm._BatchNorm):
            continue
        if type(child) not in kinds or not child.affine or child.momentum is None:
            raise SpecError(
                f"model.backbone: {type(child).__name__} is no plain nn.BatchNorm2d, with weights "
                "and a momentum, and cannot cover several workers; set cluster.workers to 1"
            )
    for name, child in list(module.named_modules()):
        if type(child) is nn.BatchNorm2d:
            module.set_submodule(name, GlobalBatchNorm2d(child, group))


class _Normalize(torch.autograd.Function):
    """Normalise by global statistics; the gradient flows through them to every worker's rows."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = images.to(torch.promote_types(images.dtype, torch.float32))
        mean_C, variance_C, count = _statistics(wide, group)
        invstd_C = torch.rsqrt(variance_C + eps)
        normal = (wide - _row(mean_C)) * _row(invstd_C)
        ctx.save_for_backward(normal, weight_C, invstd_C, count)
        ctx.group = group
        output = normal * _row(weight_C) + _row(bias_C)
        ctx.mark_non_differentiable(mean_C, variance_C, count)
        return output.to(images.dtype), mean_C, variance_C, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normal, weight_C, invstd_C, count = ctx.saved_tensors
        wide = gradient.to(normal.dtype)
        own_2C = torch.stack([wide.sum((0, 2, 3)), (wide * normal).sum((0, 2, 3))])
        all_2C = own_2C.clone()
        dist.all_reduce(all_2C, group=ctx.group)
        mean_2C = all_2C / count
        inner = wide - _row(mean_2C[0]) - normal * _row(mean_2C[1])
        images = inner * _row(weight_C * invstd_C)
        return images.to(gradient.dtype), own_2C[1], own_2C[0], None, None


def _statistics(images: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and (biased) variance of each channel, and the number of values, over all workers."""
    channels = images.shape[1]
    own_count = images.numel() // channels
    mean_C = images.sum((0, 2, 3)) / max(own_count, 1)
    squares_C = (images - _row(mean_C)).square().sum((0, 2, 3))
    own = torch.cat([mean_C, squares_C, mean_C.new_full((1,), float(own_count))])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    gathered = torch.stack(parts)
    means_WC, squares_WC = gathered[:, :channels], gathered[:, channels:-1]
    counts_W1 = gathered[:, -1:]
    count = counts_W1.sum()
    mean_C = (means_WC * counts_W1).sum(0) / count
    between_C = ((means_WC - mean_C).square() * counts_W1).sum(0)
    return mean_C, (squares_WC.sum(0) + between_C) / count, count


def _row(values_C: Tensor) -> Tensor:
    return values_C[None, :, None, None]
