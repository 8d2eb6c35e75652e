package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"time"
)

// Peer is who is at the other end of a link: proved, not claimed.
type Peer struct {
	ID        ID
	Mesh      MeshID
	Namespace string
	Name      string
	Roles     []string  // sorted, each once; the caller owns the slice
	Authority ID        // key of the user's authority that signed it; zero: the mesh itself did
	NotAfter  time.Time // when the first certificate of its chain runs out
}

const (
	maxChain     = 1 + maxIntermediates + 1 // the node, an intermediate, and room for the mesh's own
	maxCertBytes = 8 << 10                  // the longest labels make a certificate of under 3 KiB
)

// verifier is what a certificate chain is held against.
type verifier struct {
	mesh  MeshID
	roots *x509.CertPool
	now   time.Time
}

// verify decides who presented the chain. The checks run from "what is it" to "is it still good", so that each code
// means that everything before it was in order; in particular only an otherwise good chain is CodeExpired.
func (v verifier) verify(chain []*x509.Certificate) (Peer, *Refusal) {
	claimed, refusal := checkForm(chain)
	if refusal != nil {
		return Peer{}, refusal
	}
	leaf := chain[0]
	if claimed.mesh != v.mesh {
		return Peer{}, refuse(CodeMesh, "its certificate is of mesh %s, this node is in mesh %s", claimed.mesh, v.mesh)
	}
	signed, refusal := v.checkSigned(chain)
	if refusal != nil {
		return Peer{}, refusal
	}
	if id := IDOf(leaf.PublicKey.(ed25519.PublicKey)); id != claimed.node {
		return Peer{}, refuse(CodeIdentity, "its certificate names node %s, but its key is that of node %s", claimed.node, id)
	}
	authority, refusal := v.checkLimits(signed, claimed.claims)
	if refusal != nil {
		return Peer{}, refusal
	}
	notAfter, refusal := v.checkDates(signed)
	if refusal != nil {
		return Peer{}, refusal
	}
	return Peer{
		ID:        claimed.node,
		Mesh:      claimed.mesh,
		Namespace: claimed.claims.Namespace,
		Name:      claimed.claims.Name,
		Roles:     claimed.claims.Roles,
		Authority: authority,
		NotAfter:  notAfter,
	}, nil
}

// checkForm refuses what could not be a node's chain in any mesh, before anything costly is done with it, and
// returns what the first certificate claims.
func checkForm(chain []*x509.Certificate) (spiffeID, *Refusal) {
	if len(chain) == 0 {
		return spiffeID{}, refuse(CodeCertificate, "it presented no certificate, and only members of the mesh are let in")
	}
	if len(chain) > maxChain {
		return spiffeID{}, refuse(CodeCertificate, "it presented %d certificates, at most %d are possible", len(chain), maxChain)
	}
	for _, cert := range chain {
		if len(cert.Raw) > maxCertBytes {
			return spiffeID{}, refuse(CodeCertificate, "it presented a certificate of %d bytes, at most %d are possible",
				len(cert.Raw), maxCertBytes)
		}
		if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
			return spiffeID{}, refuse(CodeCertificate, "it presented a certificate with a key of type %s, want Ed25519",
				cert.PublicKeyAlgorithm)
		}
	}
	leaf := chain[0]
	if leaf.IsCA {
		return spiffeID{}, refuse(CodeCertificate, "its certificate is a certificate authority's, want a node's")
	}
	if !mayDoBoth(leaf) || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return spiffeID{}, refuse(CodeCertificate,
			"its certificate is not for use as both TLS client and server (digital signature, client and server authentication)")
	}
	if len(leaf.URIs) != 1 {
		return spiffeID{}, refuse(CodeCertificate, "its certificate holds %d URIs, want one SPIFFE id", len(leaf.URIs))
	}
	claimed, err := parseSPIFFE(leaf.URIs[0].String())
	if err == nil && claimed.user {
		err = errors.New("it is a user's")
	}
	if err != nil {
		return spiffeID{}, refuse(CodeCertificate, "its certificate is not that of a peermesh node: %v", err)
	}
	return claimed, nil
}

// checkSigned follows the signatures up to the mesh and returns the certificates on that way, without the mesh's own.
// Dates play no part in it.
func (v verifier) checkSigned(chain []*x509.Certificate) ([]*x509.Certificate, *Refusal) {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(dateless(cert))
	}
	paths, err := dateless(chain[0]).Verify(x509.VerifyOptions{
		Roots:         v.roots,
		Intermediates: intermediates,
		CurrentTime:   v.now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // wants both usages, not any: checked below
	})
	if err != nil {
		return nil, refuse(CodeCertificate, "its certificate names mesh %s but is not rightly signed by it: %v", v.mesh, err)
	}
	path := paths[0][:len(paths[0])-1]
	for _, authority := range path[1:] {
		if len(authority.ExtKeyUsage)+len(authority.UnknownExtKeyUsage) > 0 && !mayDoBoth(authority) {
			return nil, refuse(CodeCertificate,
				"its certificate is signed by an authority that may not sign for TLS clients and servers")
		}
	}
	var signed []*x509.Certificate
	for _, cert := range chain {
		if slices.ContainsFunc(path, cert.Equal) {
			signed = append(signed, cert) // as presented, with its dates
		}
	}
	return signed, nil
}

// checkLimits refuses what an authority on the way to the mesh was not made for, and returns the id of the last one's key.
// X.509 constrains the host of a URI, which is the mesh; namespace, name and roles stand in its path.
func (v verifier) checkLimits(signed []*x509.Certificate, c Claims) (authority ID, refusal *Refusal) {
	for _, cert := range signed[1:] {
		limits, limited, err := limitsIn(cert, v.mesh)
		if err == nil && limited {
			err = limits.Check(c)
		}
		if err != nil {
			return ID{}, refuse(CodeCertificate, "its certificate is signed by a user's authority: %v", err)
		}
		authority = IDOf(cert.PublicKey.(ed25519.PublicKey))
	}
	return authority, nil
}

// checkDates returns when the first of the certificates runs out.
func (v verifier) checkDates(certs []*x509.Certificate) (time.Time, *Refusal) {
	notAfter := certs[0].NotAfter
	for _, cert := range certs {
		if v.now.Before(cert.NotBefore) {
			return time.Time{}, refuse(CodeExpired,
				"its certificate is valid only from %s and the clock here says %s; set the clocks right",
				stamp(cert.NotBefore), stamp(v.now))
		}
		if v.now.After(cert.NotAfter) {
			return time.Time{}, refuse(CodeExpired,
				"its certificate ran out at %s and the clock here says %s; renew it, or set the clocks right",
				stamp(cert.NotAfter), stamp(v.now))
		}
		if cert.NotAfter.Before(notAfter) {
			notAfter = cert.NotAfter
		}
	}
	return notAfter, nil
}

// dateless returns a copy of cert that x509 takes to be always valid. The dates of presented certificates are
// checked by checkDates, apart from the signatures, so that "run out" and "forged" stay two verdicts. Those of the
// mesh's own are not checked at all: it is believed because the user installed it (RFC 5280, 6.1.1 d), and two boxes
// whose clocks start in 1970 must be able to meet.
func dateless(cert *x509.Certificate) *x509.Certificate {
	c := *cert
	c.NotBefore, c.NotAfter = time.Time{}, endless
	return &c
}

// mayDoBoth reports whether cert names both TLS usages: every node dials and accepts.
func mayDoBoth(cert *x509.Certificate) bool {
	return slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
