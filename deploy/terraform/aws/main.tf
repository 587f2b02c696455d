# The store, the roles and the keys of docs/how-to/github-actions.md. What each role may do is in
# roles.json, which the tests give to the S3 server that the workflows run against.

data "aws_region" "current" {}

locals {
  roles = jsondecode(file("${path.module}/roles.json"))
  keys  = toset(flatten([for role in local.roles : role.sign]))
  store = "${aws_s3_bucket.store.arn}/${var.prefix}"
  hosts = { github = "token.actions.githubusercontent.com" }

  oidc_provider = one(concat(
    aws_iam_openid_connect_provider.github[*].arn,
    data.aws_iam_openid_connect_provider.github[*].arn,
  ))
}

# --- The store -----------------------------------------------------------------------------------

resource "aws_s3_bucket" "store" {
  bucket = var.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Deleted objects can be had back for a month: a stolen build role may delete packs of published bundles.
resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket     = aws_s3_bucket.store.id
  depends_on = [aws_s3_bucket_versioning.store]

  rule {
    id     = "left-overs"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    expiration {
      expired_object_delete_marker = true # each lease that ends leaves one
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tls_only" {
  bucket     = aws_s3_bucket.store.id
  policy     = data.aws_iam_policy_document.tls_only.json
  depends_on = [aws_s3_bucket_public_access_block.store]
}

# --- The keys ------------------------------------------------------------------------------------

resource "aws_kms_key" "signing" {
  for_each = local.keys

  description              = "Forge: signs ${each.key}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
  deletion_window_in_days  = 30

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "signing" {
  for_each = local.keys

  name          = "alias/${var.name}-${each.key}"
  target_key_id = aws_kms_key.signing[each.key].key_id
}

# --- The roles -----------------------------------------------------------------------------------

resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_oidc_provider ? 1 : 0

  url            = "https://${local.hosts.github}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_openid_connect_provider" "github" {
  count = var.create_oidc_provider ? 0 : 1

  url = "https://${local.hosts.github}"
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.oidc_provider]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.hosts.github}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "${local.hosts.github}:sub"
      values = [
        for subject in each.value.subjects :
        "repo:${var.repository}:${replace(subject, "{branch}", var.branch)}"
      ]
    }
  }
}

resource "aws_iam_role" "job" {
  for_each = local.roles

  name                 = "${var.name}-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = each.value.hours * 3600
}

data "aws_iam_policy_document" "read" {
  statement {
    actions   = ["s3:GetObject"]
    resources = ["${local.store}/*"]
  }

  statement {
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${var.prefix}/*"]
    }
  }
}

data "aws_iam_policy_document" "job" {
  for_each = local.roles

  source_policy_documents = [data.aws_iam_policy_document.read.json]

  dynamic "statement" {
    for_each = length(each.value.write) > 0 ? [each.value.write] : []

    content {
      actions = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
      ]
      resources = [
        for folder in statement.value : folder == "" ? "${local.store}/*" : "${local.store}/${folder}/*"
      ]
    }
  }

  # forge store gc looks for uploads that were broken off.
  dynamic "statement" {
    for_each = contains(each.value.write, "") ? [1] : []

    content {
      actions   = ["s3:ListBucketMultipartUploads"]
      resources = [aws_s3_bucket.store.arn]
    }
  }

  dynamic "statement" {
    for_each = length(each.value.sign) > 0 ? [each.value.sign] : []

    content {
      actions   = ["kms:GetPublicKey", "kms:Sign"]
      resources = [for key in statement.value : aws_kms_key.signing[key].arn]
    }
  }
}

resource "aws_iam_role_policy" "job" {
  for_each = local.roles

  name   = "forge"
  role   = aws_iam_role.job[each.key].id
  policy = data.aws_iam_policy_document.job[each.key].json
}

# For devices: attach it to what they identify as. They read and never write.
resource "aws_iam_policy" "device_read" {
  name   = "${var.name}-fleet-read"
  policy = data.aws_iam_policy_document.read.json
}
