output "variables" {
  description = "Variables of the repository; the last three belong to the environments release, promotion and refresh."
  value = {
    FORGE_STORE              = "s3://${aws_s3_bucket.store.id}/${var.prefix}"
    AWS_REGION               = data.aws_region.current.id
    FORGE_PLAN_ROLE          = aws_iam_role.job["plan"].arn
    FORGE_BUILD_ROLE         = aws_iam_role.job["build"].arn
    FORGE_DEVICE_ROLE        = aws_iam_role.job["device"].arn
    FORGE_BUILDER_KEY        = "awskms:${aws_kms_alias.signing["hosted"].name}"
    FORGE_DEVICE_BUILDER_KEY = "awskms:${aws_kms_alias.signing["gpu"].name}"
    FORGE_PUBLISH_ROLE       = aws_iam_role.job["publish"].arn
    FORGE_PROMOTE_ROLE       = aws_iam_role.job["promote"].arn
    FORGE_REFRESH_ROLE       = aws_iam_role.job["refresh"].arn
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
