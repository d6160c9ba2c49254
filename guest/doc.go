// Package guest describes an SEV-SNP guest: its parts, its size, its policy,
// its ID block. Both the launch digest and QEMU's command line are derived from
// the same Guest, so that they cannot drift apart. Start with Default, then
// Validate, then Open.
//
// The package knows neither digests nor QEMU options. The YAML form is in
// package guestyaml.
package guest
