package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// blockFlags describe the ID block that create signs and prepare hands out.
type blockFlags struct {
	guest       *guestFlags
	measure     *measureFlags
	measurement *string
	learned     *fromReportFlags
}

func addBlockFlags(fs *flag.FlagSet) *blockFlags {
	b := &blockFlags{guest: addGuestFlags(fs)}
	b.guest.addLaunchFlags(fs)
	b.measure = addMeasureFlags(fs)
	b.measurement = fs.String("measurement", "", "`HEX|BASE64`: launch digest to sign; without it the guest is measured")
	b.learned = addFromReportFlags(fs)
	// As snp-create-id-block spells them.
	for alias, name := range map[string]string{"idkey": "id-key", "authorkey": "author-key"} {
		fs.Var(fs.Lookup(name).Value, alias, "`PEM`: the same as --"+name)
	}
	return b
}

// block gives the ID block, over a digest that is given or computed, and the
// guest that it is for.
func (b *blockFlags) block(e *env, file []string) (*snp.IDBlock, *guest.Guest, error) {
	g, digest, err := b.digest(e, file)
	if err != nil {
		return nil, nil, err
	}
	return &snp.IDBlock{LD: digest, FamilyID: g.IDBlock.FamilyID, ImageID: g.IDBlock.ImageID,
		Version: snp.IDBlockVersion, GuestSVN: g.IDBlock.GuestSVN, Policy: g.Policy}, g, nil
}

func (b *blockFlags) digest(e *env, file []string) (*guest.Guest, snp.LaunchDigest, error) {
	opt, err := b.measure.options()
	if err != nil {
		return nil, snp.LaunchDigest{}, err
	}
	if opt.Mode != measure.SNP && opt.Mode != measure.SVSM {
		return nil, snp.LaunchDigest{}, usageError("--mode %s: ID blocks are over launch digests of SEV-SNP guests, --mode snp or snp:svsm", opt.Mode)
	}
	if b.learned.file != "" && *b.measurement != "" {
		return nil, snp.LaunchDigest{}, usageError("--measurement and --from-report both name what is signed; give one of them")
	}
	if b.learned.file == "" && (b.learned.unverified || b.learned.want.ReportData != nil) {
		return nil, snp.LaunchDigest{}, usageError("--nonce and --unverified are about the report of --from-report, which is not given")
	}
	if *b.measurement == "" && b.learned.file == "" {
		r, err := b.measure.measure(e, b.guest, file)
		if err != nil {
			return nil, snp.LaunchDigest{}, err
		}
		defer r.close()
		if err := b.measure.warn(e.stderr, r); err != nil {
			return nil, snp.LaunchDigest{}, err
		}
		r.guest.KernelHashes = r.HashTable != nil
		return r.guest, r.LaunchDigest, nil
	}
	// Nothing is measured, so nothing is needed from the cache either.
	b.guest.noFirmware = true
	g, err := b.guest.guest(e.ctx, file, false)
	if err != nil {
		return nil, snp.LaunchDigest{}, err
	}
	var digest snp.LaunchDigest
	if b.learned.file != "" {
		digest, err = b.learned.digest(e, g, b.guest.given["policy"] || len(file) > 0)
	} else if digest, err = idblock.ParseLaunchDigest(*b.measurement); err != nil {
		err = usageError("--measurement: %w", err)
	}
	if err != nil {
		return nil, digest, err
	}
	if !b.guest.given["kernel-hashes"] {
		g.KernelHashes = g.UsesKernelHashes() // what the digest covers is not known here
	}
	return g, digest, nil
}

// pairFlags say in which form ID block and ID auth are given out.
type pairFlags struct {
	verb              string
	format            string
	asJSON, raw       bool
	outBlock, outAuth string
	cbitpos, physbits uint
}

// forms are the values of --output-format.
var forms = []string{"qemu", "object", "json-object", "libvirt", "snpguest", "json"}

func addPairFlags(fs *flag.FlagSet) *pairFlags {
	p := &pairFlags{verb: fs.Name()}
	fs.StringVar(&p.format, "output-format", "", "`"+strings.Join(forms, "|")+"`: options for a sev-snp-guest object, a whole -object, the same in JSON, a libvirt <launchSecurity>, snpguest's four lines, or an object with everything (qemu, unless files are written)")
	fs.BoolVar(&p.asJSON, "json", false, "the same as --output-format json")
	fs.StringVar(&p.outBlock, "out-block", "", "`FILE`: write the ID block there")
	fs.StringVar(&p.outAuth, "out-auth", "", "`FILE`: write the ID auth there")
	fs.BoolVar(&p.raw, "raw", false, "write bytes to these files instead of base64")
	fs.UintVar(&p.cbitpos, "cbitpos", 51, "`N`: position of the C-bit on the host, for object and json-object")
	fs.UintVar(&p.physbits, "reduced-phys-bits", 1, "`N`: QEMU's reduced-phys-bits, for object and json-object")
	return p
}

