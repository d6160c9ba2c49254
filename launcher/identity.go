package launcher

import (
	"crypto/ecdsa"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// makeIDBlock gives the ID block that the description asks for, nil for none:
// signed here over the computed digest, with the owner's keys or with one that
// is made for this run and never stored; or read from files.
func makeIDBlock(g *guest.Guest, digest snp.LaunchDigest, o Options) (*signedBlock, error) {
	h := o.Hooks
	var out *signedBlock
	switch g.IDBlock.Mode {
	case guest.IDBlockNone:
		return nil, nil
	case guest.IDBlockFiles:
		block, err := idblock.ReadBlock(g.IDBlock.IDBlockFile)
		if err != nil {
			return nil, err
		}
		auth, raw, err := idblock.ReadAuth(g.IDBlock.IDAuthFile)
		if err != nil {
			return nil, err
		}
		b := block.Bytes()
		out = &signedBlock{block: b[:], auth: raw, authorKeyEnabled: idblock.HasAuthorKey(auth)}
	default:
		id, author, err := keys(g, o.KeyPassword)
		if err != nil {
			return nil, err
		}
		block := &snp.IDBlock{LD: digest, FamilyID: g.IDBlock.FamilyID, ImageID: g.IDBlock.ImageID,
			Version: snp.IDBlockVersion, GuestSVN: g.IDBlock.GuestSVN, Policy: g.Policy}
		if h.IDBlock != nil {
			h.IDBlock(block)
		}
		auth, err := idblock.Sign(block, id, author)
		if err != nil {
			return nil, err
		}
		b := block.Bytes()
		out = &signedBlock{block: b[:], auth: auth.Bytes(), authorKeyEnabled: author != nil}
	}
	auth, err := snp.ParseIDAuth(out.auth)
	if err != nil {
		return nil, err
	}
	out.idKey = idblock.DigestPublicKey(auth.IDKey)
	if out.authorKeyEnabled {
		out.authorKey = idblock.DigestPublicKey(auth.AuthorKey)
	}
	if h.SignedIDBlock != nil {
		h.SignedIDBlock(out.block, out.auth)
	}
	return out, nil
}

// keys loads the owner's keys, or makes an ID key for this run.
func keys(g *guest.Guest, password func(path string) ([]byte, error)) (id, author *ecdsa.PrivateKey, err error) {
	load := func(path string) (*ecdsa.PrivateKey, error) {
		if password == nil {
			return idblock.LoadKey(path)
		}
		return idblock.LoadKeyWith(path, func() ([]byte, error) { return password(path) })
	}
	if g.IDBlock.IDKey == "" {
		if id, err = idblock.GenerateKey(); err != nil {
			return nil, nil, fmt.Errorf("making an ID key for this run: %w", err)
		}
	} else if id, err = load(g.IDBlock.IDKey); err != nil {
		return nil, nil, err
	}
	if g.IDBlock.AuthorKey != "" {
		if author, err = load(g.IDBlock.AuthorKey); err != nil {
			return nil, nil, err
		}
	}
	return id, author, nil
}
