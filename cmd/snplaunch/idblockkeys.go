package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

func idblockKeygen(e *env, args []string) error {
	fs := e.flags("idblock keygen", "FILE [flags]\n\nMakes a P-384 key in PEM (PKCS#8), mode 0600, and prints its digest. A file that exists is left alone.")
	encrypt := fs.Bool("encrypt", false, "encrypt the key with a password; implied by the two below")
	password := addPasswordFlags(fs, "", "the new key")
	public := fs.String("public-key", "", "`FILE`: write the public key there, too")
	files, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return usageError("idblock keygen: name the file to write")
	}
	if err := password.check(); err != nil {
		return err
	}
	path := files[0]
	if _, err := os.Lstat(path); err == nil { // before a password is asked for in vain
		return fmt.Errorf("writing key %s: %w, and keys are never overwritten (choose another name or move it away)", path, os.ErrExist)
	}
	key, err := idblock.GenerateKey()
	if err != nil {
		return err
	}
	if *encrypt || password.given() {
		var secret []byte
		if secret, err = password.newPassword(e, path); err != nil {
			return err
		}
		err = idblock.WriteEncryptedKey(path, key, secret)
	} else {
		err = idblock.WriteKey(path, key)
	}
	if err != nil {
		return err
	}
	if *public != "" {
		text, err := idblock.EncodePublicKeyPEM(&key.PublicKey)
		if err == nil {
			err = writeTogether(namedFile{*public, text})
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(e.stdout, idblock.KeyDigest(&key.PublicKey))
	return nil
}

// idblockKeyDigest prints what reports show as ID_KEY_DIGEST and
// AUTHOR_KEY_DIGEST.
func idblockKeyDigest(e *env, args []string) error {
	fs := e.flags("idblock key-digest", "KEY… [flags]\n\nPrints the digest by which an attestation report names a key. KEY is a private key, a public key or a certificate.")
	format := fs.String("output-format", "hex", "`hex|base64|json`")
	asJSON := fs.Bool("json", false, "the same as --output-format json")
	password := addPasswordFlags(fs, "", "encrypted keys")
	files, _, err := parse(fs, args, math.MaxInt)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return usageError("idblock key-digest: name at least one key file")
	}
	if err := password.check(); err != nil {
		return err
	}
	if *asJSON {
		*format = "json"
	}
	type digested struct {
		File   string        `json:"file"`
		Digest snp.KeyDigest `json:"key_digest"`
	}
	var (
		out    []digested
		failed []error
	)
	for _, f := range files {
		pub, err := idblock.LoadPublicKeyWith(f, password.of(e, f))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		out = append(out, digested{f, idblock.KeyDigest(pub)})
	}
	if len(failed) > 0 { // all that is wrong at once, and no half of an answer
		return errors.Join(failed...)
	}
	var text func(snp.KeyDigest) string
	switch *format {
	case "json":
		return e.json(out)
	case "hex":
		text = snp.KeyDigest.String
	case "base64":
		text = func(d snp.KeyDigest) string { return base64.StdEncoding.EncodeToString(d[:]) }
	default:
		return usageError("--output-format %q is not known; use hex, base64 or json", *format)
	}
	for _, d := range out {
		if len(out) == 1 {
			fmt.Fprintln(e.stdout, text(d.Digest))
		} else {
			fmt.Fprintf(e.stdout, "%s  %s\n", text(d.Digest), d.File)
		}
	}
	return nil
}
