// Package certs finds the certificates and the revocation list that a report is
// verified with. Start with Finder.Find.
//
// It decides what is looked at, never what is trusted: that is report.Verify's work,
// with the roots of its caller. For the same reason a wrong certificate in one place
// (hosts hand out tables of the firmware before last) does not end the search, and
// what is found nowhere does not end the verification: its answer says what is missing.
//
// AMD's Key Distribution Service limits how often it is asked. It is asked once for a
// chip and a TCB, under a lock that all processes of a user share, never again while it
// has asked to wait, and never for a chip of the software SNP host.
package certs
