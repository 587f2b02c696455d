output "variables" {
  description = "Variables of the repository."
  value = {
    FORGE_STORE              = "s3://${aws_s3_bucket.store.id}/${var.prefix}"
    AWS_REGION               = data.aws_region.current.id
    FORGE_PLAN_ROLE          = aws_iam_role.job["plan"].arn
    FORGE_BUILD_ROLE         = aws_iam_role.job["build"].arn
    FORGE_DEVICE_ROLE        = aws_iam_role.job["device"].arn
    FORGE_BUILDER_KEY        = "awskms:${aws_kms_alias.signing["hosted"].name}"
    FORGE_DEVICE_BUILDER_KEY = "awskms:${aws_kms_alias.signing["gpu"].name}"
    FORGE_REFRESH_ROLE       = aws_iam_role.job["refresh"].arn
  }
}

output "environment_variables" {
  description = "Variables of the environments of the repository, by environment."
  value = {
    release   = { FORGE_PUBLISH_ROLE = aws_iam_role.job["publish"].arn }
    promotion = { FORGE_PROMOTE_ROLE = aws_iam_role.job["promote"].arn }
    images    = { FORGE_IMAGES_ROLE = aws_iam_role.job["images"].arn }
  }
}

output "keys" {
  description = "Options of forge keys init, for the keys that sign releases."
  value = join(" ", [
    for key in ["bundles", "model", "channels", "online"] :
    "--key ${key}=awskms:${aws_kms_alias.signing[key].name}"
  ])
}

output "device_policy" {
  description = "ARN of the policy that lets a device read the store."
  value       = aws_iam_policy.device_read.arn
}
