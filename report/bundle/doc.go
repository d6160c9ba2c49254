// Package bundle is the evidence bundle: one file with everything that shows, later and
// elsewhere, that a guest was launched as its description says. Start with Read and
// Bundle.Verify; package launcher makes bundles.
//
// A bundle has two halves. The statement is what is known before the guest attests:
// description, hashes of the inputs, computed digest with its page list, ID block,
// versions, how QEMU was started, and 32 fresh random bytes. The SHA-512 of the statement
// is the REPORT_DATA of the report, so that the chip signs the statement along with the
// measurement: nothing in it can be changed afterwards. The other half vouches for
// itself: the report by its signature, the certificates by the chain to AMD's root that
// is part of this program, revocation lists by that root's signature.
//
// The file is JSON of exactly one spelling: reading it writes it again and compares. That
// is why it is no archive: a zip or tar file has many ways to say the same thing, and
// names, times and gaps that no reader looks at. It can be read with jq, compared with
// diff, and
//
//	jq -cj .statement FILE | sha512sum
//
// gives the REPORT_DATA without this program.
package bundle
