package e2e

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// Tamper is one thing that can be made wrong with a launch on purpose, with the
// verdict that must come. A cell whose tampering is not caught fails.
type Tamper struct {
	Name string
	Doc  string // what is made wrong

	depth  results.Depth // the least that catches it
	expect *Expect
	// unfit says why it cannot be tried with a guest; an empty string: it can.
	unfit func(g *guest.Guest, backend string) string
	// apply sets the hooks of a launch that do it.
	apply func(*tampering) error
}

// tampering is a launch that is about to be tampered with.
type tampering struct {
	guest *guest.Guest // as it is measured
	hooks *launcher.Hooks
	// flipped gives the path of a copy of a file with one bit flipped in its middle.
	flipped func(path string) (string, error)
}

// tamperAll stands for all that fit.
const tamperAll = "all"

// Offsets in a report (56860, ATTESTATION_REPORT).
const reportMeasurement = 0x90

// Tampers lists all of them: first those that the firmware catches at
// SNP_LAUNCH_FINISH, then those that OVMF catches, then those that whoever verifies
// the report does.
var Tampers []*Tamper

func init() {
	mustFail := func(arg string) *Expect { return &Expect{kind: expectFails, arg: arg} }
	invalid := func(says string) *Expect { return &Expect{kind: expectReportInvalid, arg: says} }
	refuses := &Expect{kind: expectRefuses}
	badMeasurement, badSignature := mustFail("SNP_LAUNCH_FINISH BAD_MEASUREMENT"), mustFail("SNP_LAUNCH_FINISH BAD_SIGNATURE")

	launched := func(change func(g *guest.Guest, t *tampering) error) func(*tampering) error {
		return func(t *tampering) error {
			wrong := *t.guest
			if err := change(&wrong, t); err != nil {
				return err
			}
			t.hooks.Launched = func(g *guest.Guest) { *g = wrong }
			return nil
		}
	}
	booted := func(change func(g *guest.Guest, t *tampering) error) func(*tampering) error {
		return func(t *tampering) error {
			wrong := *t.guest
			if err := change(&wrong, t); err != nil {
				return err
			}
			t.hooks.Booted = func(g *guest.Guest) { *g = wrong }
			return nil
		}
	}
	file := func(path func(*guest.Guest) *string) func(*guest.Guest, *tampering) error {
		return func(g *guest.Guest, t *tampering) (err error) {
			*path(g), err = t.flipped(*path(g))
			return err
		}
	}
	firmware := file(func(g *guest.Guest) *string { return &g.Firmware })
	kernel := file(func(g *guest.Guest) *string { return &g.Kernel })
	initrd := file(func(g *guest.Guest) *string { return &g.Initrd })
	commandLine := func(g *guest.Guest, _ *tampering) error {
		g.Append += " tampered"
		return nil
	}
	inAuth := func(change func(*snp.IDAuth) error) func(*tampering) error {
		return func(t *tampering) error {
			var failed error
			t.hooks.SignedIDBlock = func(_, auth []byte) {
				a, err := snp.ParseIDAuth(auth)
				if err == nil {
					err = change(a)
				}
				if err != nil {
					failed = err
					return
				}
				copy(auth, a.Bytes())
			}
			return failed
		}
	}
	expected := func(change func(*report.Expect)) func(*tampering) error {
		return func(t *tampering) error {
			t.hooks.Expect = change
			return nil
		}
	}
	inReport := func(change func([]byte)) func(*tampering) error {
		return func(t *tampering) error {
			t.hooks.Report = change
			return nil
		}
	}

	Tampers = []*Tamper{
		{tamperFlipped, "one bit of the digest in the ID block", results.LaunchOnly, badMeasurement, signedHere, func(t *tampering) error {
			t.hooks.IDBlock = func(b *snp.IDBlock) { b.LD[0] ^= 1 }
			return nil
		}},
		{"firmware", "one bit of the firmware that is launched", results.LaunchOnly, badMeasurement, signedHere, launched(firmware)},
		{"kernel", "one bit of the kernel that is launched", results.LaunchOnly, badMeasurement, hashed("kernel", func(g *guest.Guest) bool { return g.Kernel != "" }), launched(kernel)},
		{"initrd", "one bit of the initrd that is launched", results.LaunchOnly, badMeasurement, hashed("initrd", func(g *guest.Guest) bool { return g.Initrd != "" }), launched(initrd)},
		{"append", "a word more on the command line that is launched", results.LaunchOnly, badMeasurement, hashed("kernel", func(g *guest.Guest) bool { return g.Kernel != "" }), launched(commandLine)},
		{"vcpus", "one vCPU more than was measured", results.LaunchOnly, badMeasurement, signedHere, launched(func(g *guest.Guest, _ *tampering) error {
			g.VCPUs++
			return nil
		})},
		{"cpu", "a CPU model with another signature than was measured", results.LaunchOnly, badMeasurement, signedHere, launched(func(g *guest.Guest, _ *tampering) error {
			sig, err := g.Signature()
			for _, model := range []string{"EPYC-Milan-v2", "EPYC-v4"} {
				if other, lookErr := vmsa.Lookup(model); lookErr == nil && other != sig {
					g.CPU, g.CPUSig = model, nil
				}
			}
			return err
		})},
		{"policy", "another policy than the ID block has", results.LaunchOnly, mustFail("SNP_LAUNCH_FINISH POLICY_FAILURE"), signedHere, launched(func(g *guest.Guest, _ *tampering) error {
			g.Policy ^= snp.PolicyDebug
			return nil
		})},
		{"id-block-signature", "one bit of the signature over the ID block", results.LaunchOnly, badSignature, signedHere, inAuth(func(a *snp.IDAuth) error {
			a.IDBlockSig[0] ^= 1
			return nil
		})},
		{"id-key", "another ID key than the one that signed the ID block", results.LaunchOnly, badSignature, signedHere, inAuth(func(a *snp.IDAuth) error {
			return otherKey(&a.IDKey)
		})},
		{"author-signature", "one bit of the author key's signature over the ID key", results.LaunchOnly, badSignature, withAuthor, inAuth(func(a *snp.IDAuth) error {
			a.IDKeySig[0] ^= 1
			return nil
		})},
		{"author-key", "another author key than the one that signed the ID key", results.LaunchOnly, badSignature, withAuthor, inAuth(func(a *snp.IDAuth) error {
			return otherKey(&a.AuthorKey)
		})},

		{"booted-kernel", "one bit of the kernel that is booted, after the launch", results.Full, refuses, bootedFile(func(g *guest.Guest) bool { return g.Kernel != "" }), booted(kernel)},
		{"booted-initrd", "one bit of the initrd that is booted, after the launch", results.Full, refuses, bootedFile(func(g *guest.Guest) bool { return g.Initrd != "" }), booted(initrd)},
		{"booted-append", "a word more on the command line that is booted, after the launch", results.Full, refuses, bootedFile(func(g *guest.Guest) bool { return g.Kernel != "" }), booted(commandLine)},

		{"host-data", "other host data than is expected", results.Full, invalid("HOST_DATA"), anyGuest, launched(func(g *guest.Guest, _ *tampering) error {
			g.HostData[0] ^= 1
			g.HostDataSet = true
			return nil
		})},
		{"foreign-id-key", "an ID key that is not the owner's", results.Full, invalid("ID_KEY_DIGEST"), signedHere, expected(func(e *report.Expect) {
			e.IDKeyDigest = flippedDigest(e.IDKeyDigest)
		})},
		{"foreign-author-key", "an author key that is not the owner's", results.Full, invalid("AUTHOR_KEY_DIGEST"), withAuthor, expected(func(e *report.Expect) {
			e.AuthorKeyDigest = flippedDigest(e.AuthorKeyDigest)
		})},
		{"nonce", "a report over another nonce", results.Full, invalid("REPORT_DATA"), anyGuest, func(t *tampering) error {
			t.hooks.ExpectNonce = func(n *snp.ReportData) { n[0] ^= 1 }
			return nil
		}},
		{"replayed-report", "an earlier report of the same guest", results.Full, invalid("REPORT_DATA"), anyGuest, func(t *tampering) error {
			var earlier []byte
			t.hooks.Report = func(raw []byte) {
				if earlier == nil {
					earlier = bytes.Clone(raw)
					return
				}
				copy(raw, earlier)
			}
			return nil
		}},
		{"report-measurement", "one bit of the report's MEASUREMENT", results.Full, invalid("signature"), anyGuest, inReport(func(raw []byte) { raw[reportMeasurement] ^= 1 })},
		{"report-signature", "one bit of the report's signature", results.Full, invalid("signature"), anyGuest, inReport(func(raw []byte) { raw[snp.ReportSignedSize] ^= 1 })},
		{"certificate", "one bit of the signature of the certificate that the report is verified with", results.Full, invalid(""), anyGuest, func(t *tampering) error {
			t.hooks.Certificates = func(table []byte) {
				chain, err := report.ParseCertTable(table)
				if err != nil {
					return
				}
				for _, der := range [][]byte{chain.VCEK, chain.VLEK} {
					if at := bytes.Index(table, der); len(der) > 0 && at >= 0 {
						table[at+len(der)-1] ^= 1
					}
				}
			}
			return nil
		}},
		{"tcb", "a platform older than is asked for", results.Full, invalid("TCB"), anyGuest, expected(func(e *report.Expect) {
			e.MinTCB = &snp.TCBParts{SNP: 0xFF, Microcode: 0xFF}
		})},
		{"root", "a simulated report, for one who trusts AMD only", results.Full, invalid("simulated"), simulatedOnly, func(t *tampering) error {
			t.hooks.TrustAMDOnly = true
			return nil
		}},
	}
}

