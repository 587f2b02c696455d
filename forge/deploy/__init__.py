"""What runs a device on Kubernetes: one kustomize overlay for each profile, made from it."""
