"""What the top of a command's config may hold."""

import pytest
from conftest import compose

from sslzoo import schema
from sslzoo.config import CONF

COMMANDS = {
    "adapt": ["run=x", "task=digit"],
    "analyze": ["run=x", "analysis=cka"],
    "bench": ["run=x"],
    "compare": ["comparison=demo"],
    "extract": ["run=x", "out=y"],
    "generate": ["run=x", "prompt=y"],
    "label": ["source=mfcc", "data=spoken"],
    "pretrain": ["recipe=digits_simclr"],
    "probe": ["run=x", "task=digit"],
    "shard": ["data=digits", "out=y"],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_command_reads_what_its_own_config_holds(name):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert schema.check(name, hydra_compose(name, COMMANDS[name])) == []
    assert schema.top_level(name).keys() >= compose(*COMMANDS[name], command=name).keys() - {"paths"}
