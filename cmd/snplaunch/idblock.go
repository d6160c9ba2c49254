package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

func idblockVerb(e *env, args []string) error {
	if len(args) == 0 {
		return usageError("idblock: say what: create, verify, show or keygen")
	}
	switch args[0] {
	case "create":
		return idblockCreate(e, args[1:])
	case "verify":
		return idblockVerify(e, args[1:])
	case "show":
		return idblockShow(e, args[1:])
	case "keygen":
		return idblockKeygen(e, args[1:])
	}
	return usageError("idblock: %q is none of create, verify, show, keygen", args[0])
}

// idblockCreate signs an ID block over a digest that is given or computed.
func idblockCreate(e *env, args []string) error {
	fs := e.flags("idblock create", "[guest.yaml] [flags]\n\nMakes ID block and ID auth, in the base64 that QEMU's id-block= and id-auth= take.")
	gf := addGuestFlags(fs)
	gf.addLaunchFlags(fs)
	measurement := fs.String("measurement", "", "`HEX|BASE64`: launch digest to sign; without it the guest is measured")
	outBlock := fs.String("out-block", "", "`FILE`: write the ID block there")
	outAuth := fs.String("out-auth", "", "`FILE`: write the ID auth there")
	raw := fs.Bool("raw", false, "write bytes instead of base64")
	asJSON := fs.Bool("json", false, "print an object")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if (*outBlock == "") != (*outAuth == "") {
		return usageError("idblock create: give --out-block and --out-auth, or neither: one is of no use without the other")
	}
	if *raw && *outBlock == "" {
		return usageError("idblock create: --raw needs --out-block and --out-auth")
	}
	var g *guest.Guest
	var digest snp.LaunchDigest
	if *measurement != "" {
		if digest, err = idblock.ParseLaunchDigest(*measurement); err != nil {
			return usageError("--measurement: %w", err)
		}
		d := guest.Default()
		for _, change := range gf.changes {
			change(&d)
		}
		g = &d
	} else {
		if g, err = gf.guest(e.ctx, file, images.Options{}, false); err != nil {
			return err
		}
		in, err := g.Open()
		if err != nil {
			return err
		}
		defer in.Close()
		r, err := measure.Measure(g, in)
		if err != nil {
			return err
		}
		digest = r.LaunchDigest
	}
	if g.IDBlock.IDKey == "" {
		return usageError("idblock create: name the key that signs with --id-key (`snplaunch idblock keygen FILE` makes one)")
	}
	id, err := idblock.LoadKey(g.IDBlock.IDKey)
	if err != nil {
		return err
	}
	block := &snp.IDBlock{LD: digest, FamilyID: g.IDBlock.FamilyID, ImageID: g.IDBlock.ImageID,
		Version: snp.IDBlockVersion, GuestSVN: g.IDBlock.GuestSVN, Policy: g.Policy}
	var auth *snp.IDAuth
	if g.IDBlock.AuthorKey != "" {
		author, err := idblock.LoadKey(g.IDBlock.AuthorKey)
		if err != nil {
			return err
		}
		auth, err = idblock.Sign(block, id, author)
		if err != nil {
			return err
		}
	} else if auth, err = idblock.Sign(block, id, nil); err != nil {
		return err
	}
	b, a := block.Bytes(), auth.Bytes()
	if *outBlock != "" {
		return writePair(*outBlock, b[:], *outAuth, a, *raw)
	}
	if *asJSON {
		out := map[string]any{"id_block": idblock.Base64(b[:]), "id_auth": idblock.Base64(a), "launch_digest": digest,
			"id_key_digest": idblock.DigestPublicKey(auth.IDKey), "author_key_enabled": g.IDBlock.AuthorKey != ""}
		if g.IDBlock.AuthorKey != "" {
			out["author_key_digest"] = idblock.DigestPublicKey(auth.AuthorKey)
		}
		return e.json(out)
	}
	fmt.Fprintf(e.stdout, "id-block=%s\nid-auth=%s\n", idblock.Base64(b[:]), idblock.Base64(a))
	if g.IDBlock.AuthorKey != "" {
		fmt.Fprintln(e.stdout, "author-key-enabled=on")
	}
	return nil
}

