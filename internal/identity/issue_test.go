package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

func TestACertificateSaysWhatTheDesignPromises(t *testing.T) {
	mesh, key := fixedMesh(t, 1), fixedKey(2)
	chain, err := mesh.Issue(key.Public(), Claims{Namespace: "lab", Name: "cam", Roles: []string{"sensor"}}, birth, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 1 {
		t.Fatalf("the chain has %d certificates, want the node's alone", len(chain))
	}
	cert := parse(t, chain[0])
	want := "spiffe://" + mesh.ID().String() + "/ns/lab/node/" + key.ID().String() + "/name/cam/role/sensor"
	if len(cert.URIs) != 1 || cert.URIs[0].String() != want {
		t.Errorf("URIs %v, want %s", cert.URIs, want)
	}
	if !cert.NotBefore.Equal(birth.Add(-time.Hour)) || !cert.NotAfter.Equal(birth.Add(30*24*time.Hour)) {
		t.Errorf("valid from %v to %v, want an hour before %v to 30 days after", cert.NotBefore, cert.NotAfter, birth)
	}
	if !key.Public().Equal(cert.PublicKey) {
		t.Error("the certificate is not for the key")
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA {
		t.Errorf("key usage %b, CA %v, want signatures only", cert.KeyUsage, cert.IsCA)
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) ||
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		t.Errorf("extended key usage %v, want client and server", cert.ExtKeyUsage)
	}
	if err := cert.CheckSignatureFrom(mesh.cert); err != nil {
		t.Error(err)
	}
}

func TestTheMeshLeavesRoomForOneIntermediate(t *testing.T) {
	cert := fixedMesh(t, 1).cert
	if !cert.IsCA || cert.MaxPathLen != 1 {
		t.Errorf("CA %v with path length %d, want true with 1", cert.IsCA, cert.MaxPathLen)
	}
	if !cert.NotBefore.Equal(birth.Add(-time.Hour)) || !cert.NotAfter.Equal(endless) {
		t.Errorf("valid from %v to %v, want an hour before %v and no end", cert.NotBefore, cert.NotAfter, birth)
	}
}

func TestIssueRefusesWhatItCannotSign(t *testing.T) {
	mesh := fixedMesh(t, 1)
	if _, err := mesh.Issue(ed25519.PublicKey{1, 2, 3}, Claims{}, birth, 0); err == nil {
		t.Error("signed for a key of 3 bytes")
	}
	if _, err := mesh.Issue(fixedKey(1).Public(), Claims{}, birth, -time.Second); err == nil {
		t.Error("signed for a life below zero")
	}
	chain, err := mesh.Issue(fixedKey(1).Public(), Claims{}, birth, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, chain[0]).NotAfter; !got.Equal(birth.Add(time.Minute)) {
		t.Errorf("a life of a minute ends at %v, want %v", got, birth.Add(time.Minute))
	}
}
