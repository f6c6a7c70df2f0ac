"""Start the registry: `python -m holdtrue_registry`."""

from holdtrue_core.lifecycle import App, run

from holdtrue_registry.app import build
from holdtrue_registry.settings import RegistrySettings

run(App("registry", RegistrySettings, build))
