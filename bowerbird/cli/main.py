"""The ``bowerbird`` command: one group or command per noun, imported only when it is used."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from bowerbird.errors import BowerbirdError

_COMMANDS: dict[str, tuple[str, str]] = {
    "bench": ("bench:bench_command", "Load a server with real requests and measure its latency."),
    "check": ("plan:check_command", "Find every mistake in the declarations."),
    "compile": ("compile:compile_command", "Cut a model into request, item and candidate stages."),
    "dead-letters": ("log:dead_letters_command", "List rejected records."),
    "evaluate": ("evaluate:evaluate_command", "Judge a training run: metrics, slices, importance, pictures."),
    "explain": ("features:explain_command", "Show the events behind a feature's value."),
    "features": ("features:features_command", "The catalogue of features: values, state, cost, users."),
    "forget": ("forget:forget_command", "Erase one user from everything that is stored."),
    "ingest": ("log:ingest_command", "Read raw files into the event log."),
    "init": ("log:init_command", "Make a new project."),
    "keys": ("serve:keys", "API keys: who may read, write and administer."),
    "models": ("models:models", "Published versions: list, promote, roll back."),
    "parity": ("parity:parity_command", "Compute what was served again, and compare."),
    "plan": ("plan:plan_command", "Show the compiled feature plan."),
    "profile": ("profile:profile_command", "Where a request's microseconds go."),
    "publish": ("train:publish", "Publish a training run as a version that passed its gates."),
    "recall": ("recall:recall_command", "Build the item-to-item indexes."),
    "report": ("report:report_command", "Live metrics and parity of what was served."),
    "samples": ("samples:samples_command", "Replay the log into training samples."),
    "serve": ("serve:serve", "Answer requests until stopped."),
    "train": ("train:train", "Train a model on samples."),
    "up": ("serve:up", "Keep a server running in the background."),
}
"""By command: the module under ``bowerbird.cli`` and the command's name in it, and what the help says."""


class LazyGroup(click.Group):
    """Imports a command's module when the command runs: most need no PyTorch to start."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return every command's name, sorted."""
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command by name."""
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f"bowerbird.cli.{module}"), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command named first; a typo is answered with the nearest name."""
        name = arguments[0]
        if name not in _COMMANDS and not name.startswith("-"):
            context.fail(f"No command is named {name!r}. {_nearest(name)}")
        return super().resolve_command(context, arguments)


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, _COMMANDS, 1)
    return f"Did you mean {close[0]!r}?" if close else "See `bowerbird --help`."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bowerbird", prog_name="bowerbird")
@click.option("--verbose", "-v", is_flag=True, help="Say more about what happens.")
def cli(verbose: bool) -> None:
    """From raw event logs to a monitored, low-latency ranking service that keeps learning."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a BowerbirdError is printed with its remedy and ends with exit code 1."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command line."""
    try:
        result: Any = cli.main(arguments, prog_name="bowerbird", standalone_mode=False)
    except BowerbirdError as error:
        _print_error(error)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return 130
    except BrokenPipeError:
        return 0
    return result if isinstance(result, int) else 0


def _print_error(error: BowerbirdError) -> None:
    click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(error.what, err=True)
    if error.remedy:
        click.echo(f"       {error.remedy}", err=True)


if __name__ == "__main__":
    main()
