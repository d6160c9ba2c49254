// Package report judges attestation reports: whether a Secure Processor signed
// them, and whether they say what the guest owner expects.
//
// Reading a report and verifying its chain are go-sev-guest's work. What this
// package adds is that the trusted roots always come from the caller, that
// nothing is fetched (package certs, below this one, does so for those who ask it
// to), that revocation lists are those of the caller and are looked in for the whole
// chain, and that a report of the software SNP host is never taken
// for AMD's: its certificates are marked (snp.SimulatedMarker), and the mark is refused
// before anything else is looked at, unless the caller trusts that very root.
//
// go-sev-guest before v0.15.0 took the root from the attestation when it was
// given none, so that a home-made chain with AMD's names verified; go.mod asks
// for a later one and a test keeps it so.
//
// v0.15.0 does not read the certificates that AMD issues for Turin (a patch level
// for the FMC, chip ids of 8 bytes): for those this package does the same
// itself (turin.go).
package report
