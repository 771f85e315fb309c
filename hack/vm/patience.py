"""What is changed of the runtime's configuration where it starts the agent: an emulator is slow. Pure."""

from __future__ import annotations

_NRI_ON = "  disable = false\n"


def patient(settings: str) -> str:
    """containerd's configuration in which a plugin has a minute to register, where NRI is on."""
    return settings.replace(_NRI_ON, f'{_NRI_ON}  plugin_registration_timeout = "60s"\n')
