"""`edgedistill info`: what is in a bundle."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("info", epilog="Example: edgedistill info export/fashion-mnist-mobilenetv3")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Write the manifest as one JSON object.")
def command(bundle: Path, *, as_json: bool) -> int:
    """Show a bundle's labels, input, files with their accuracy, and where it comes from; its checksums are verified."""
    from edgedistill.runtime.commands import info_command

    return info_command(bundle, as_json=as_json)
