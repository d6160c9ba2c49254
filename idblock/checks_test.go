package idblock

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

// TestChecks: all that is wrong is found, in the firmware's order, and the
// first of it is what Verify gives.
func TestChecks(t *testing.T) {
	b := block()
	good := must[*snp.IDAuth](t)(Sign(b, key(t, 1), key(t, 2)))
	launch := Launch{LD: &b.LD, Policy: &b.Policy}
	otherLD, otherPolicy := b.LD, b.Policy|snp.PolicyDebug
	otherLD[0] ^= 1
	fields := "LD POLICY ID_KEY_ALGO AUTH_KEY_ALGO ID_KEY ID_BLOCK_SIG AUTHOR_KEY ID_KEY_SIG"
	for name, c := range map[string]struct {
		change   func(*snp.IDBlock, *snp.IDAuth)
		author   bool
		launch   Launch
		outcomes string // one letter each: holds, fails, not checked
		status   snp.Status
	}{
		"good":                    {nil, true, launch, "hhhhhhhh", snp.StatusSuccess},
		"good, no launch":         {nil, true, Launch{}, "nnhhhhhh", snp.StatusSuccess},
		"good, author key off":    {nil, false, launch, "hhhhhnnn", snp.StatusSuccess},
		"another launch":          {nil, true, Launch{&otherLD, &otherPolicy}, "ffhhhhhh", snp.StatusBadMeasurement},
		"another policy":          {nil, true, Launch{&b.LD, &otherPolicy}, "hfhhhhhh", snp.StatusPolicyFailure},
		"algorithms":              {func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKeyAlgo, a.AuthorKeyAlgo = 2, 0 }, true, launch, "hhffhhhh", snp.StatusInvalidParam},
		"ID key":                  {func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKey[4] ^= 1 }, true, launch, "hhhhfnhf", snp.StatusBadSignature},
		"signature of the block":  {func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDBlockSig[1] ^= 1 }, true, launch, "hhhhhfhh", snp.StatusBadSignature},
		"author key":              {func(_ *snp.IDBlock, a *snp.IDAuth) { a.AuthorKey[80] ^= 1 }, true, launch, "hhhhhhfn", snp.StatusBadSignature},
		"signature of the ID key": {func(_ *snp.IDBlock, a *snp.IDAuth) { a.IDKeySig[73] ^= 1 }, true, launch, "hhhhhhhf", snp.StatusBadSignature},
		"everything": {func(b *snp.IDBlock, a *snp.IDAuth) {
			b.LD[1]++
			b.Policy++
			a.IDKeyAlgo, a.AuthorKeyAlgo = 0, 0
			a.IDKeySig, a.IDBlockSig = snp.SignatureBytes{}, snp.SignatureBytes{}
		}, true, launch, "ffffhfhf", snp.StatusBadMeasurement},
	} {
		b2, a2 := *b, *good
		if c.change != nil {
			c.change(&b2, &a2)
		}
		var got, outcomes []string
		checks := Checks(&b2, &a2, c.author, c.launch)
		for _, k := range checks {
			got = append(got, k.Field)
			outcomes = append(outcomes, string(k.Outcome[:1]))
			if k.Text == "" || (k.Outcome == Fails) != (k.Status != snp.StatusSuccess) {
				t.Errorf("%s: %+v", name, k)
			}
		}
		order := fields
		if !c.author {
			order = "LD POLICY ID_KEY_ALGO ID_KEY ID_BLOCK_SIG AUTH_KEY_ALGO AUTHOR_KEY ID_KEY_SIG"
		}
		if strings.Join(got, " ") != order || strings.Join(outcomes, "") != c.outcomes {
			t.Errorf("%s\n got %s %s\nwant %s %s", name, got, outcomes, order, c.outcomes)
		}
		if s, _ := StatusOf(FirstFailure(checks)); s != c.status {
			t.Errorf("%s: first failure %s, want %s", name, s, c.status)
		}
	}

	if r := must[[]string](t)(Remarks(b, good.Bytes())); len(r) != 0 {
		t.Errorf("remarks on a good one: %q", r)
	}
	page := good.Bytes()
	page[0x10], page[0x240+0x403], page[0x40+511] = 1, 1, 1
	odd := *b
	odd.Version = 2
	r := strings.Join(must[[]string](t)(Remarks(&odd, page)), "\n")
	for _, want := range []string{"VERSION: 2", "reserved bytes: not zero", "bytes after S", "bytes after QY"} {
		if !strings.Contains(r, want) {
			t.Errorf("no %q in %s", want, r)
		}
	}
}