// writePair writes both files or neither.
func writePair(blockPath string, block []byte, authPath string, auth []byte, raw bool) error {
	if !raw {
		block, auth = []byte(idblock.Base64(block)+"\n"), []byte(idblock.Base64(auth)+"\n")
	}
	var made []string
	for _, f := range []struct {
		path string
		data []byte
	}{{blockPath, block}, {authPath, auth}} {
		tmp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+"-*")
		if err == nil {
			made = append(made, tmp.Name())
			_, err = tmp.Write(f.data)
			err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
		}
		if err != nil {
			for _, m := range made {
				os.Remove(m)
			}
			return fmt.Errorf("writing %s: %w", f.path, err)
		}
	}
	if err := os.Rename(made[0], blockPath); err != nil {
		return errors.Join(err, os.Remove(made[0]), os.Remove(made[1]))
	}
	return os.Rename(made[1], authPath)
}

// idblockFiles reads the two files that verify and show take.
func idblockFiles(blockPath, authPath string) (*snp.IDBlock, *snp.IDAuth, []byte, error) {
	block, err := idblock.ReadBlock(blockPath)
	if err != nil {
		return nil, nil, nil, err
	}
	if authPath == "" {
		return block, nil, nil, nil
	}
	auth, raw, err := idblock.ReadAuth(authPath)
	return block, auth, raw, err
}

func idblockVerify(e *env, args []string) error {
	fs := e.flags("idblock verify", "ID-BLOCK ID-AUTH [flags]\n\nChecks what the firmware checks at SNP_LAUNCH_FINISH, in its order.")
	measurement := fs.String("measurement", "", "`HEX|BASE64`: launch digest that the ID block must hold")
	policy := fs.String("policy", "", "`N`: policy that it must hold")
	author := fs.String("author-key-enabled", "auto", "`on|off|auto`: whether the author key counts; auto when there is one")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if len(files) != 2 {
		return usageError("idblock verify: name the ID block and the ID auth file")
	}
	block, auth, _, err := idblockFiles(files[0], files[1])
	if err != nil {
		return err
	}
	ld, pol := block.LD, block.Policy
	if *measurement != "" {
		if ld, err = idblock.ParseLaunchDigest(*measurement); err != nil {
			return usageError("--measurement: %w", err)
		}
	}
	if *policy != "" {
		if pol, err = snp.ParseGuestPolicy(*policy); err != nil {
			return usageError("--policy: %w", err)
		}
	}
	withAuthor := idblock.HasAuthorKey(auth)
	if *author != "auto" {
		if withAuthor, err = parseOnOff(*author); err != nil {
			return usageError("--author-key-enabled: %w", err)
		}
	}
	if err := idblock.VerifyLaunch(block, auth, withAuthor, ld, pol); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "good: id key %s\n", idblock.DigestPublicKey(auth.IDKey))
	if withAuthor {
		fmt.Fprintf(e.stdout, "      author key %s\n", idblock.DigestPublicKey(auth.AuthorKey))
	}
	return nil
}

func idblockShow(e *env, args []string) error {
	fs := e.flags("idblock show", "ID-BLOCK [ID-AUTH] [--json]\n\nPrints the fields in words.")
	asJSON := fs.Bool("json", false, "print a list of objects")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return usageError("idblock show: name the ID block file")
	}
	block, _, raw, err := idblockFiles(files[0], append(files, "")[1])
	if err != nil {
		return err
	}
	lines, err := idblock.Show(block, raw)
	if err != nil {
		return err
	}
	if *asJSON {
		return e.json(lines)
	}
	for _, l := range lines {
		io.WriteString(e.stdout, l.String()+"\n")
	}
	return nil
}

func idblockKeygen(e *env, args []string) error {
	fs := e.flags("idblock keygen", "FILE\n\nMakes a P-384 key in PEM, mode 0600. A file that exists is left alone.")
	files, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return usageError("idblock keygen: name the file to write")
	}
	key, err := idblock.GenerateKey()
	if err != nil {
		return err
	}
	if err := idblock.WriteKey(files[0], key); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s\n", idblock.KeyDigest(&key.PublicKey))
	return nil
}
