"""Networks that set texts beside images, tiny and with random weights, saved as publishers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from mfsynth.models.recognition.judge import ObjectJudge

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "photo", "of", "red", "blue", "cube", "ball", "."]
SIDE = 32

_TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
_SQUARE = {"height": SIDE, "width": SIDE}


def clip(folder: Path) -> Path:
    config = transformers.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=_SQUARE)
    return _saved(
        transformers.CLIPModel(config), transformers.CLIPProcessor(images, _tokenizer()), folder
    )


def siglip(folder: Path) -> Path:
    config = transformers.SiglipConfig(text_config=_TEXT, vision_config=_VISION)
    processor = transformers.SiglipProcessor(SiglipImageProcessorPil(size=_SQUARE), _tokenizer())
    return _saved(transformers.SiglipModel(config), processor, folder)


def owl(folder: Path) -> Path:
    config = transformers.Owlv2Config(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    processor = transformers.Owlv2Processor(Owlv2ImageProcessorPil(size=_SQUARE), _tokenizer())
    return _saved(transformers.Owlv2ForObjectDetection(config), processor, folder)


def grounding_dino(folder: Path) -> Path:
    swin = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=SIDE, out_features=["stage2", "stage3", "stage4"], **swin
        ),
        text_config={"model_type": "bert", **_TEXT, "max_position_embeddings": 64},
        num_queries=8,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        d_model=64,
        max_text_len=16,
        disable_custom_kernels=True,
    )
    size = {"shortest_edge": SIDE, "longest_edge": 2 * SIDE}
    images = GroundingDinoImageProcessorPil(size=size)
    processor = transformers.GroundingDinoProcessor(images, _tokenizer())
    return _saved(transformers.GroundingDinoForObjectDetection(config), processor, folder)


def judge(folder: Path) -> Path:
    torch.manual_seed(0)
    network = ObjectJudge(["red", "blue"], ["cube", "ball"], widths=(8, 8), size=SIDE)
    network.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    numbered = {word: number for number, word in enumerate(WORDS)}
    tokens = Tokenizer(models.WordLevel(numbered, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=16,
        **special,
    )


def _saved(model: Any, processor: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
