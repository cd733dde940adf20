"""Colours that follow the notebook's theme: Jupyter's, VS Code's, else that of the system (pure)."""

from __future__ import annotations

from typing import Final

LIMIT_COLOURS: Final = {
    "rpc": "#0ea5a4",
    "cpu": "#a855f7",
    "writer": "#f59e0b",
    "store": "#f97316",
    "db": "#ec4899",
    "head": "#94a3b8",
    "lease": "#ef4444",
}
OTHER_COLOUR: Final = "#9ca3af"

_THEME: Final = {  # name: Jupyter's, VS Code's, light, dark
    "bg": ("--jp-layout-color1", "--vscode-editor-background", "#ffffff", "#1c1d21"),
    "fg": ("--jp-ui-font-color1", "--vscode-editor-foreground", "#24272e", "#e3e5ea"),
    "mute": ("--jp-ui-font-color2", "--vscode-descriptionForeground", "#697080", "#9aa1b0"),
    "line": ("--jp-border-color2", "--vscode-panel-border", "#dde0e6", "#3a3d46"),
    "font": ("--jp-ui-font-family", "--vscode-font-family", "system-ui, sans-serif", "system-ui, sans-serif"),
}
TONES: Final = {"go": "#2f81f7", "good": "#2da44e", "warn": "#d29922", "bad": "#e5484d", "calm": "#8b93a1"}


def theme(selector: str) -> str:
    """The variables ``--a-*`` of everything below ``selector``."""

    def variables(system: int) -> str:
        return "".join(f"--a-{name}:var({v[0]},var({v[1]},{v[system]}));" for name, v in _THEME.items())

    return f"{selector}{{{variables(2)}}}@media(prefers-color-scheme:dark){{{selector}{{{variables(3)}}}}}"


def colour_of(limit: str) -> str:
    """The colour of what limits."""
    return LIMIT_COLOURS.get(limit, OTHER_COLOUR)
