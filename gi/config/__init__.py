"""Configurations in YAML: loading and merging (`load`), checking against signatures (`schema`), the device to use."""
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

__all__ = ["MANAGED", "check", "instantiate", "instantiate_all", "load_config", "merge", "parse_value", "save_config",
           "trainer_options"]
