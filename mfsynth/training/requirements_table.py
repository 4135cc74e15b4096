"""The table of `mfsynth train --dry-run`."""

from __future__ import annotations

from dataclasses import fields

from mfsynth.training.requirements import Memory, Requirements

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


def requirements_table(needs: Requirements) -> str:
    """Lines for a terminal: parameters, tokens and FLOPs of a step, memory per GPU in GB."""
    config, of = needs.config, needs.parameters
    optimiser = config.optimiser
    whole = of.image + of.depth
    lines = [
        f"{config.name}, {config.size}×{config.size}, GPUs: {needs.gpus}",
        f"parameters   {_count(whole)}: {_count(of.image)} text-to-image, {_count(of.depth)} for "
        f"depth; {_count(of.trained)} trained" + (_adapters(of.adapters) if of.adapters else ""),
        f"beside them  text encoder {_count(of.text)}"
        + (f", autoencoder {_count(of.autoencoder)}" if of.autoencoder else ""),
        f"a step       {needs.samples} samples ({needs.gpus} × {optimiser.batch_size} × "
        f"{optimiser.accumulate}), {needs.samples * needs.tokens:,} tokens",
        f"compute      {_flops(needs.flops.forward)} a sample's forward, "
        f"{_flops(needs.flops.step * needs.samples)} a step with depth",
        "",
        f"{'GB per GPU':<24}{'DDP':>10}{'DDP, ckpt':>12}{'FSDP':>10}{'FSDP, ckpt':>12}",
    ]
    columns = [needs.memory(*way) for way in _WAYS]
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
    total = needs.memory(*way).total / 1e9
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
