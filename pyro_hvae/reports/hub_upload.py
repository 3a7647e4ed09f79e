"""Uploads an export to the Hugging Face Hub, under the login of its own client; no token passes through here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyro_hvae
from pyro_hvae.errors import ConfigError, DataError, missing_extra


def require_hub(name: str) -> Any:
    """A client of the Hub, without a connection yet.

    Raises:
        ConfigError: for a name that is not OWNER/NAME. DeviceError: without the extra `hub`.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ImportError as error:
        raise missing_extra("hub", "uploading to the Hugging Face Hub") from error
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"'{name}' is no name of a repository ({error}). Example: --hub me/digits-vhp.") from error
    if name.count("/") != 1:
        raise ConfigError(f"'{name}' has no owner. Write OWNER/NAME, such as --hub me/{name}.")
    return HfApi(library_name="pyro-hvae", library_version=pyro_hvae.__version__)


def upload(folder: Path, name: str, private: bool, files: Sequence[str]) -> None:
    """Uploads the files of an export as one commit to a repository, which is made where it is missing.

    Raises:
        ConfigError: where a private repository is asked for, and there is a public one of this name.
        DataError: when the Hub refuses or cannot be reached; the folder stays.
    """
    api = require_hub(name)
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(name, repo_type="model", private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise ConfigError(
                f"there is a repository {name}, and it is public, so that nothing was uploaded. Choose another name, or leave "
                "--private out."
            )
        message = f"Exported by pyro-hvae {pyro_hvae.__version__}"
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=message)
    except ConfigError:
        raise
    # The messages of the client may quote requests: of these only their kind and status are told.
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = type(error).__name__ + (f", status {status}" if status else "")
        raise DataError(
            f"cannot upload to {name} ({why}). The export is in '{folder}': log in by 'hf auth login', look whether {name} may "
            f"be yours, then 'hf upload {name} {folder} .'"
        ) from error
