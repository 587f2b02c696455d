"""The stages of pipelines: each function plans steps and returns their artifacts.

They are part of the project and can be edited. No step runs while a plan is made.
"""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DOCKERFILES = PROJECT / "dockerfiles"

# Environment variables for steps that use an S3 store or a KMS: all that boto3 reads, so that the
# step has the permissions of the user who started the run.
AWS_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
STORE_SECRETS = ("FORGE_S3_ENDPOINT", *AWS_SECRETS)
# The passphrase of key files and PINs; the KMS; the PKCS#11 module of an HSM.
KEY_SECRETS = (
    "FORGE_PASSPHRASE",
    "FORGE_PASSPHRASE_FILE",
    "FORGE_KEY_PASSPHRASE_FILES",
    "AWS_ENDPOINT_URL_KMS",
    "PYKCS11LIB",
    *AWS_SECRETS,
)
