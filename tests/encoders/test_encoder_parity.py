"""The same random weights give the same patch tokens in timm, open_clip and transformers: layers and norms are one thing."""

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import transformers
from conftest import TINY_ENCODER
from safetensors.torch import save_file
from torch import nn

from foundad.config.encoder import Encoder
from foundad.encoders import build_network
from foundad.encoders.libraries.timm import official_positions
from foundad.errors import UserError

WIDTH, DEPTH, HEADS, SIZE = 384, 12, 6, 224


def encoder(path: Path | str, **keys) -> Encoder:
    weights = "random" if path == "random" else {"path": str(path)}
    features = {"kind": "blocks", "patch": 16, "depth": DEPTH, "norm": False} | keys.pop("features", {})
    values = TINY_ENCODER | {"id": "small", "image_size": SIZE, "channels": WIDTH, "weights": weights}
    return Encoder.model_validate(values | {"features": features} | keys)


def perturbed(module: nn.Module) -> nn.Module:
    """No weight trivially 0 or 1, so that no term can be forgotten unseen."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.02
    return module.eval()


def blocks_of_transformers(stored: dict[str, torch.Tensor], source: str, target: str) -> dict[str, torch.Tensor]:
    """A block of open_clip under the names of transformers."""
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    names["attn.out_proj"] = "self_attn.out_proj"
    found = {}
    for kind in ("weight", "bias"):
        for theirs, ours in names.items():
            found[f"{target}{ours}.{kind}"] = stored[f"{source}{theirs}.{kind}"]
        q, k, v = stored[f"{source}attn.in_proj_{kind}"].chunk(3)
        for name, value in zip("qkv", (q, k, v), strict=True):
            found[f"{target}self_attn.{name}_proj.{kind}"] = value
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, Path]:
    """One random CLIP, as a checkpoint of open_clip and as one of transformers."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    stored = {
        name: t.contiguous() for name, t in perturbed(open_clip.create_model("ViT-S-16-alt")).state_dict().items()
    }
    save_file(stored, folder / "open_clip.safetensors")
    visual = "visual."
    renamed = {
        "embeddings.class_embedding": stored[f"{visual}class_embedding"],
        "embeddings.position_embedding.weight": stored[f"{visual}positional_embedding"],
        "embeddings.patch_embedding.weight": stored[f"{visual}conv1.weight"],
    }
    for kind in ("weight", "bias"):
        renamed[f"pre_layrnorm.{kind}"] = stored[f"{visual}ln_pre.{kind}"]
        renamed[f"post_layernorm.{kind}"] = stored[f"{visual}ln_post.{kind}"]
    for number in range(DEPTH):
        source, target = f"{visual}transformer.resblocks.{number}.", f"encoder.layers.{number}."
        renamed |= blocks_of_transformers(stored, source, target)
    renamed = {f"vision_model.{name}": tensor.clone() for name, tensor in renamed.items()}
    save_file(renamed | {"text_model.something": torch.zeros(3)}, folder / "transformers.safetensors")
    return folder / "open_clip.safetensors", folder / "transformers.safetensors"


OPTIONS = {"num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "image_size": SIZE, "patch_size": 16}
CLIP_OPTIONS = OPTIONS | {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "hidden_act": "gelu"}


def tokens(settings: Encoder, size: int = SIZE) -> torch.Tensor:
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return build_network(settings).eval()(images)


def described(settings: Encoder) -> torch.Tensor:
    """The class token of the picture of :func:`tokens`."""
    images = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return build_network(settings).eval().named(images, ("class",))["class"]


@pytest.mark.parametrize("features", [{"layer": 3}, {"layer": 1}, {"layer": 3, "norm": True}])
def test_clip_is_the_same_in_three_libraries(clip, features):
    open_clip_file, transformers_file = clip
    reference = tokens(encoder(open_clip_file, library="open_clip", model="ViT-S-16-alt", features=features))
    assert reference.shape == (1, 196, WIDTH)
    options = {"library": "transformers", "model": "CLIPVisionModel", "options": CLIP_OPTIONS, "features": features}
    torch.testing.assert_close(tokens(encoder(transformers_file, **options)), reference, rtol=0, atol=2e-5)
    options = {"model": "vit_base_patch16_clip_224", "options": {"embed_dim": WIDTH, "num_heads": HEADS}}
    in_timm = tokens(encoder(open_clip_file, library="timm", features=features, **options))
    torch.testing.assert_close(in_timm, reference, rtol=0, atol=2e-5)


def test_the_class_token_of_clip_is_the_same_in_three_libraries(clip):
    open_clip_file, transformers_file = clip
    options = {"model": "vit_base_patch16_clip_224", "options": {"embed_dim": WIDTH, "num_heads": HEADS}}
    found = [
        described(encoder(open_clip_file, library="open_clip", model="ViT-S-16-alt")),
        described(encoder(transformers_file, library="transformers", model="CLIPVisionModel", options=CLIP_OPTIONS)),
        described(encoder(open_clip_file, library="timm", **options)),
    ]
    assert found[0].shape == (1, WIDTH)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=2e-5)


