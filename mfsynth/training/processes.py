"""One process or many: devices, gradients of all, weights in each or a part in each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.transformer import ModalityForcingTransformer2DModel
from mfsynth.training.config import OptimiserConfig
from mfsynth.training.joint_model import JointModel

# Others wait while one renders scenes, fetches a model, or writes a large checkpoint.
_PATIENCE = timedelta(hours=6)


def join_processes() -> Accelerator:
    """Join those that `accelerate launch`, `torchrun` or Ray Train started, or be the only one."""
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        # Else that of the user's settings for accelerate, over the training's own.
        mixed_precision="no",
        kwargs_handlers=[
            # Steps without depth leave its modules without a gradient.
            DistributedDataParallelKwargs(
                find_unused_parameters=True, gradient_as_bucket_view=True
            ),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def distribute(model: JointModel, config: OptimiserConfig, accelerator: Accelerator) -> Any:
    """Wrap a model for training by all processes.

    Args:
        model: The same in every process. With sharding, each keeps its part of it, in place.
        config: Whether to shard.
        accelerator: The processes.

    Returns:
        What to call for a forward with gradients.

    Raises:
        MfsynthError: Sharding, in a process that is alone.
    """
    if config.sharding == "none":
        return accelerator.prepare_model(model) if accelerator.num_processes > 1 else model
    if accelerator.num_processes == 1:
        raise MfsynthError(
            "optimiser.sharding: fsdp needs several processes; start with accelerate launch or "
            "torchrun, or set it to none"
        )
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    bfloat16 = config.precision == "bfloat16"
    # Autocast chooses the precision of each operation, and rotary angles must stay in float32, so
    # only the blocks' weights travel in half of the size. The depth head keeps its float32.
    block_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    transformer: ModalityForcingTransformer2DModel = model.transformer
    for blocks in (
        transformer.transformer_blocks,
        transformer.single_transformer_blocks,
        transformer.depth_decoder_blocks,
    ):
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=block_policy, reshard_after_forward=True)
    # It gives up whole weights after a forward, too: between two, other values may
    # be swapped in.
    fully_shard(transformer, mesh=mesh, reshard_after_forward=True)
    return model


def gather_full(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which this process may have a part; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a whole tensor, placed and cut as a parameter is."""
    if not isinstance(parameter, DTensor):
        return tensor.to(parameter.device)
    # Every process has the whole, so nothing needs to be sent.
    return distribute_tensor(
        tensor.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        src_data_rank=None,
    )