func (p *pairFlags) check() error {
	if p.asJSON {
		p.format = "json"
	}
	if (p.outBlock == "") != (p.outAuth == "") {
		return usageError("%s: give --out-block and --out-auth, or neither: one is of no use without the other", p.verb)
	}
	if p.raw && p.outBlock == "" {
		return usageError("%s: --raw needs --out-block and --out-auth", p.verb)
	}
	if p.format == "" && p.outBlock == "" {
		p.format = "qemu"
	}
	if p.format != "" && !slices.Contains(forms, p.format) {
		return usageError("--output-format %q is not known (%s)", p.format, suggest.Remedy(p.format, forms))
	}
	return nil
}

// write gives out ID block and ID auth as the flags say, and on stderr the key
// digests by which reports will name the keys.
func (p *pairFlags) write(e *env, block *snp.IDBlock, auth *snp.IDAuth, pair *idblock.Pair) error {
	pair.CBitPos, pair.ReducedPhysBits = int(p.cbitpos), int(p.physbits)
	if p.outBlock != "" {
		b, a := pair.Block, pair.Auth
		if !p.raw {
			b, a = []byte(idblock.Base64(b)+"\n"), []byte(idblock.Base64(a)+"\n")
		}
		if err := writeTogether(namedFile{p.outBlock, b}, namedFile{p.outAuth, a}); err != nil {
			return err
		}
	}
	idKey, authorKey := idblock.DigestPublicKey(auth.IDKey), idblock.DigestPublicKey(auth.AuthorKey)
	if p.format != "json" {
		fmt.Fprintf(e.stderr, "snplaunch: id key digest %s\n", idKey)
		if pair.AuthorKeyEnabled {
			fmt.Fprintf(e.stderr, "snplaunch: author key digest %s\n", authorKey)
		}
	}
	var (
		text string
		err  error
	)
	switch p.format {
	case "":
		return nil
	case "qemu":
		text = pair.Options()
	case "object":
		text = "-object " + pair.Object()
	case "json-object":
		text, err = pair.ObjectJSON()
		text = "-object '" + text + "'"
	case "libvirt":
		text, err = pair.Libvirt()
	case "snpguest":
		text = pair.SNPGuest()
	case "json":
		out := map[string]any{"id_block": idblock.Base64(pair.Block), "id_auth": idblock.Base64(pair.Auth), "launch_digest": block.LD,
			"policy": block.Policy.String(), "family_id": block.FamilyID.String(), "image_id": block.ImageID.String(), "guest_svn": block.GuestSVN,
			"id_key_digest": idKey, "author_key_enabled": pair.AuthorKeyEnabled}
		if pair.AuthorKeyEnabled {
			out["author_key_digest"] = authorKey
		}
		return e.json(out)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, text)
	return nil
}

// pairFor is the pair for a guest's launch.
func pairFor(g *guest.Guest, block *snp.IDBlock, auth *snp.IDAuth) *idblock.Pair {
	pair := idblock.NewPair(block, auth)
	pair.KernelHashes, pair.VCEKDisabled = g.KernelHashes, g.VCEKDisabled
	if g.HostDataSet {
		pair.HostData = &g.HostData
	}
	return pair
}

// idblockCreate signs an ID block with keys in files.
func idblockCreate(e *env, args []string) error {
	fs := e.flags("idblock create", "[guest.yaml] [flags]\n\nMakes ID block and ID auth with keys in files, over the guest's launch digest or over one that is given. The same input always gives the same bytes. Keys elsewhere: see idblock prepare. Takes snp-create-id-block's flags.")
	bf := addBlockFlags(fs)
	pf := addPairFlags(fs)
	idPassword := addPasswordFlags(fs, "", "the ID key")
	authorPassword := addPasswordFlags(fs, "author-", "the author key")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	for _, check := range []func() error{pf.check, idPassword.check, authorPassword.check} {
		if err := check(); err != nil {
			return err
		}
	}
	block, g, err := bf.block(e, file)
	if err != nil {
		return err
	}
	keys := g.IDBlock
	if keys.IDKey == "" {
		return usageError("idblock create: name the key that signs with --id-key (`snplaunch idblock keygen FILE` makes one)")
	}
	id, err := idblock.LoadKeyWith(keys.IDKey, idPassword.of(e, keys.IDKey))
	if err != nil {
		return err
	}
	author := id
	if keys.AuthorKey == "" {
		author = nil
	} else if keys.AuthorKey != keys.IDKey { // the same file is not asked for twice
		if author, err = idblock.LoadKeyWith(keys.AuthorKey, authorPassword.of(e, keys.AuthorKey)); err != nil {
			return err
		}
	}
	auth, err := idblock.Sign(block, id, author)
	if err != nil {
		return err
	}
	return pf.write(e, block, auth, pairFor(g, block, auth))
}
