"""The table of `mfsynth train --dry-run`."""

from __future__ import annotations

from dataclasses import fields

from mfsynth.training.requirements import Estimate, Memory

_ROWS = {
    "weights": "trained weights",
    "frozen": "frozen weights",
    "gradients": "gradients",
    "optimiser": "optimiser",
    "average": "moving average",
    "base": "distillation base",
    "activations": "activations",
}
_WAYS = (("none", False), ("none", True), ("fsdp", False), ("fsdp", True))


def table(found: Estimate) -> str:
    """Lines for a terminal: parameters, tokens and FLOPs of a step, memory per GPU in GB."""
    config, of = found.config, found.parameters
    optimiser = config.optimiser
    whole = of.image + of.depth
    lines = [
        f"{config.name}, {config.size}×{config.size}, GPUs: {found.gpus}",
        f"parameters   {_count(whole)}: {_count(of.image)} text-to-image, {_count(of.depth)} for "
        f"depth; {_count(of.trained)} trained" + (_adapters(of.adapters) if of.adapters else ""),
        f"beside them  text encoder {_count(of.text)}"
        + (f", autoencoder {_count(of.autoencoder)}" if of.autoencoder else ""),
        f"a step       {found.samples} samples ({found.gpus} × {optimiser.batch_size} × "
        f"{optimiser.accumulate}), {found.samples * found.tokens:,} tokens",
        f"compute      {_flops(found.flops.forward)} a sample's forward, "
        f"{_flops(found.flops.step * found.samples)} a step with depth",
        "",
        f"{'GB per GPU':<24}{'DDP':>10}{'DDP, ckpt':>12}{'FSDP':>10}{'FSDP, ckpt':>12}",
    ]
    columns = [found.memory(*way) for way in _WAYS]
    rows = [(_ROWS[part.name], [getattr(c, part.name) for c in columns]) for part in fields(Memory)]
    rows.append(("total", [column.total for column in columns]))
    lines += [
        f"{name:<24}"
        + "".join(
            f"{value / 1e9:>{width}.2f}"
            for value, width in zip(values, (10, 12, 10, 12), strict=True)
        )
        for name, values in rows
    ]
    way = (optimiser.sharding, optimiser.gradient_checkpointing)
    total = found.memory(*way).total / 1e9
    lines.append(
        f"as configured (sharding {way[0]}, checkpointing {'on' if way[1] else 'off'}): "
        f"{total:.2f} GB per GPU; leave a tenth free for workspaces"
    )
    return "\n".join(lines)


def _adapters(count: int) -> str:
    return f", {_count(count)} of them adapters"


def _count(number: float) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e8 else f"{number / 1e6:.2f} M"


def _flops(number: float) -> str:
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e9:.1f} GFLOP"