def test_the_layer_is_a_hidden_state_of_transformers(clip):
    settings = encoder(clip[1], library="transformers", model="CLIPVisionModel", options=CLIP_OPTIONS)
    found = tokens(settings)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP_OPTIONS)).eval()
    whole = build_network(settings.model_copy(update={"features": settings.features.model_copy(update={"layer": 1})}))
    model.load_state_dict(whole.network.state_dict())
    images = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        states = model(pixel_values=images, output_hidden_states=True).hidden_states
    assert len(states) == DEPTH + 1
    torch.testing.assert_close(found, states[-3][:, 1:], rtol=0, atol=1e-6)


def test_siglip_is_the_same_in_timm_and_transformers(tmp_path):
    """timm needs the tanh approximation of the GELU, which its own default is not."""
    options = OPTIONS | {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH}
    torch.manual_seed(0)
    stored = perturbed(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**options))).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, tmp_path / "transformers.safetensors")
    reference = tokens(
        encoder(
            tmp_path / "transformers.safetensors", library="transformers", model="SiglipVisionModel", options=options
        )
    )

    sizes = {"embed_dim": WIDTH, "num_heads": HEADS}
    model = timm.create_model("vit_base_patch16_siglip_gap_512", img_size=SIZE, num_classes=0, **sizes)
    renamed = model.state_dict()
    renamed["patch_embed.proj.weight"] = stored["embeddings.patch_embedding.weight"]
    renamed["patch_embed.proj.bias"] = stored["embeddings.patch_embedding.bias"]
    renamed["pos_embed"] = stored["embeddings.position_embedding.weight"][None]
    for number in range(DEPTH):
        source, target = f"encoder.layers.{number}.", f"blocks.{number}."
        for kind in ("weight", "bias"):
            names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
            for ours, theirs in (names | {"attn.proj": "self_attn.out_proj"}).items():
                renamed[f"{target}{ours}.{kind}"] = stored[f"{source}{theirs}.{kind}"]
            parts = [stored[f"{source}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            renamed[f"{target}attn.qkv.{kind}"] = torch.cat(parts)
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, tmp_path / "timm.safetensors")
    keys = {"model": "vit_base_patch16_siglip_gap_512", "options": sizes | {"act_layer": "gelu_tanh"}}
    torch.testing.assert_close(tokens(encoder(tmp_path / "timm.safetensors", **keys)), reference, rtol=0, atol=1e-5)
    keys["options"] = sizes
    assert (tokens(encoder(tmp_path / "timm.safetensors", **keys)) - reference).abs().max() > 1e-4


def test_positions_and_rotary_periods():
    native = torch.randn(1, 1 + 14 * 14, 8)
    assert official_positions(native, 197, 1) is native
    larger = official_positions(native, 1 + 32 * 32, 1)
    assert larger.shape == (1, 1025, 8)
    assert torch.equal(larger[:, 0], native[:, 0])
    keys = {"model": "vit_small_patch16_dinov3", "image_size": 64, "features": {"depth": 12, "norm": True}}
    exact = build_network(encoder("random", **keys))
    keys["features"] |= {"rope_periods": "bfloat16"}
    rounded = build_network(encoder("random", **keys))
    periods = exact.network.rope.periods
    assert torch.equal(rounded.network.rope.periods, periods.bfloat16().float())
    assert not torch.equal(rounded.network.rope.periods, periods)
    keys["model"] = "vit_small_patch16_224"
    with pytest.raises(UserError, match="has no rotary positions"):
        build_network(encoder("random", **keys))


def test_official_positions_are_put_into_the_model():
    keys = {"model": "vit_tiny_patch16_224", "channels": 192, "image_size": 96}
    network = build_network(encoder("random", features={"positions": "official", "norm": True}, **keys)).network
    torch.manual_seed(0)
    native = timm.create_model("vit_tiny_patch16_224").pos_embed
    torch.testing.assert_close(network.pos_embed.data, official_positions(native.data, 37, 1))


def test_official_positions_of_a_model_with_registers_are_those_of_its_patches():
    keys = {"model": "vit_small_patch14_reg4_dinov2", "channels": 384, "image_size": 70}
    features = {"positions": "official", "norm": False, "patch": 14, "layers": [10, 3], "combine": "halves"}
    settings = encoder("random", features=features, **keys | {"channels": 768})
    network = build_network(settings).network
    torch.manual_seed(0)
    native = timm.create_model("vit_small_patch14_reg4_dinov2").pos_embed
    torch.testing.assert_close(network.pos_embed.data, official_positions(native.data, 25, 0))


def test_a_resized_clip_interpolates_its_positions(clip):
    options = {"library": "transformers", "model": "CLIPVisionModel", "options": CLIP_OPTIONS, "image_size": 288}
    assert tokens(encoder(clip[1], **options), 288).shape == (1, 324, WIDTH)


def test_a_first_part_that_names_its_layers_channels_can_be_concatenated():
    layers = {"features": {"kind": "stages", "strides": [8, 16], "grid": 8, "channels": [16, 24]}, "channels": 40}
    first = TINY_ENCODER | {"id": "first"} | layers
    second = first | {"id": "second"}
    both = Encoder.model_validate(
        {"id": "both", "title": "Both", "library": "concatenation", "licence": "none", "source": "none"}
        | {"parts": [first, second]}
    )
    assert both.channels == 80
    assert [layer.channels for layer in both.layers] == [16, 24, 16, 24]


def test_random_weights_need_no_hub_whatever_the_options():
    keys = {"model": "vit_tiny_patch16_224", "channels": 192, "image_size": 64, "features": {"norm": True}}
    network = build_network(encoder("random", **keys, options={"num_classes": 0}))
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 192)


