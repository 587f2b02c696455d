plugin "terraform" {
  enabled = true
  preset  = "all"
}

# One module: it is used by its folder, and has no variables file of its own.
rule "terraform_standard_module_structure" {
  enabled = true
}
