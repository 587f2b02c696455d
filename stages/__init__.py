"""The stages that pipelines compose: each function plans steps and returns their artifacts.

Edit them freely: they are this project's own. Nothing runs while a plan is made.
"""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DOCKERFILES = PROJECT / "dockerfiles"

# What a step that reads or writes an S3 store may see of the environment.
STORE_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "FORGE_S3_ENDPOINT",
)
KEY_SECRETS = ("FORGE_PASSPHRASE", "FORGE_PASSPHRASE_FILE")
