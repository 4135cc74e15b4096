from __future__ import annotations

import functools
import shutil
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from compiling import graphs
from diffusers.hooks import HookRegistry
from torch import nn

from mfsynth.config import ModelConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import load_pipeline
from mfsynth.models.acceleration import compilation
from mfsynth.models.acceleration.accelerate import (
    Acceleration,
    accelerate,
)
from mfsynth.models.acceleration.compilation import (
    GRAPHS,
    compile_blocks,
    compiles,
    each_shape_once,
)
from mfsynth.models.acceleration.offloading import offload_groups, on_device
from mfsynth.models.acceleration.quantization import check_fp8, fp8_config, quantize_body
from mfsynth.models.acceleration.step_cache import step_cache
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

PROMPTS = ["a red cube on a table", "a blue ball"]
CPU = torch.device("cpu")


@pytest.fixture
def pipeline(tiny_model_dir):
    return load_pipeline(ModelConfig(id=str(tiny_model_dir)), "cpu")


def sample(pipeline, prompts=PROMPTS, **changes):
    settings = {"seeds": range(len(prompts)), "num_inference_steps": 4, "depth_start": 0.97}
    return pipeline(prompts, **(settings | changes))


def assert_close(one, other):
    assert np.abs(one.rgb.astype(int) - other.rgb).max() <= 1
    np.testing.assert_allclose(one.depth, other.depth, rtol=1e-3, atol=1e-4)


def test_plain_settings_change_nothing_but_the_slices_of_the_autoencoder(pipeline):
    plain = sample(pipeline)
    accelerate(pipeline, Acceleration(attention="native"), "cpu")
    decoded = []
    handle = pipeline.vae.decoder.register_forward_hook(lambda _, args, out: decoded.append(out))
    assert_close(sample(pipeline), plain)
    handle.remove()
    assert [len(images) for images in decoded] == [1, 1]
    processors = [block.attn.processor for block in pipeline.transformer.transformer_blocks]
    assert {processor._attention_backend for processor in processors} == {"native"}


def test_another_attention_backend_gives_the_same_pairs(pipeline):
    plain = sample(pipeline)
    accelerate(pipeline, Acceleration(attention="_native_math"), "cpu")
    try:
        assert_close(sample(pipeline), plain)
    finally:
        # diffusers makes it the one of all models of the process, too.
        pipeline.transformer.set_attention_backend("native")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Acceleration(offload="group"), r"^runtime\.offload: .* needs a GPU, not cpu"),
        (Acceleration(quantization="fp8"), r"^model\.quantization: fp8 needs a GPU, not cpu"),
        (Acceleration(attention="best"), r"^runtime\.attention: 'best' is none of flash, "),
        (Acceleration(attention="flash"), r"^runtime\.attention: flash does not work here .*"),
        (Acceleration(attention="_native_cudnn"), r"^runtime\.attention: .*; use native$"),
    ],
)
def test_what_a_cpu_lacks_is_one_clear_error(pipeline, settings, message):
    with pytest.raises(MfsynthError, match=message) as caught:
        accelerate(pipeline, settings, "cpu")
    assert "\n" not in str(caught.value)
    assert sample(pipeline, num_inference_steps=1).rgb.shape == (2, 32, 32, 3)


def test_8_bit_weights_are_not_offloaded_in_groups(pipeline):
    with pytest.raises(MfsynthError, match=r"cannot be offloaded in groups; set it to none"):
        accelerate(pipeline, Acceleration(offload="group", quantization="fp8"), "cuda")


@pytest.mark.parametrize(
    ("capability", "dtype", "message"),
    [
        ((8, 6), torch.bfloat16, r"capability 8\.9, this GPU has 8\.6; set it to none"),
        ((9, 0), torch.float32, r"model\.dtype bfloat16, not torch\.float32"),
    ],
)
def test_fp8_needs_a_new_gpu_and_bfloat16(monkeypatch, capability, dtype, message):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with pytest.raises(MfsynthError, match=message):
        check_fp8(torch.device("cuda"), dtype)


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (12, 0)])
def test_fp8_runs_on_gpus_that_have_it(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    check_fp8(torch.device("cuda"), torch.bfloat16)


def test_fp8_without_torchao_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MfsynthError, match=r"fp8 needs torchao; install mfsynth\[gpu\]"):
        fp8_config()


