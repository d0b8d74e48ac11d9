"""Image towers of the library open_clip: patch tokens of one transformer block."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from foundad.config.encoder import Blocks, Encoder
from foundad.encoders.tensors import read_tensors, require_finite
from foundad.encoders.weights import find_weights, require_depth
from foundad.errors import UserError
from foundad.paths import CLASS, PATCH

SMALL_TEXT = {"width": 8, "heads": 1, "layers": 1, "vocab_size": 8, "context_length": 8}


class OpenClipBlocks(nn.Module):
    """Patch tokens of one block of an image tower: images [B,3,S,S] -> [B,N,D]; the class token is left out.

    ``class`` [B,C] is the class token of the last block after the final normalisation ``ln_post``, as the tower has it
    before its projection into the space of texts.
    """

    def __init__(self, tower: nn.Module, index: int, norm: bool) -> None:
        super().__init__()
        self.tower: Any = tower
        self.index = index
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        return self.named(images, (PATCH,))[PATCH]

    def named(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        last = len(self.tower.transformer.resblocks) - 1
        output = self.tower.forward_intermediates(
            images,
            indices=sorted({self.index, last}) if CLASS in names else [self.index],
            normalize_intermediates=self.norm,
            intermediates_only=True,
            output_fmt="NLC",
            stop_early=True,
            output_extra_tokens=True,
        )
        found: dict[str, Tensor] = {PATCH: output["image_intermediates"][0]}
        if CLASS in names:
            token = output["image_intermediates_prefix"][-1][:, 0]
            found[CLASS] = token if self.norm else self.tower.ln_post(token)
        return {name: found[name] for name in names}


def build(settings: Encoder) -> nn.Module:
    """The image tower of ``settings`` with its weights; see :func:`foundad.encoders.build_network`."""
    source = settings.file
    features = settings.features
    if not isinstance(features, Blocks):
        raise UserError(f"{source}: key 'features.kind': open_clip gives blocks, not {features.kind}")
    if settings.model not in open_clip.list_models():
        raise UserError(f"{source}: key 'model': open_clip has no {settings.model}; see open_clip.list_models()")
    path = None if settings.weights == "random" else find_weights(settings)
    if path is not None:
        read_tensors(path)  # reports what is wrong with the file; the library then reads it itself
    changes = configuration(settings)
    logging.disable(logging.WARNING)  # it warns about random weights, which the config asks for
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = open_clip.create_model(
                settings.model,
                pretrained=path and str(path),
                force_image_size=settings.image_size,
                device=torch.get_default_device(),
                **changes,
            )
        except (RuntimeError, KeyError, ValueError, TypeError, AssertionError, IndexError, AttributeError) as error:
            # The library converts weights by the names of tensors, and may raise any of these on a foreign file.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if path is None:
                raise UserError(f"{source}: key 'options': {settings.model}: {reason}") from None
            raise UserError(f"{path}: does not fit {settings.model} of {source}: {reason}") from None
        finally:
            logging.disable(logging.NOTSET)
    tower: Any = model.visual
    if path is not None:
        require_finite(tower, path)
    if not hasattr(tower, "transformer"):
        raise UserError(f"{source}: key 'model': the image tower of {settings.model} has no blocks of open_clip's own")
    require_depth(settings, len(tower.transformer.resblocks))
    return OpenClipBlocks(tower, features.depth - features.layer, features.norm)


def configuration(settings: Encoder) -> dict[str, dict[str, Any]]:
    """What a model's configuration has otherwise than the library: the key ``options`` changes its image tower.

    With random weights the text tower, which nothing reads, is the smallest possible.

    Raises:
        UserError: an option that image towers do not have.
    """
    known = {field.name for field in fields(open_clip.CLIPVisionCfg)}
    wrong = [name for name in settings.options if name not in known]
    if wrong:
        raise UserError(f"{settings.file}: key 'options': image towers of open_clip have no {', '.join(wrong)}")
    own = open_clip.get_model_config(settings.model)
    changes = {}
    if settings.options:
        changes["vision_cfg"] = own["vision_cfg"] | settings.options | {"image_size": settings.image_size}
    if settings.weights == "random" and "hf_model_name" not in own["text_cfg"]:
        changes |= {"text_cfg": own["text_cfg"] | SMALL_TEXT}
    return changes
