"""Configurations in YAML: reading and merging (`yaml_files`, `load`), what they may name (`targets`), checking against
signatures (`schema`), the device to use.
"""
from gi.config.load import (
    MANAGED,
    check,
    instantiate,
    instantiate_all,
    load_config,
    merge,
    parse_value,
    save_config,
    trainer_options,
)
from gi.config.targets import allow

__all__ = ["MANAGED", "allow", "check", "instantiate", "instantiate_all", "load_config", "merge", "parse_value",
           "save_config", "trainer_options"]
