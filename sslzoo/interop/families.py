"""The architectures of transformers that are read here, by their `model_type`."""

from collections.abc import Mapping
from typing import Any

from sslzoo.errors import UserError
from sslzoo.interop import image_families, speech_families, text_families
from sslzoo.interop.family import Family

FAMILIES = {
    family.name: family for module in (text_families, speech_families, image_families) for family in module.FAMILIES
}


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """The family that a config.json is of. Raises UserError, naming those that are known, and the setting that makes
    another architecture."""
    name = config.get("model_type")
    if name not in FAMILIES:
        said = f"{name!r} ({', '.join(config.get('architectures') or ['no architecture'])})"
        raise UserError(f"{where} is of {said}; the architectures that are read here are: {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    for setting, value in family.fixed.items():
        if config.get(setting, value) != value:
            raise UserError(f"{where}: {setting} is {config[setting]!r}, and only {value!r} can be read here")
    return family
