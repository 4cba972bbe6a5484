# shellcheck shell=bash
# What holds for every provisioner. Sourced by run.sh.

test_definitions_every_script_parses() {
  local script
  for script in "$PROVISIONERS"/*/*.sh; do bash -n "$script"; done
}

test_definitions_every_script_named_is_there() {
  local folder script
  for folder in "$PROVISIONERS"/*/; do
    [[ -e $folder/provisioner.toml ]] || continue
    while read -r script; do [[ -e $folder/$script ]] || unmet "$folder$script to be there"; done < <(
      sed -nE 's/^(run|freeze) = "([^"]*)".*/\2/p' "$folder/provisioner.toml"
    )
    [[ -e $folder/README.md ]] || unmet "$folder to have a README.md"
  done
}

# A freeze must work in a machine that has nothing of the kind.
test_definitions_freeze_of_nothing_is_empty() {
  expect_same "$(freeze pip)" '' 'the freeze of pip'
  expect_same "$(freeze r)" '' 'the freeze of r'
}

# The form that dsimg reads: six columns, the sixth 0 or 1, and for some a seventh with source and version.
test_definitions_freeze_has_its_columns() {
  local odd
  odd=$(freeze apt | awk -F'\t' 'NF < 6 || NF > 7 || (NF == 7 && $7 !~ /^[^ ]+ [^ ]+$/) || ($6 != "0" && $6 != "1") || $1 == "" || $2 == "" || $3 == ""' | head -n 3)
  expect_same "$odd" '' 'lines of another form'
}
