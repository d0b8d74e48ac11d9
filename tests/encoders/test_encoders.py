"""Encoders: really pretrained weights, the shapes their configs state, and clear words when something is missing."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import skimage.data
import timm
import torch
from conftest import ROOT, TINY_ENCODER
from PIL import Image
from torch import nn

from foundad.config.encoder import Blocks, Encoder, HubWeights, Layer, Stages
from foundad.data.images import resize_square
from foundad.data.patches import turned_back
from foundad.data.views import seen_as
from foundad.encoders import build_encoder, build_network
from foundad.encoders.base import FrozenEncoder
from foundad.encoders.extraction import encode
from foundad.encoders.folding import fold_batch_norms
from foundad.encoders.libraries.timm import create, pool_stages
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue

ENCODERS = load_catalogue(ROOT / "config").encoders
CHELSEA, COFFEE = {281, 282, 285}, {967}  # ImageNet: tabby, tiger cat, Egyptian cat; espresso


def without_download(settings: Encoder) -> Encoder:
    """The same network with random weights, where its own would have to be downloaded."""
    hub = isinstance(settings.weights, HubWeights)
    parts = [without_download(part) for part in settings.parts]
    return settings.model_copy(update={"parts": parts} | ({"weights": "random"} if hub else {}))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder_gives_what_its_config_says(name):
    settings = without_download(ENCODERS[name])
    size = settings.image_size
    if isinstance(settings.features, Blocks):
        # Shapes alone: on the meta device the largest network costs nothing.
        with torch.device("meta"):
            tokens = FrozenEncoder(settings, build_network(settings)).to("meta")(torch.empty(2, 3, size, size))
        assert tokens.shape == (2, settings.grid**2, settings.channels)
        return
    encoder = build_encoder(settings)
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    tokens = encoder(encoder.normalise(images))
    assert tokens.shape == (1, settings.grid**2, settings.channels)
    assert tokens.dtype == torch.float32
    assert torch.isfinite(tokens).all()
    assert torch.equal(tokens, encoder(encoder.normalise(images)))
    assert not encoder.train().training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder_says_where_its_weights_are_from(name):
    settings = ENCODERS[name]
    assert settings.licence
    assert settings.source
    for part in settings.parts or [settings]:
        assert part.weights != "random"


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
@pytest.mark.parametrize(("photograph", "classes"), [("chelsea", CHELSEA), ("coffee", COFFEE)])
def test_the_weights_classify_photographs(name, photograph, classes):
    settings = ENCODERS[name]
    pixels = resize_square(Image.fromarray(getattr(skimage.data, photograph)()), 224, "bicubic")
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    image = (image - torch.tensor(settings.mean).view(3, 1, 1)) / torch.tensor(settings.std).view(3, 1, 1)
    with torch.inference_mode():
        assert create(settings).eval()(image).argmax().item() in classes


def test_transformer_blocks_are_counted_from_the_end():
    values = TINY_ENCODER | {"model": "vit_tiny_patch16_224", "channels": 192, "image_size": 64}
    features = {"kind": "blocks", "patch": 16, "depth": 12, "layer": 3, "norm": False}
    encoder = build_encoder(Encoder.model_validate(values | {"id": "vit", "features": features}))
    images = torch.randn(2, 3, 64, 64)
    seen = []
    hook = encoder.network.network.blocks[9].register_forward_hook(lambda _, __, output: seen.append(output))
    tokens = encoder(images)
    hook.remove()
    assert tokens.shape == (2, 16, 192)
    torch.testing.assert_close(tokens, seen[0][:, 1:])


def test_threads_that_share_a_network_of_transformers_get_their_own_tokens():
    options = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    values = TINY_ENCODER | {"id": "clip", "library": "transformers", "model": "CLIPVisionModel", "channels": 32}
    values |= {"options": options | {"image_size": 64, "patch_size": 16}}
    values |= {"features": {"kind": "blocks", "patch": 16, "depth": 3, "norm": False}}
    blocks = build_network(Encoder.model_validate(values))
    images = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [blocks(image) for image in images]
    both, network = Barrier(2), blocks.network

    def meet(**given):
        network(**given)
        both.wait(timeout=30)  # both have called the block before either reads what it gave

    del blocks.network
    blocks.network = meet
    with ThreadPoolExecutor(2) as pool:
        for found, tokens in zip(pool.map(blocks, images), expected, strict=True):
            torch.testing.assert_close(found, tokens, rtol=0, atol=0)


def test_options_change_the_image_tower_of_open_clip():
    values = TINY_ENCODER | {
        "id": "clip",
        "library": "open_clip",
        "model": "ViT-B-16",
        "image_size": 48,
        "channels": 32,
    }
    values |= {"features": {"kind": "blocks", "patch": 16, "depth": 4, "norm": False}}
    options = {"width": 32, "head_width": 16, "layers": 4}
    network = build_network(Encoder.model_validate(values | {"options": options}))
    assert network(torch.randn(2, 3, 48, 48)).shape == (2, 9, 32)
    with pytest.raises(UserError, match=r"key 'options': image towers of open_clip have no widht"):
        build_network(Encoder.model_validate(values | {"options": {"widht": 32}}))


def test_several_blocks_side_by_side_or_averaged():
    values = TINY_ENCODER | {"model": "vit_tiny_patch16_224", "image_size": 64, "id": "vit"}
    features = {"kind": "blocks", "patch": 16, "depth": 12}
    images = torch.randn(2, 3, 64, 64)

    def encoded(channels: int, **keys):
        settings = Encoder.model_validate(values | {"channels": channels, "features": features | keys})
        return settings, build_encoder(settings)(images)

    single = [encoded(192, layer=layer)[1] for layer in (5, 2)]
    settings, both = encoded(384, layers=[5, 2])
    torch.testing.assert_close(both, torch.cat(single, dim=2))
    assert settings.layers == (Layer(192, 4), Layer(192, 4))
    settings, mean = encoded(192, layers=[5, 2], combine="average")
    torch.testing.assert_close(mean, (single[0] + single[1]) / 2)
    assert settings.layers == (Layer(192, 4),)
    settings, halves = encoded(384, layers=[6, 5, 3, 2], combine="halves")
    torch.testing.assert_close(halves[:, :, :192], encoded(192, layers=[6, 5], combine="average")[1])
    torch.testing.assert_close(halves[:, :, 192:], encoded(192, layers=[3, 2], combine="average")[1])
    assert settings.layers == (Layer(192, 4), Layer(192, 4))
    with pytest.raises(ValueError, match="3 blocks have no halves"):
        encoded(384, layers=[6, 5, 3], combine="halves")


def test_repeated_stages_say_their_own_grid():
    settings = ENCODERS["wideresnet50-patchcore"]
    assert settings.layers == (Layer(512, 28), Layer(1024, 14))
    coarse = torch.arange(4.0).view(1, 1, 2, 2)
    tokens = pool_stages([coarse], Stages(strides=[8], pool=1, grid=4, upsampling="nearest"))
    assert tokens.view(4, 4)[:2, :2].unique().tolist() == [0]
    assert tokens.view(4, 4)[2:, 2:].unique().tolist() == [3]
    assert ENCODERS["efficientnet-lite0"].layers == (Layer(40, 16), Layer(112, 16))


def test_query_views_are_those_of_the_picture():
    encoder = build_encoder(Encoder.model_validate(TINY_ENCODER | {"id": "tiny"}))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    for view, turned in (("flip-vertical", pixels[:, ::-1]), ("flip-horizontal", pixels[:, :, ::-1])):
        np.testing.assert_array_equal(encode(encoder, pixels, view)["patch"], encode(encoder, turned)["patch"])
    # The mean colour of this encoder is grey: 127.5 of 255.
    images = seen_as(encoder.normalise(pixels), "clamp")
    torch.testing.assert_close(images, (encoder.normalise(pixels)).clamp(min=0))
    scores = np.arange(8.0).reshape(1, 2, 4)
    np.testing.assert_array_equal(turned_back(scores[:, ::-1], "flip-vertical"), scores)
    np.testing.assert_array_equal(turned_back(scores[:, :, ::-1], "flip-horizontal"), scores)


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "wide_resnet50_2", "regnety_002"])
def test_folding_batch_norms_changes_nothing_but_the_rounding(model):
    torch.manual_seed(0)
    network = timm.create_model(model).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    folded = fold_batch_norms(network, 64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = network(image)
        torch.testing.assert_close(folded(image), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


class NormOfTheInput(nn.Module):
    """A batch normalisation that is registered after a convolution and called before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 2)

    def forward(self, images):
        return self.convolution(self.norm(images))


