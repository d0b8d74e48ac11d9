"""Class tokens, or what an encoder has in their place: those of each library itself, from the pass of the patch tokens."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_ENCODER
from torch import nn

from foundad.config.encoder import Encoder
from foundad.encoders import build_encoder, build_network
from foundad.encoders.base import FrozenEncoder
from foundad.encoders.extraction import encode
from foundad.encoders.libraries.timm import create
from foundad.errors import UserError

SIZE, DEPTH, WIDTH = 64, 3, 32
IMAGES = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
HIDDEN = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 16,
}
WIDE = HIDDEN | {"intermediate_size": 2 * WIDTH}
SMALL = {"embed_dim": WIDTH, "num_heads": 2, "depth": DEPTH}


def blocks(model: str, library: str = "timm", patch: int = 16, **keys: Any) -> Encoder:
    """A transformer of random weights, from which the second block of three is taken."""
    features = {"kind": "blocks", "patch": patch, "depth": DEPTH, "layer": 2, "norm": keys.pop("norm", False)}
    values = TINY_ENCODER | {"id": "small", "library": library, "model": model, "channels": WIDTH, "features": features}
    return Encoder.model_validate(values | {"image_size": SIZE - SIZE % patch} | keys)


def stages(model: str, channels: int) -> Encoder:
    features = {"kind": "stages", "strides": [8], "grid": 8}
    return Encoder.model_validate(
        TINY_ENCODER | {"id": "cnn", "model": model, "features": features, "channels": channels}
    )


def first_of_timm(settings: Encoder, images: torch.Tensor) -> torch.Tensor:
    return create(settings).eval().forward_features(images)[:, 0]


def head_of_timm(settings: Encoder, images: torch.Tensor) -> torch.Tensor:
    network = create(settings).eval()
    return network.forward_head(network.forward_features(images), pre_logits=True)


def pooled_by_transformers(settings: Encoder, images: torch.Tensor) -> torch.Tensor:
    import transformers

    model = getattr(transformers, settings.model)
    torch.manual_seed(0)
    network = model(model.config_class(**settings.options)).eval()
    return network(pixel_values=images).pooler_output


ENCODERS: dict[str, tuple[Encoder, Any]] = {
    "timm, class token": (blocks("vit_tiny_patch16_224", options=SMALL), first_of_timm),
    "timm, normalised layers": (blocks("vit_tiny_patch16_224", options=SMALL, norm=True), first_of_timm),
    "timm, registers": (blocks("vit_small_patch14_reg4_dinov2", patch=14, options=SMALL), first_of_timm),
    "timm, DINOv3": (blocks("vit_small_patch16_dinov3", options=SMALL), first_of_timm),
    "timm, SigLIP": (blocks("vit_base_patch16_siglip_224", options=SMALL), head_of_timm),
    "timm, EfficientNet-Lite0": (stages("tf_efficientnet_lite0", 40), head_of_timm),
    "timm, ResNet": (stages("resnet18", 128), head_of_timm),
    "transformers, CLIP": (blocks("CLIPVisionModel", "transformers", options=WIDE), pooled_by_transformers),
    "transformers, SigLIP": (blocks("SiglipVisionModel", "transformers", options=WIDE), pooled_by_transformers),
    "transformers, DINOv2": (blocks("Dinov2Model", "transformers", options=HIDDEN), pooled_by_transformers),
}
WIDTHS = {"timm, EfficientNet-Lite0": 1280, "timm, ResNet": 512}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_class_token_is_what_the_library_gives(name):
    settings, reference = ENCODERS[name]
    images = IMAGES[..., : settings.image_size, : settings.image_size]
    network = build_network(settings).eval()
    with torch.inference_mode():
        found, expected = network.named(images, ("patch", "class")), reference(settings, images)
        assert found["class"].shape == (2, WIDTHS.get(name, WIDTH))
        torch.testing.assert_close(found["class"], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        torch.testing.assert_close(found["patch"], network(images), rtol=0, atol=0)
        torch.testing.assert_close(network.named(images, ("class",))["class"], found["class"], rtol=0, atol=0)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("norm", [False, True])
def test_open_clip_projects_the_class_token_into_its_space_of_texts(layer, norm):
    features = {"kind": "blocks", "patch": 16, "depth": DEPTH, "layer": layer, "norm": norm}
    options = {"width": WIDTH, "head_width": 16, "layers": DEPTH}
    network = build_network(blocks("ViT-B-16", "open_clip", options=options, features=features)).eval()
    with torch.inference_mode():
        found = network.named(IMAGES, ("patch", "class"))
        assert found["class"].shape == (2, WIDTH)
        torch.testing.assert_close(found["class"] @ network.tower.proj, network.tower(IMAGES), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["patch"], network(IMAGES), rtol=0, atol=0)


def test_class_tokens_of_a_concatenation_stand_side_by_side():
    parts = [blocks("vit_tiny_patch16_224", options=SMALL), blocks("CLIPVisionModel", "transformers", options=WIDE)]
    parts[1] = parts[1].model_copy(update={"id": "other", "mean": (0.4, 0.5, 0.6)})
    both = Encoder.model_validate(
        {"id": "both", "title": "Both", "library": "concatenation", "licence": "none", "source": "none"}
        | {"parts": [part.model_dump() for part in parts]}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    encoders = [build_encoder(settings) for settings in (both, *parts)]
    whole, *own = (each.named(each.normalise(pixels), ("patch", "class")) for each in encoders)
    for name in ("patch", "class"):
        torch.testing.assert_close(whole[name], torch.cat([part[name] for part in own], dim=-1), rtol=1e-4, atol=1e-4)


def test_all_arrays_come_from_one_pass(monkeypatch):
    encoder = build_encoder(ENCODERS["timm, EfficientNet-Lite0"][0])
    seen = []
    encoder.network.network.conv_stem.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    found = encode(encoder, pixels, "clamp", ("patch", "class"))
    assert seen == [4, 2]  # in parts of as many images as a CPU takes
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        "patch": ((6, 64, 40), np.float16),
        "class": ((6, 1280), np.float16),
    }
    np.testing.assert_array_equal(found["patch"], encode(encoder, pixels, "clamp")["patch"])


class Colours(nn.Module):
    """A network of a library that gives patch tokens alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 8).flatten(2).transpose(1, 2)


def test_a_network_without_class_tokens_says_so():
    settings = Encoder.model_validate(TINY_ENCODER | {"id": "tiny", "channels": 3})
    encoder = FrozenEncoder(settings, Colours())
    assert encoder(IMAGES).shape == (2, 64, 3)
    call = partial(encoder.named, IMAGES, ("patch", "class"))
    with pytest.raises(UserError, match=r"tiny\.yaml: key 'library': networks of timm give patch tokens alone"):
        call()
