"""Augmentation of the drawn normal images, on the original picture before it is resized.

The stage ``bank`` begins with it. As in FoundAD's released code, it applies with one probability a geometric operation,
then with another probability an appearance operation. Without it the projector memorises the few pictures it sees.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from torchvision.transforms import functional as transforms

from foundad.config.bank import Augmentation

JITTER, HUE = 0.3, 0.05
BLUR_SIGMA = (0.1, 2.0)
BLUR_KERNEL, SMALL_BLUR_KERNEL, SMALL_SIZE = 23, 11, 384

Operation = Callable[[Image.Image, np.random.Generator, int], Image.Image]


def augment(image: Image.Image, settings: Augmentation, generator: np.random.Generator, size: int) -> Image.Image:
    """A random variant of ``image`` (RGB); ``size`` is the side it will be resized to and sets the blur's kernel."""
    geometric: list[Operation] = []
    if settings.horizontal_flip:
        geometric.append(lambda picture, _, __: transforms.hflip(picture))
    if settings.vertical_flip:
        geometric.append(lambda picture, _, __: transforms.vflip(picture))
    if settings.rotate_90:
        geometric.append(_rotate_90 if settings.rotation == "whole" else _rotate_90_cropped)
    appearance: list[Operation] = []
    if settings.colour_jitter:
        appearance.append(_colour_jitter)
    if settings.greyscale:
        appearance.append(lambda picture, _, __: transforms.to_grayscale(picture, num_output_channels=3))
    if settings.blur:
        appearance.append(_blur)
    for probability, operations in (
        (settings.geometric_probability, geometric),
        (settings.appearance_probability, appearance),
    ):
        if operations and generator.random() < probability:
            image = operations[generator.integers(len(operations))](image, generator, size)
    return image


def _rotate_90(image: Image.Image, generator: np.random.Generator, size: int) -> Image.Image:
    return image.rotate(90 if generator.random() < 0.5 else 270, expand=True)


def _rotate_90_cropped(image: Image.Image, generator: np.random.Generator, size: int) -> Image.Image:
    return image.rotate(90 if generator.random() < 0.5 else 270, expand=False)


def _colour_jitter(image: Image.Image, generator: np.random.Generator, size: int) -> Image.Image:
    brightness, contrast, saturation = generator.uniform(1 - JITTER, 1 + JITTER, size=3)
    hue = generator.uniform(-HUE, HUE)
    for operation in generator.permutation(4):
        if operation == 0:
            image = transforms.adjust_brightness(image, float(brightness))
        elif operation == 1:
            image = transforms.adjust_contrast(image, float(contrast))
        elif operation == 2:
            image = transforms.adjust_saturation(image, float(saturation))
        else:
            image = transforms.adjust_hue(image, float(hue))
    return image


def _blur(image: Image.Image, generator: np.random.Generator, size: int) -> Image.Image:
    kernel = BLUR_KERNEL if size >= SMALL_SIZE else SMALL_BLUR_KERNEL
    return transforms.gaussian_blur(image, [kernel, kernel], [float(generator.uniform(*BLUR_SIGMA))])