def test_a_norm_that_does_not_follow_its_convolution_stays():
    network = NormOfTheInput().eval()
    assert fold_batch_norms(network, 32) is network


def test_stages_are_averaged_to_the_grid():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    tokens = pool_stages([ramp, torch.ones(1, 2, 2, 2)], Stages(strides=[8, 16], pool=1, grid=2))
    assert tokens.shape == (1, 4, 3)
    assert tokens[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]
    constant = pool_stages([torch.full((1, 1, 4, 4), 3.0)], Stages(strides=[8], pool=3, grid=4))
    assert constant.unique().tolist() == [3.0]  # the border is averaged over what lies inside


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tf_efficientnet_lite00"}, "timm has no tf_efficientnet_lite00"),
        ({"channels": 41}, "the model gives 64 tokens of 40 channels, the config says 64 of 41"),
        ({"features": Stages(strides=[7], grid=8)}, "has strides"),
        ({"model": "vit_tiny_patch16_224", "features": Blocks(patch=16, depth=9)}, "has 12 blocks, not 9"),
    ],
)
def test_a_config_that_does_not_fit_the_model_is_one_line(changes, message):
    settings = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"}).model_copy(update=changes)
    with pytest.raises(UserError, match=message):
        build_encoder(settings)(torch.zeros(1, 3, 64, 64))


def test_missing_and_changed_weights_are_named():
    settings = ENCODERS["efficientnet-lite0"]
    weights = settings.weights.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(UserError, match="SHA-256 is"):
        build_encoder(settings.model_copy(update={"weights": weights}))
    absent = weights.model_copy(update={"module": "no_such_module", "package": "no-such-package"})
    with pytest.raises(UserError, match="pip install no-such-package"):
        build_encoder(settings.model_copy(update={"weights": absent}))
