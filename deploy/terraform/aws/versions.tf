# Also valid for OpenTofu.
terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.81, < 7.0" # before, an identity provider required a thumbprint
    }
  }
}