def test_compiling_without_a_compiler_is_one_clear_error(pipeline, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MfsynthError, match=r"runtime\.compile: .* no-such-compiler"):
        accelerate(pipeline, Acceleration(compile=True), "cpu")


@pytest.mark.parametrize("config", ["Float8WeightOnlyConfig", "Int8WeightOnlyConfig"])
def test_8_bit_weights_stay_near_and_leave_all_but_the_body_alone(tiny_model_dir, config):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir), dtype="bfloat16"), "cpu")
    transformer = pipeline.transformer
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    plain = sample(pipeline, output_type="latent")
    quantize_body(transformer, getattr(quantization, config)(), CPU)
    linear = {name for name, part in transformer.named_modules() if isinstance(part, nn.Linear)}
    quantized = {
        name for name in linear if type(transformer.get_submodule(name).weight) is not nn.Parameter
    }
    assert quantized == {
        name for name in linear if name.split(".")[0].endswith("transformer_blocks")
    }
    assert len(quantized) == 20
    for name, value in transformer.state_dict().items():
        if name.removesuffix(".weight") not in quantized:
            assert torch.equal(value, before[name]), name
    assert transformer.dtype is torch.bfloat16
    near = sample(pipeline, output_type="latent")
    for ours, theirs in ((near.rgb, plain.rgb), (near.depth, plain.depth)):
        error = (ours - theirs).float().norm() / theirs.float().norm()
        assert 0 < error < 0.1


