package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"
)

// FuzzVerify shows a node whatever parses as certificates. Nobody but the mesh can sign, so a peer that comes out
// must be one that the corpus's mesh signed, under its own id.
func FuzzVerify(f *testing.F) {
	mesh := fixedMesh(f, 1)
	node, err := NewCredentials(mesh, fixedKey(2), Claims{}, func() time.Time { return birth })
	if err != nil {
		f.Fatal(err)
	}
	good, err := mesh.Issue(fixedKey(3).Public(), Claims{Name: "cam", Roles: []string{"sensor"}}, birth, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[0], []byte(nil))
	f.Add(good[0], mesh.cert.Raw)
	f.Add(mesh.cert.Raw, good[0])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var state tls.ConnectionState
		for _, der := range [][]byte{first, second} {
			if cert, err := x509.ParseCertificate(der); err == nil {
				state.PeerCertificates = append(state.PeerCertificates, cert)
			}
		}
		peer, err := node.Verify(state)
		var refusal *Refusal
		switch {
		case err == nil:
			public, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || peer.ID != IDOf(public) || peer.Mesh != mesh.ID() {
				t.Errorf("let in %+v with the key %x", peer, public)
			}
			signed := func(cert *x509.Certificate) bool {
				return !cert.Equal(mesh.cert) && cert.CheckSignatureFrom(mesh.cert) == nil
			}
			if !slices.ContainsFunc(state.PeerCertificates, signed) {
				t.Errorf("let in %+v, though the mesh signed nothing of its chain", peer)
			}
		case !errors.As(err, &refusal) || refusal.Reason == "" || refusal.Remote:
			t.Errorf("error %v, want a refusal of this side with a reason", err)
		}
	})
}
