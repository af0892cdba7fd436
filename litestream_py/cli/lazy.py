"""A click group that imports a subcommand's module only when that subcommand runs.

`lsync --help` must answer at once; boto3, apsw and numpy together take most of a second to import.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a subcommand lives: `module` has the click command as its attribute `command`; `summary` for the help."""

    module: str
    summary: str


class LazyGroup(click.Group):
    """The group of all subcommands, by name, in the order in which the help lists them."""

    def __init__(self, *args: object, lazy: dict[str, LazyCommand], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own parameters, passed through
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand, or return None if there is none of this name."""
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        command = import_module(entry.module).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.command is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand that `args` begins with; an unknown one is answered with the nearest."""
        name = args[0]
        if name not in self.lazy and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.lazy, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(self.lazy)}"
            raise click.UsageError(f"unknown command {name!r}; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])