def test_a_concatenation_shows_each_part_its_own_normalisation():
    keys = {"model": "vit_tiny_patch16_224", "channels": 192, "image_size": 64, "features": {"norm": True}}
    first = encoder("random", **keys)
    second = encoder("random", **keys, mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1]).model_copy(update={"id": "second"})
    both = Encoder.model_validate(
        {"id": "both", "title": "Both", "library": "concatenation", "licence": "none", "source": "none"}
        | {"parts": [first.model_dump(), second.model_dump()]}
    )
    assert both.channels == 384
    pixels = torch.rand(1, 3, 64, 64)

    def normalised(settings: Encoder) -> torch.Tensor:
        return (pixels - torch.tensor(settings.mean).view(3, 1, 1)) / torch.tensor(settings.std).view(3, 1, 1)

    with torch.inference_mode():
        found = build_network(both).eval()(normalised(both))
        parts = [build_network(part).eval()(normalised(part)) for part in (first, second)]
    torch.testing.assert_close(found, torch.cat(parts, dim=2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"library": "transformers", "model": "NoSuchModel"}, "transformers has no model class NoSuchModel"),
        (
            {"library": "transformers", "model": "CLIPVisionModel", "options": {"widht": 3}},
            "CLIPVisionConfig has no widht",
        ),
        ({"library": "open_clip", "model": "ViT-Z"}, "open_clip has no ViT-Z"),
        ({"library": "timm", "model": "vit_tiny_patch16_224", "options": {"widht": 3}}, "key 'options': .*widht"),
        (
            {"library": "transformers", "model": "CLIPVisionModel", "options": CLIP_OPTIONS, "features": {"depth": 11}},
            "CLIPVisionModel has 12 blocks, not 11",
        ),
    ],
)
def test_what_the_library_does_not_have_is_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        build_network(encoder("random", **changes))


