# shellcheck shell=bash
# What a failed download means and what to set about it. Sourced; needs bash and messages.sh.

# The ways in which apt, uv, curl, git, R and Python say that a certificate is not trusted.
TLS_FAILURE='certificate verif(y|ication) failed|certificate is NOT trusted|CERTIFICATE_VERIFY_FAILED'
TLS_FAILURE+='|SSL certificate problem|invalid peer certificate|UnknownIssuer|unable to get local issuer'
TLS_FAILURE+='|self[- ]signed certificate|No system certificates available|server certificate verification failed'

# … that a name has no address, or that nobody answers.
LOOKUP_FAILURE='Temporary failure resolving|Could not resolve|failed to lookup address|Name or service not known'
LOOKUP_FAILURE+='|Temporary failure in name resolution|cannot resolve|Couldn.t resolve'
REACH_FAILURE='Could not connect|Connection (timed out|refused)|Unable to connect|Network is unreachable'
REACH_FAILURE+='|unable to access index|tcp connect error|Failed to connect|operation timed out|Connection failed'

# `explain_network_failure LOG SETTING`: hints for the failure in the log, with the key of `[network]` that names
# a mirror of what was fetched (`apt`, `pip`, `cran`). Status 1 when the log shows no trouble of the network.
explain_network_failure() {
  local log=$1 setting=$2
  if grep -qiE "$TLS_FAILURE" "$log"; then
    explain_tls_failure
  elif grep -qiE "$LOOKUP_FAILURE|$REACH_FAILURE" "$log"; then
    hint "the machine can't reach the server: behind a proxy, set \`[network] proxy\`;" \
      "with a mirror of your own, set \`[network] $setting\`"
  else
    return 1
  fi
}

explain_tls_failure() {
  if [[ -n ${SSL_CERT_FILE:-} ]]; then
    hint "the server's certificate is signed by none of those that \`[network] ca\` names:" \
      'name a PEM file that holds the authority of your proxy or mirror'
  else
    hint "the machine doesn't trust the server's certificate, as behind a proxy that re-signs TLS:" \
      'set `[network] ca = "host"` to trust, during the build, what this host trusts'
  fi
}
