"""Generate the Kubernetes manifests of devices: one kustomize overlay per profile."""
