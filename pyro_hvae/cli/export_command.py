"""The command `pyro-hvae export`."""

from typing import Any

import click

from pyro_hvae.cli.early_checks import check_runs
from pyro_hvae.cli.shared_options import checkpoint_option, data_dir_option, emit, json_option


@click.command(name="export")
@click.argument("run")
@click.argument("directory", metavar="DIR")
@checkpoint_option
@click.option("--dataset", metavar="NAME|PATH", help="Where the data of RUN are now, if they have moved.")
@data_dir_option
@click.option("--overwrite", is_flag=True, help="Replace an export that is in DIR.")
@click.option("--hub", metavar="OWNER/NAME", help="Then upload DIR to this repository of the Hugging Face Hub.")
@click.option("--private", is_flag=True, help="Make the repository of --hub a private one.")
@json_option
def export_command(run: str, directory: str, checkpoint: str, as_json: bool, **options: Any) -> None:
    """Write RUN into DIR to share it: model.safetensors, config.json and a model card, README.md.

    All commands take DIR in the place of RUN, on any machine: neither the run nor its data are needed. No row of the data is in
    DIR, but the pseudo-inputs of a VampPrior are, which start at rows. Commands that take data ask for them: --dataset.

    \b
    Examples:
      pyro-hvae export last shared/digits
      pyro-hvae export last shared/digits --checkpoint best --overwrite
      pyro-hvae sample shared/digits
    """
    check_runs([run], checkpoint)
    from pyro_hvae.reports import export

    report = export(run, directory, checkpoint, **options)
    lines = [f"Exported to {report['directory']}, {report['bytes']:,} bytes: {', '.join(report['files'])}"]
    lines += [f"{report['early_end']} These are its weights after {report['step']:,} steps."] * bool(report["early_end"])
    lines += [f"Uploaded to https://huggingface.co/{report['hub']}"] * bool(report["hub"])
    lines.append(f"Open it: pyro-hvae sample {report['directory']}, or hv.load({report['directory']!r}) in Python.")
    emit(report, as_json, "\n".join(lines))
