package main

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// maxSignatureFile is more than a signature in any form has, in bytes.
const maxSignatureFile = 4096

// Files that prepare writes.
const (
	blockTBS = "id-block.bin"
	keyTBS   = "id-key.bin"
)

// idblockPrepare hands out what a signer elsewhere has to sign.
func idblockPrepare(e *env, args []string) error {
	fs := e.flags("idblock prepare", "[guest.yaml] [flags]\n\nFor keys in an HSM: gives out what is to be signed with ECDSA P-384 and SHA-384, to be put together with the signatures by `snplaunch idblock assemble`. The ID key signs the ID block. The author key, where there is one, signs the ID key as the firmware encodes it, for which --id-key names the ID key's public key or certificate.")
	bf := addBlockFlags(fs)
	dir := fs.String("out-dir", "", "`DIR`: write "+blockTBS+", "+keyTBS+" and the SHA-384 of each (.sha384, 48 bytes) there; the folder is made where it is missing")
	asJSON := fs.Bool("json", false, "print an object")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	block, g, err := bf.block(e, file)
	if err != nil {
		return err
	}
	raw := block.Bytes()
	type item struct {
		name, signer string
		data         []byte
		digest       [sha512.Size384]byte
	}
	items := []item{{blockTBS, "ID key", raw[:], sha512.Sum384(raw[:])}}
	if g.IDBlock.IDKey != "" {
		pub, err := idblock.LoadPublicKey(g.IDBlock.IDKey)
		if err != nil {
			return err
		}
		encoded, err := idblock.EncodePublicKey(pub)
		if err != nil {
			return err
		}
		items = append(items, item{keyTBS, "author key", encoded[:], sha512.Sum384(encoded[:])})
	} else if g.IDBlock.AuthorKey != "" {
		return usageError("idblock prepare: an author key signs the ID key; name the ID key's public key with --id-key")
	}
	if *dir != "" {
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return err
		}
		var files []namedFile
		for _, i := range items {
			path := filepath.Join(*dir, i.name)
			files = append(files, namedFile{path, i.data}, namedFile{path + ".sha384", i.digest[:]})
		}
		if err := writeTogether(files...); err != nil {
			return err
		}
	}
	if *asJSON {
		type tbs struct {
			Data   []byte `json:"to_be_signed"` // base64
			SHA384 string `json:"sha384"`
		}
		out := map[string]any{"launch_digest": block.LD, "policy": block.Policy.String()}
		for n, i := range items {
			out[[]string{"id_block", "id_key"}[n]] = tbs{i.data, hex.EncodeToString(i.digest[:])}
		}
		return e.json(out)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, i := range items {
		where := idblock.Base64(i.data)
		if *dir != "" {
			where = filepath.Join(*dir, i.name)
		}
		fmt.Fprintf(w, "%s\t%d bytes\t%s\n\tsha384\t%x\n", "for the "+i.signer, len(i.data), where, i.digest)
	}
	return w.Flush()
}

// idblockAssemble puts signatures from elsewhere in place.
func idblockAssemble(e *env, args []string) error {
	fs := e.flags("idblock assemble", "[flags]\n\nMakes ID auth of what `snplaunch idblock prepare` gave out and of signatures that were made elsewhere: DER, 96 bytes of r and s, base64 of either, or r,s in hexadecimal. Signatures that do not verify are refused, and nothing is written.")
	blockFile := fs.String("id-block", "", "`FILE`: the ID block that was signed")
	idKey := fs.String("id-key", "", "`FILE`: the ID key's public key or certificate")
	idSig := fs.String("id-signature", "", "`FILE`: its signature over the ID block")
	authorKey := fs.String("author-key", "", "`FILE`: the author key's public key or certificate")
	authorSig := fs.String("author-signature", "", "`FILE`: its signature over the ID key")
	hashes := fs.String("kernel-hashes", "off", "`on|off`: whether the launch measures kernel hashes, for object, json-object and libvirt")
	pf := addPairFlags(fs)
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	if err := pf.check(); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"id-block", *blockFile}, {"id-key", *idKey}, {"id-signature", *idSig}} {
		if f.value == "" {
			return usageError("idblock assemble: --%s is missing", f.name)
		}
	}
	if (*authorKey == "") != (*authorSig == "") {
		return usageError("idblock assemble: give --author-key and --author-signature, or neither")
	}
	kernelHashes, err := parseOnOff(*hashes)
	if err != nil {
		return usageError("--kernel-hashes: %w", err)
	}
	block, err := idblock.ReadBlock(*blockFile)
	if err != nil {
		return err
	}
	id, err := signedElsewhere(*idKey, *idSig)
	if err != nil {
		return err
	}
	var author *idblock.Signed
	if *authorKey != "" {
		if author, err = signedElsewhere(*authorKey, *authorSig); err != nil {
			return err
		}
	}
	auth, err := idblock.Assemble(block, *id, author)
	if err != nil {
		return fmt.Errorf("%w (%s)", err, mixedUp(block, id, author))
	}
	pair := idblock.NewPair(block, auth)
	pair.KernelHashes = kernelHashes
	return pf.write(e, block, auth, pair)
}

func signedElsewhere(keyFile, sigFile string) (*idblock.Signed, error) {
	key, err := idblock.LoadPublicKey(keyFile)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(sigFile)
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	if len(data) > maxSignatureFile {
		return nil, fmt.Errorf("signature %s: %d bytes are too many for one", sigFile, len(data))
	}
	sig, err := idblock.ParseSignature(data)
	if err != nil {
		return nil, fmt.Errorf("signature %s: %w", sigFile, err)
	}
	return &idblock.Signed{Key: key, Signature: sig}, nil
}

// mixedUp says what was signed instead and by whom, where it is one of the
// usual mistakes.
func mixedUp(block *snp.IDBlock, id, author *idblock.Signed) string {
	type named[T any] struct {
		name  string
		value T
	}
	signatures := []named[snp.SignatureBytes]{{"ID key", id.Signature}}
	keys := []named[*ecdsa.PublicKey]{{"ID key", id.Key}}
	if author != nil {
		signatures = append(signatures, named[snp.SignatureBytes]{"author key", author.Signature})
		keys = append(keys, named[*ecdsa.PublicKey]{"author key", author.Key})
	}
	encoded, err := idblock.EncodePublicKey(id.Key)
	if err != nil {
		return err.Error()
	}
	raw := block.Bytes()
	blockDigest, keyDigest := sha512.Sum384(raw[:]), sha512.Sum384(encoded[:])
	const again = ", hashed once more: let the signer take the digest as it is, or give it the data"
	messages := []named[[]byte]{
		{"the ID block", raw[:]}, {"the ID key", encoded[:]},
		{"the SHA-384 of the ID block" + again, blockDigest[:]}, {"the SHA-384 of the ID key" + again, keyDigest[:]},
	}
	right := map[string]string{"ID key": "the ID block", "author key": "the ID key"}
	for _, sig := range signatures {
		for _, k := range keys {
			for _, m := range messages {
				if !(sig.name == k.name && right[k.name] == m.name) && signs(k.value, sig.value, m.value) {
					return fmt.Sprintf("what was given as the %s's signature is the %s's over %s", sig.name, k.name, m.name)
				}
			}
		}
	}
	return "is it the other key's signature, over another file, or with another hash than SHA-384?"
}

func signs(key *ecdsa.PublicKey, sig snp.SignatureBytes, message []byte) bool {
	r, s, err := idblock.DecodeSignature(sig)
	if err != nil {
		return false
	}
	digest := sha512.Sum384(message)
	return ecdsa.Verify(key, digest[:], r, s)
}