// tamperFlipped is the twin of a launch: the digest in the ID block is not the one
// that was computed.
const tamperFlipped = "flipped"

// replayed is the tampering for which a guest attests twice.
const tamperReplayed = "replayed-report"

// TamperNames lists the names of Tampers.
func TamperNames() []string {
	var out []string
	for _, t := range Tampers {
		out = append(out, t.Name)
	}
	return out
}

func tamperNamed(name string) *Tamper {
	if i := slices.IndexFunc(Tampers, func(t *Tamper) bool { return t.Name == name }); i >= 0 {
		return Tampers[i]
	}
	return nil
}

func anyGuest(*guest.Guest, string) string { return "" }

// signedHere wants an ID block that is made for the launch: it is the oracle that
// says whether the digest is another one.
func signedHere(g *guest.Guest, _ string) string {
	if g.IDBlock.Mode != guest.IDBlockSign {
		return "the guest has no ID block that is signed for the launch"
	}
	return ""
}

func withAuthor(g *guest.Guest, backend string) string {
	if why := signedHere(g, backend); why != "" {
		return why
	}
	if g.IDBlock.AuthorKey == "" {
		return "the guest has no author key"
	}
	return ""
}

// hashed wants a file that is in the table of kernel hashes.
func hashed(what string, has func(*guest.Guest) bool) func(*guest.Guest, string) string {
	return func(g *guest.Guest, backend string) string {
		switch {
		case !has(g):
			return "the guest has no " + what
		case !g.UsesKernelHashes():
			return "the guest has no kernel hashes"
		}
		return signedHere(g, backend)
	}
}

