"""Configurations in YAML: reading and merging (`yaml_files`, `load`), what they may name (`targets`), checking against
signatures (`schema`), the device to use.
"""
from gi.config.load import check, instantiate, instantiate_all, load_config, parse_value, save_config, trainer_options
from gi.config.targets import allow

__all__ = ["allow", "check", "instantiate", "instantiate_all", "load_config", "parse_value", "save_config",
           "trainer_options"]
