package psp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"math/big"

	"github.com/snplaunch/snplaunch/snp"
)

// FinishParams are the parameters of SNP_LAUNCH_FINISH.
type FinishParams struct {
	IDBlock          []byte // snp.IDBlockSize bytes, where IDBlockEnabled
	IDAuth           []byte // snp.IDAuthSize bytes, where IDBlockEnabled
	IDBlockEnabled   bool
	AuthorKeyEnabled bool
	VCEKDisabled     bool
	HostData         snp.HostData
}

// LaunchFinish is SNP_LAUNCH_FINISH. The order of its checks is that observed
// in SEV firmware 1.55.25; when one fails the guest stays in launch and the
// command may be tried again.
func (g *Guest) LaunchFinish(p FinishParams) snp.Status {
	if st := g.usable(); st != snp.StatusSuccess {
		return st
	}
	switch {
	case g.state != stateLaunch, g.imiEnabled:
		return snp.StatusInvalidGuestState
	case g.asid == 0:
		return snp.StatusInactive
	}
	next := g.context
	if p.IDBlockEnabled {
		if st := next.checkIDBlock(p); st != snp.StatusSuccess {
			return st
		}
	}
	next.hostData = p.HostData
	next.authorKeyEnabled = p.AuthorKeyEnabled
	next.vcekDisabled = p.VCEKDisabled
	next.state = stateRunning
	g.context = next
	return snp.StatusSuccess
}

// checkIDBlock holds the ID block against the launch: digest, policy, key
// algorithms, the ID block's signature, the ID key's signature.
func (c *context) checkIDBlock(p FinishParams) snp.Status {
	block, err := snp.ParseIDBlock(p.IDBlock)
	if err != nil {
		return snp.StatusInvalidParam
	}
	auth, err := snp.ParseIDAuth(p.IDAuth)
	if err != nil {
		return snp.StatusInvalidParam
	}
	switch {
	case block.LD != c.ld:
		return snp.StatusBadMeasurement
	case block.Policy != c.policy && !forgetsPolicy:
		return snp.StatusPolicyFailure
	case auth.IDKeyAlgo != snp.KeyAlgoECDSAP384,
		p.AuthorKeyEnabled && auth.AuthorKeyAlgo != snp.KeyAlgoECDSAP384:
		return snp.StatusInvalidParam
	case !signed(&auth.IDKey, &auth.IDBlockSig, p.IDBlock) && !forgetsSignature:
		return snp.StatusBadSignature
	}
	c.idBlock = *block
	c.idKey = sha512.Sum384(auth.IDKey[:])
	if p.AuthorKeyEnabled {
		if !signed(&auth.AuthorKey, &auth.IDKeySig, auth.IDKey[:]) {
			return snp.StatusBadSignature
		}
		c.authorKey = sha512.Sum384(auth.AuthorKey[:])
	}
	return snp.StatusSuccess
}

// signed says whether key is a P-384 key and made sig over message. Qx, Qy, r
// and s are little-endian, 72 bytes each.
func signed(key *snp.PublicKeyBytes, sig *snp.SignatureBytes, message []byte) bool {
	if le.Uint32(key[:]) != snp.ECDSACurveP384 {
		return false
	}
	const n = snp.ECDSACoordSize
	x, y := number(key[4:4+n]), number(key[4+n:4+2*n])
	curve := elliptic.P384()
	if x.BitLen() > curve.Params().BitSize || y.BitLen() > curve.Params().BitSize {
		return false
	}
	point := make([]byte, 1+2*48)
	point[0] = 4 // uncompressed
	x.FillBytes(point[1:49])
	y.FillBytes(point[49:])
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return false // not on the curve
	}
	digest := sha512.Sum384(message)
	return ecdsa.Verify(pub, digest[:], number(sig[:n]), number(sig[n:2*n]))
}

// number reads a little-endian number.
func number(b []byte) *big.Int {
	r := make([]byte, len(b))
	for i, c := range b {
		r[len(b)-1-i] = c
	}
	return new(big.Int).SetBytes(r)
}
