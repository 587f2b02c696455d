variable "bucket" {
  description = "Name of the bucket of the store; it is created."
  type        = string
}

variable "prefix" {
  description = "Folder of the store in the bucket."
  type        = string
  default     = "forge"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*[A-Za-z0-9]$", var.prefix))
    error_message = "The prefix has no slash at its ends and no wildcards."
  }
}

variable "repository" {
  description = "Repository on GitHub that may assume the roles, OWNER/NAME."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "The repository is OWNER/NAME."
  }
}

variable "branch" {
  description = "Protected branch from which a release may be started by hand."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.branch))
    error_message = "The branch has no wildcards."
  }
}

variable "name" {
  description = "First word of the names of roles, policies and key aliases."
  type        = string
  default     = "forge"
}

variable "create_oidc_provider" {
  description = "Create the identity provider of GitHub; false where the account has one, since there can be one only."
  type        = bool
  default     = true
}