// bootedFile is what can differ between launch and boot only where the software
// host does the one with one QEMU and the other with another.
func bootedFile(has func(*guest.Guest) bool) func(*guest.Guest, string) string {
	return func(g *guest.Guest, backend string) string {
		if why := simulatedOnly(g, backend); why != "" {
			return why
		}
		if !has(g) || !g.UsesKernelHashes() {
			return "the guest has no kernel hashes over it"
		}
		return ""
	}
}

func simulatedOnly(_ *guest.Guest, backend string) string {
	if backend != host.Sim {
		return "it can be done on the software host only"
	}
	return ""
}

// otherKey puts a key that nobody has signed with in the place of one.
func otherKey(into *snp.PublicKeyBytes) error {
	key, err := idblock.GenerateKey()
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	*into, err = idblock.EncodePublicKey(&key.PublicKey)
	return err
}

func flippedDigest(d *snp.KeyDigest) *snp.KeyDigest {
	var other snp.KeyDigest
	if d != nil {
		other = *d
	}
	other[0] ^= 1
	return &other
}

// Expected is how a launch must end that is tampered with so.
func (t *Tamper) Expected() *Expect { return t.expect }

// Depth is the least depth of a cell that catches it.
func (t *Tamper) Depth() results.Depth { return t.depth }