def test_a_module_is_on_a_device_for_a_while_and_then_as_it_was(pipeline):
    encoder = pipeline.text_encoder
    plain = pipeline.encode_prompts(PROMPTS)
    weights = dict(encoder.named_parameters())
    addresses = {name: weight.data_ptr() for name, weight in weights.items()}
    with torch.inference_mode(), on_device(encoder, "meta"):
        tensors = [*encoder.parameters(), *encoder.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
    with pytest.raises(RuntimeError, match="stop"), on_device(encoder, "meta"):
        raise RuntimeError("stop")
    # Not copied back: the very memory that they were in.
    assert {name: p.data_ptr() for name, p in encoder.named_parameters()} == addresses
    assert all(encoder.get_parameter(name) is weight for name, weight in weights.items())
    assert torch.equal(pipeline.encode_prompts(PROMPTS), plain)
    with on_device(encoder, "cpu"):
        assert torch.equal(pipeline.encode_prompts(PROMPTS), plain)


def test_group_offloading_gives_the_same_pairs_with_and_without_a_step_cache(pipeline):
    plain = sample(pipeline)
    transformer = pipeline.transformer
    offload_groups(transformer, CPU)
    for stack in ("transformer_blocks", "single_transformer_blocks", "depth_decoder_blocks"):
        for block in getattr(transformer, stack):
            registry = HookRegistry.check_if_exists_or_initialize(block)
            assert list(registry.hooks) == ["group_offloading"]
    assert_close(sample(pipeline), plain)
    with step_cache(transformer, 0.0):
        assert_close(sample(pipeline), plain)
    with step_cache(transformer, 1e9, depth_level=0.5):
        assert np.isfinite(sample(pipeline).depth).all()
    assert_close(sample(pipeline), plain)


def test_hooks_stay_out_of_the_graphs_of_blocks(pipeline, dynamo, eager):
    plain = sample(pipeline)
    compile_blocks(pipeline.transformer)
    assert_close(sample(pipeline), plain)
    compiled = graphs()
    # Three kinds of blocks; two of them see depth tokens come.
    assert compiled == 5
    offload_groups(pipeline.transformer, CPU)
    with step_cache(pipeline.transformer, 0.0):
        assert_close(sample(pipeline), plain)
    with step_cache(pipeline.transformer, 1e9, depth_level=0.5):
        sample(pipeline)
    assert graphs() == compiled


@pytest.mark.slow
def test_a_warm_up_compiles_all_that_batches_of_its_size_need(pipeline, dynamo, monkeypatch):
    """Without depth tokens or with them, unguided or guided; no block breaks into graphs."""
    backend = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", backend)
    torch.manual_seed(0)
    # The second block of a kind is given what the first puts out.
    more = dict.fromkeys(("num_layers", "num_single_layers", "num_depth_decoder_layers"), 2)
    config = pipeline.transformer.config | more
    pipeline.register_modules(transformer=ModalityForcingTransformer2DModel.from_config(config))
    settings = {"guidance_interval": (0.3, 0.95), "num_inference_steps": 12, "log2_alpha": 2.0}
    plain = sample(pipeline, **settings)
    compile_blocks(pipeline.transformer)
    with each_shape_once(pipeline.transformer), computed(pipeline.transformer) as forwards:
        sample(pipeline, **settings)
    assert len(forwards) == 4
    assert graphs() == GRAPHS
    with computed(pipeline.transformer) as forwards:
        assert_close(sample(pipeline, **settings), plain)
        for more in ({"depth_start": 0.9}, {"guidance_scale": 1.0, "refine_steps": 1}):
            sample(pipeline, **(settings | more))
    assert len(forwards) == 37
    assert graphs() == GRAPHS
    assert not torch._dynamo.utils.counters["graph_break"]


@contextmanager
def computed(transformer):
    """Collects the forwards that get as far as the blocks."""
    found = []
    block = transformer.single_transformer_blocks[0]
    hook = block.register_forward_pre_hook(lambda *_: found.append(True))
    yield found
    hook.remove()


@pytest.mark.parametrize("offload", [False, True])
def test_after_a_warm_up_the_model_samples_as_before(pipeline, offload):
    plain = sample(pipeline)
    if offload:
        offload_groups(pipeline.transformer, CPU)
    with each_shape_once(pipeline.transformer):
        sample(pipeline)
    assert_close(sample(pipeline), plain)


def test_models_are_compiled_on_a_gpu_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(compilation, "find_spec", lambda name: name)
    assert compiles("auto", "cuda")
    assert not compiles("auto", "cpu")
    assert compiles(True, "cpu")
    assert not compiles(False, "cuda")
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    assert not compiles("auto", "cuda")
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiles("auto", "cuda")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_blocks_give_the_same_pairs(pipeline, dynamo):
    plain = sample(pipeline)
    accelerate(pipeline, Acceleration(compile=True), "cpu")
    assert_close(sample(pipeline), plain)
    assert graphs() == 5
    with step_cache(pipeline.transformer, 0.0):
        assert_close(sample(pipeline), plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(
    "settings",
    [Acceleration(), Acceleration(offload="group"), Acceleration(offload="group", compile=True)],
    ids=["plain", "offloaded", "offloaded and compiled"],
)
def test_a_gpu_gives_the_same_pairs(pipeline, settings):
    plain = sample(pipeline, output_type="latent")
    accelerate(pipeline, settings, "cuda")
    for block in pipeline.transformer.depth_decoder_blocks:
        hooks = HookRegistry.check_if_exists_or_initialize(block).hooks
        assert list(hooks) == ["group_offloading"] * (settings.offload == "group")
    for _ in range(2):
        with on_device(pipeline.text_encoder, "cuda"):
            assert pipeline.text_encoder.device.type == "cuda"
            embeds = pipeline.encode_prompts(PROMPTS)
        assert {p.device.type for p in pipeline.text_encoder.parameters()} == {"cpu"}
        kept = pipeline.encode_prompts(PROMPTS, batch_size=1)
        assert kept.device.type == "cpu"
        torch.testing.assert_close(kept, embeds.cpu(), rtol=1e-3, atol=1e-3)
        with step_cache(pipeline.transformer, 0.0):
            pairs = pipeline(
                prompt_embeds=embeds,
                **{"seeds": range(2), "num_inference_steps": 4, "depth_start": 0.97},
                output_type="latent",
            )
        torch.testing.assert_close(pairs.rgb.cpu(), plain.rgb, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(pairs.depth.cpu(), plain.depth, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_fp8_on_a_gpu_stays_near(tiny_model_dir):
    pytest.importorskip("torchao", reason="torchao is not installed")
    pipeline = load_pipeline(ModelConfig(id=str(tiny_model_dir), dtype="bfloat16"), "cpu")
    plain = sample(pipeline, output_type="latent")
    accelerate(pipeline, Acceleration(quantization="fp8"), "cuda")
    near = sample(pipeline, output_type="latent").depth.cpu()
    assert 0 < (near - plain.depth).norm() / plain.depth.norm() < 0.2
