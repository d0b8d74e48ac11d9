"""Vision towers of the library transformers: patch tokens of one transformer block.

The config names the model's class and states its configuration, so only the weights are read from elsewhere.
"""

import copy
import inspect
import threading
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from foundad.config.encoder import Blocks, Encoder
from foundad.encoders.tensors import read_tensors, require_finite, require_known
from foundad.encoders.weights import find_weights, require_depth
from foundad.errors import UserError
from foundad.paths import CLASS, PATCH

FINAL_NORMS = ("post_layernorm", "layernorm", "norm")  # of CLIP and SigLIP, of DINOv2 and ViT, of DINOv3
TOWER_PREFIX = "vision_model."  # of checkpoints that hold a text tower as well


class TransformersBlocks(nn.Module):
    """Patch tokens of one block: images [B,3,S,S] -> [B,N,D]; tokens before the patches are left out.

    ``class`` [B,C] is the model's ``pooler_output``: for CLIP, DINOv2 and DINOv3 the class token after the final
    normalisation, for SigLIP the output of its attention pooling, for ViT what its pooler makes of the class token.

    Args:
        network: a vision model of transformers.
        index: the block whose output is taken (``hidden_states[index + 1]``).
        patches: N.
        norm: the network's final normalisation, or None.
        resize: the images have another size than the positions were learned at.
    """

    def __init__(self, network: nn.Module, index: int, patches: int, norm: nn.Module | None, resize: bool) -> None:
        super().__init__()
        self.network: Any = network
        # Patch tokens need the first blocks alone, class tokens all of them. Both networks have the same weights.
        self.whole: Any = copy.deepcopy(network, {id(w): w for w in (*network.parameters(), *network.buffers())})
        self.patches = patches
        self.norm = norm
        self.options = {"interpolate_pos_encoding": True} if resize else {}
        self.kept = threading.local()  # on a CPU several threads encode with this network
        del blocks_of(network)[index + 1 :]
        for either in (network, self.whole):
            blocks_of(either)[index].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, inputs: Any, output: Any) -> None:
        self.kept.output = output if isinstance(output, Tensor) else output[0]

    def forward(self, images: Tensor) -> Tensor:
        return self.named(images, (PATCH,))[PATCH]

    def named(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        output = (self.whole if CLASS in names else self.network)(pixel_values=images, **self.options)
        tokens: Tensor = self.kept.output[:, -self.patches :]
        self.kept.output = None
        found = {PATCH: tokens if self.norm is None else self.norm(tokens)}
        if CLASS in names:
            found[CLASS] = output.pooler_output
        return {name: found[name] for name in names}


def blocks_of(network: nn.Module) -> nn.ModuleList:
    """The transformer blocks of a vision model: its longest list of modules."""
    return max((module for module in network.modules() if isinstance(module, nn.ModuleList)), key=len)


def build(settings: Encoder) -> nn.Module:
    """The vision model of ``settings`` with its weights; see :func:`foundad.encoders.build_network`."""
    source = settings.file
    features = settings.features
    if not isinstance(features, Blocks):
        raise UserError(f"{source}: key 'features.kind': transformers gives blocks, not {features.kind}")
    network: Any = create(settings)
    require_depth(settings, len(blocks_of(network)))
    norm = next((getattr(network, name) for name in FINAL_NORMS if hasattr(network, name)), None)
    if features.norm and norm is None:
        raise UserError(f"{source}: key 'features.norm': {settings.model} has no final normalisation; set it to false")
    resize = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    resize = resize and network.config.image_size != settings.image_size
    if features.layers is not None:
        raise UserError(
            f"{source}: key 'features.layers': only the library timm has it; name one block with features.layer"
        )
    index = features.depth - features.layer
    return TransformersBlocks(network, index, settings.grid**2, norm if features.norm else None, resize)


def create(settings: Encoder) -> nn.Module:
    """The whole model with its weights (random ones are seeded)."""
    source = settings.file
    model: Any = getattr(transformers, settings.model, None)
    if not (isinstance(model, type) and issubclass(model, transformers.PreTrainedModel)):
        raise UserError(f"{source}: key 'model': transformers has no model class {settings.model}")
    configuration: Any = model.config_class
    known = inspect.signature(configuration.__init__).parameters
    wrong = [name for name in settings.options if name not in known]
    if wrong:
        raise UserError(f"{source}: key 'options': {configuration.__name__} has no {', '.join(wrong)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network: Any = model(configuration(**settings.options))
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{source}: key 'options': {settings.model}: {reason}") from None
    if settings.weights != "random":
        path = find_weights(settings)
        stored = read_tensors(path)
        own = network.state_dict()
        named = {key: key if key in own else key.removeprefix(TOWER_PREFIX) for key in stored}
        found = {name: stored[key] for key, name in named.items() if name in own}
        missing = [name for name in own if name not in found]
        if missing:
            raise UserError(f"{path}: does not fit {settings.model} of {source}: {missing[0]} is missing")
        wrong = [name for name in own if found[name].shape != own[name].shape]
        if wrong:
            raise UserError(
                f"{path}: does not fit {settings.model} of {source}: {wrong[0]} is {tuple(found[wrong[0]].shape)}, "
                f"not {tuple(own[wrong[0]].shape)}; fix options"
            )
        require_known([key for key, name in named.items() if name not in own], path, settings.model, source)
        network.load_state_dict(found)
        require_finite(network, path)
    return network