def test_a_file_that_does_not_fit_is_one_line(clip):
    with pytest.raises(UserError, match=r"transformers\.safetensors: does not fit vit_tiny_patch16_224"):
        build_network(encoder(clip[1], model="vit_tiny_patch16_224", channels=192))
    with pytest.raises(UserError, match=r"does not fit SiglipVisionModel .* is missing"):
        build_network(encoder(clip[1], library="transformers", model="SiglipVisionModel", options=OPTIONS))
    with pytest.raises(UserError, match=r"does not fit ViT-S-16-alt"):
        build_network(encoder(clip[1], library="open_clip", model="ViT-S-16-alt"))
    with pytest.raises(UserError, match=r"key 'weights.path': there is no file"):
        build_network(encoder("nowhere.safetensors", model="vit_tiny_patch16_224"))


def test_weights_of_another_model_are_refused(tmp_path, clip):
    """Nothing is missing in them, and there is more: timm and transformers would load them without a word."""
    deep, small = {"kind": "blocks", "patch": 16, "depth": 2, "layer": 1}, {"embed_dim": 48, "num_heads": 3}
    stages = {"kind": "stages", "strides": [8], "grid": 8}
    save_file(timm.create_model("resnet34").state_dict(), tmp_path / "resnet34.safetensors")
    values = TINY_ENCODER | {"id": "small", "weights": {"path": str(tmp_path / "resnet34.safetensors")}}
    values |= {"model": "resnet18", "channels": 128, "features": stages}
    with pytest.raises(UserError, match=r"resnet34.safetensors: does not fit resnet18 .* more tensors, such as layer"):
        build_network(Encoder.model_validate(values))
    assert build_network(Encoder.model_validate(values | {"model": "resnet34"})) is not None  # its classes are no fault

    vit = timm.create_model("vit_tiny_patch16_224", depth=3, **small).state_dict()
    keys = {"model": "vit_tiny_patch16_224", "channels": 48, "features": deep, "options": small | {"depth": 2}}
    torch.save({"model": vit}, tmp_path / "deep.pth")
    with pytest.raises(UserError, match=r"it holds 3 blocks, key 'features.depth' says 2"):
        build_network(encoder(tmp_path / "deep.pth", **keys))
    torch.save({"model": {k: v for k, v in vit.items() if "blocks.2." not in k}}, tmp_path / "fits.pth")
    assert build_network(encoder(tmp_path / "fits.pth", **keys)) is not None
    vit["blocks.0.norm1.weight"][3] = float("nan")
    torch.save({k: v for k, v in vit.items() if "blocks.2." not in k}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"nan.pth: blocks.0.norm1.weight holds numbers that are not finite"):
        build_network(encoder(tmp_path / "nan.pth", **keys))

    shallow = {"library": "transformers", "model": "CLIPVisionModel", "features": {"depth": 11}}
    with pytest.raises(UserError, match=r"transformers.safetensors: does not fit CLIPVisionModel .* more tensors"):
        build_network(encoder(clip[1], options=CLIP_OPTIONS | {"num_hidden_layers": 11}, **shallow))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"<html>", "is a web page"),
        ((99).to_bytes(8, "little") + b"{", "is a truncated safetensors file"),
        (b"PK\x03\x04" + bytes(99), "is a truncated file of torch"),
        (b"\x80\x02c__builtin__\neval\n.", "could run code"),
    ],
)
@pytest.mark.parametrize(
    "keys",
    [
        {"model": "vit_tiny_patch16_224", "channels": 192},
        {"library": "open_clip", "model": "ViT-S-16-alt"},
        {"library": "transformers", "model": "CLIPVisionModel"},
    ],
)
def test_what_lies_in_the_place_of_weights_is_one_line(data, message, keys, tmp_path):
    path = tmp_path / ("w.safetensors" if data[8:9] == b"{" else "w.bin")
    path.write_bytes(data)
    if keys.get("library") == "transformers":
        keys = keys | {"options": CLIP_OPTIONS}
    with pytest.raises(UserError, match=message) as found:
        build_network(encoder(path, **keys))
    assert str(found.value).startswith(f"{path}: ")
    assert "weights_only" not in str(found.value)
