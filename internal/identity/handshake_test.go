package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const testALPN = "peermesh-test/1"

func TestTwoNodesOfAMeshKnowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		dialer := newCredentials(t, mesh, newKey(t), Claims{Namespace: "lab", Name: "dialer"})
		acceptor := newCredentials(t, mesh, newKey(t), Claims{Name: "acceptor", Roles: []string{"b", "a", "b"}})
		near, far := shake(t, dialer.TLS(testALPN), acceptor.TLS(testALPN))
		if near.err != nil || far.err != nil {
			t.Fatalf("handshake: dialer %v, acceptor %v", near.err, far.err)
		}
		life := time.Now().Add(DefaultLife).UTC()
		wantPeer(t, dialer, near.state, Peer{
			ID: acceptor.ID(), Mesh: mesh.ID(), Name: "acceptor", Roles: []string{"a", "b"}, NotAfter: life,
		})
		wantPeer(t, acceptor, far.state, Peer{
			ID: dialer.ID(), Mesh: mesh.ID(), Namespace: "lab", Name: "dialer", NotAfter: life,
		})
		if got, want := acceptor.Claims(), (Claims{Name: "acceptor", Roles: []string{"a", "b"}}); !reflect.DeepEqual(got, want) {
			t.Errorf("Claims = %+v, want %+v", got, want)
		}
		if acceptor.MeshID() != mesh.ID() {
			t.Errorf("MeshID = %s, want %s", acceptor.MeshID(), mesh.ID())
		}
	})
}

// wantPeer checks what the node with credentials c sees at the other end.
func wantPeer(t *testing.T, c *Credentials, state tls.ConnectionState, want Peer) {
	t.Helper()
	got, err := c.Verify(state)
	if err != nil {
		t.Errorf("Verify: %v", err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Verify = %+v\nwant     %+v", got, want)
	}
}

// world is what the strangers below are made from: two meshes, and the key of the node that presents the chain.
type world struct {
	*testing.T
	mesh, other *Mesh
	key         Key
}

// newWorld must be called in a bubble.
func newWorld(t *testing.T) world {
	now := time.Now()
	return world{T: t, mesh: newMesh(t, now), other: newMesh(t, now), key: newKey(t)}
}

// presented is what a stranger shows in the handshake.
type presented struct {
	chain [][]byte
	key   crypto.Signer
}

func TestEveryStrangerIsRefusedWithItsReasonInBothRoles(t *testing.T) {
	for _, c := range []struct {
		name   string
		show   func(w world) presented
		code   Code
		reason string
	}{
		{"no certificate", func(world) presented { return presented{} }, CodeCertificate, "no certificate"},

		{"another mesh", func(w world) presented { return w.leaf(w.other, nil) },
			CodeMesh, "is of mesh"},
		{"self-signed for a mesh of its own", func(w world) presented {
			own := Mesh{id: MeshID(w.key.ID()), private: w.key.private, cert: template(w, nil)}
			return w.leaf(&own, nil)
		}, CodeMesh, "is of mesh"},
		{"self-signed for our mesh", func(w world) presented {
			self := template(w, nil)
			return presented{[][]byte{sign(w, self, self, w.key.Public(), w.key.private)}, w.key.private}
		}, CodeCertificate, "not rightly signed"},
		{"signed by another mesh for ours", func(w world) presented {
			return w.signed(template(w, nil), w.other.cert, w.other.private)
		}, CodeCertificate, "not rightly signed"},
		{"signed by a forged copy of our authority", func(w world) presented {
			private := newKey(w).private
			forged := *w.mesh.cert
			forged.PublicKey = private.Public()
			return w.signed(template(w, nil), &forged, private)
		}, CodeCertificate, "not rightly signed"},

		{"run out", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
		}, CodeExpired, "ran out at"},
		{"not yet valid", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Second) })
		}, CodeExpired, "set the clocks right"},
		{"run out, of another mesh", func(w world) presented {
			return w.leaf(w.other, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
		}, CodeMesh, "is of mesh"},

		{"another node's id", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.URIs = nodeURI(w, w.mesh.id, newKey(w).ID()) })
		}, CodeIdentity, "its key is that of node"},
		{"another node's id, run out", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) {
				c.URIs, c.NotAfter = nodeURI(w, w.mesh.id, newKey(w).ID()), time.Now().Add(-time.Second)
			})
		}, CodeIdentity, "its key is that of node"},

		{"the mesh's own certificate", func(w world) presented {
			return presented{[][]byte{w.mesh.cert.Raw}, w.mesh.private}
		}, CodeCertificate, "certificate authority's"},
		{"an RSA key", func(w world) presented {
			key, err := rsaKey()
			if err != nil {
				w.Fatal(err)
			}
			return presented{[][]byte{sign(w, template(w, nil), w.mesh.cert, key.Public(), w.mesh.private)}, key}
		}, CodeCertificate, "want Ed25519"},
		{"an ECDSA key", func(w world) presented {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				w.Fatal(err)
			}
			return presented{[][]byte{sign(w, template(w, nil), w.mesh.cert, key.Public(), w.mesh.private)}, key}
		}, CodeCertificate, "want Ed25519"},
		{"no URI", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"peermesh"} })
		}, CodeCertificate, "0 URIs"},
		{"two URIs", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) })
		}, CodeCertificate, "2 URIs"},
		{"another program's SPIFFE id", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "corp", Path: "/web"}} })
		}, CodeCertificate, "not that of a peermesh node"},
		{"a URI that is not canonical", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.URIs[0] = c.URIs[0].JoinPath("role", "b", "role", "a") })
		}, CodeCertificate, "canonical"},
		{"for servers only", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
		}, CodeCertificate, "both TLS client and server"},
		{"not for signatures", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
		}, CodeCertificate, "digital signature"},
		{"a critical extension nobody knows", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			})
		}, CodeCertificate, "critical extension"},
		{"a giant certificate", func(w world) presented {
			return w.leaf(w.mesh, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, maxCertBytes)}}
			})
		}, CodeCertificate, "at most 8192"},

		{"a chain too long", func(w world) presented {
			p := w.leaf(w.mesh, nil)
			return presented{[][]byte{p.chain[0], w.mesh.cert.Raw, w.mesh.cert.Raw, w.mesh.cert.Raw}, p.key}
		}, CodeCertificate, "4 certificates"},
		{"signed by a node", func(w world) presented {
			signer := newKey(w)
			node := parse(w, sign(w, template(w, nil), w.mesh.cert, signer.Public(), w.mesh.private))
			return w.signed(template(w, nil), node, signer.private, node.Raw)
		}, CodeCertificate, "not rightly signed"},
		{"signed through two authorities", func(w world) presented {
			first := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) { c.MaxPathLen = 5 })
			second := w.authority(first.cert, first.private, nil)
			return w.signed(template(w, nil), second.cert, second.private, second.cert.Raw, first.cert.Raw)
		}, CodeCertificate, "too many intermediates"},
		{"an intermediate that is missing", func(w world) presented {
			user := w.authority(w.mesh.cert, w.mesh.private, nil)
			return w.signed(template(w, nil), user.cert, user.private)
		}, CodeCertificate, "not rightly signed"},
		{"an intermediate of another mesh", func(w world) presented {
			user := w.authority(w.other.cert, w.other.private, nil)
			return w.signed(template(w, nil), user.cert, user.private, user.cert.Raw, w.mesh.cert.Raw)
		}, CodeCertificate, "not rightly signed"},
		{"an intermediate that ran out", func(w world) presented {
			user := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
			return w.signed(template(w, nil), user.cert, user.private, user.cert.Raw)
		}, CodeExpired, "ran out at"},
		{"a forged intermediate that ran out", func(w world) presented {
			user := w.authority(w.other.cert, w.other.private, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
			return w.signed(template(w, nil), user.cert, user.private, user.cert.Raw)
		}, CodeCertificate, "not rightly signed"},
		{"an intermediate outside its name constraints", func(w world) presented {
			user := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) {
				c.PermittedURIDomains = []string{w.other.id.String()}
			})
			return w.signed(template(w, nil), user.cert, user.private, user.cert.Raw)
		}, CodeCertificate, "not permitted"},
		{"an intermediate for servers only", func(w world) presented {
			user := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			})
			return w.signed(template(w, nil), user.cert, user.private, user.cert.Raw)
		}, CodeCertificate, "may not sign for TLS clients and servers"},
		{"an intermediate with an ECDSA key", func(w world) presented {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				w.Fatal(err)
			}
			user := parse(w, sign(w, authorityTemplate(w, nil), w.mesh.cert, key.Public(), w.mesh.private))
			leaf := sign(w, template(w, nil), user, w.key.Public(), key)
			return presented{[][]byte{leaf, user.Raw}, w.key.private}
		}, CodeCertificate, "want Ed25519"},
	} {
		for _, role := range []string{"dialer", "acceptor"} {
			if role == "acceptor" && c.name == "no certificate" {
				continue // TLS itself wants one of whoever accepts
			}
			t.Run(c.name+" as "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					wantRefused(t, w, c.show(w), role, &Refusal{Code: c.code, Reason: c.reason})
				})
			})
		}
	}
}

// wantRefused lets an honest node of w.mesh meet a stranger in the given role: the handshake must complete, and the
// honest side must then refuse with want's code and words.
func wantRefused(t *testing.T, w world, p presented, role string, want *Refusal) {
	t.Helper()
	honest := newCredentials(t, w.mesh, newKey(t), Claims{Name: "honest"})
	var seen, back ending
	if role == "dialer" {
		back, seen = shake(t, stranger(p), honest.TLS(testALPN))
	} else {
		seen, back = shake(t, honest.TLS(testALPN), stranger(p))
	}
	if seen.err != nil || back.err != nil {
		t.Fatalf("handshake: honest side %v, stranger %v; it must complete so that the reason can be told", seen.err, back.err)
	}
	peer, err := honest.Verify(seen.state)
	if !errors.Is(err, want) {
		t.Fatalf("Verify = %+v, %v, want code %s", peer, err, want.Code)
	}
	var got *Refusal
	if !errors.As(err, &got) || !strings.Contains(got.Reason, want.Reason) || got.Remote {
		t.Errorf("refusal %+v, want a reason with %q, not remote", got, want.Reason)
	}
	if !reflect.DeepEqual(peer, Peer{}) {
		t.Errorf("a refused peer came with %+v", peer)
	}
}

func TestChainsThroughOneIntermediateAreAccepted(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name     string
		change   func(w world, c *x509.Certificate)
		withRoot bool
		life     time.Duration
	}{
		{"plain", nil, false, DefaultLife},
		{"with the mesh's certificate at the end", nil, true, DefaultLife},
		{"constrained to this mesh", func(w world, c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedURIDomains = true, []string{w.mesh.id.String()}
		}, false, DefaultLife},
		{"running out before the node's certificate", func(_ world, c *x509.Certificate) {
			c.NotAfter = time.Now().Add(day)
		}, false, day},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				user := w.authority(w.mesh.cert, w.mesh.private, func(cert *x509.Certificate) {
					if c.change != nil {
						c.change(w, cert)
					}
				})
				above := [][]byte{user.cert.Raw}
				if c.withRoot {
					above = append(above, w.mesh.cert.Raw)
				}
				p := w.signed(template(w, nil), user.cert, user.private, above...)
				honest := newCredentials(t, w.mesh, newKey(t), Claims{})
				_, seen := shake(t, stranger(p), honest.TLS(testALPN))
				if seen.err != nil {
					t.Fatal(seen.err)
				}
				wantPeer(t, honest, seen.state, Peer{
					ID: w.key.ID(), Mesh: w.mesh.ID(), Name: "stranger", Authority: IDOf(user.private.Public().(ed25519.PublicKey)),
					NotAfter: time.Now().Add(c.life).UTC(),
				})
			})
		})
	}
}

func TestWhatNoHonestPeerDoesEndsTheHandshake(t *testing.T) {
	for name, change := range map[string]func(*tls.Config){
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"h3"} },
		"no protocol":      func(c *tls.Config) { c.NextProtos = nil },
		"TLS 1.2":          func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"garbage for a certificate": func(c *tls.Config) {
			cert, err := c.GetCertificate(nil)
			if err != nil {
				panic(err)
			}
			show(c, &tls.Certificate{Certificate: [][]byte{[]byte("garbage")}, PrivateKey: cert.PrivateKey})
		},
		"a certificate whose key it does not hold": func(c *tls.Config) {
			cert, err := c.GetCertificate(nil)
			if err != nil {
				panic(err)
			}
			show(c, &tls.Certificate{Certificate: cert.Certificate, PrivateKey: fixedPrivate(9)})
		},
	} {
		for _, role := range []string{"dialer", "acceptor"} {
			t.Run(name+" as "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					mesh := newMesh(t, time.Now())
					honest := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
					odd := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
					change(odd)
					odd.VerifyConnection = nil
					var seen ending
					if role == "dialer" {
						_, seen = shake(t, odd, honest)
					} else {
						seen, _ = shake(t, honest, odd)
					}
					if seen.err == nil {
						t.Errorf("the honest side let it through with %+v", seen.state)
					}
				})
			})
		}
	}
}

func TestResumedSessionsEndTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		acceptor := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
		acceptor.SessionTicketsDisabled = false
		dialer := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
		dialer.SessionTicketsDisabled, dialer.ClientSessionCache = false, tls.NewLRUClientSessionCache(1)

		if err := shakeAndRead(t, dialer, acceptor); err != nil {
			t.Fatalf("the first handshake: %v", err)
		}
		if err := shakeAndRead(t, dialer, acceptor); err == nil || !strings.Contains(err.Error(), "resumes") {
			t.Errorf("a resumed handshake: %v, want an error that says so", err)
		}
	})
}

// shakeAndRead shakes hands and sends the dialer one byte, before which it receives the acceptor's session ticket.
func shakeAndRead(t *testing.T, dialer, acceptor *tls.Config) error {
	t.Helper()
	near, far := pipe(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := tls.Server(far, acceptor).Write([]byte{1}); err != nil {
			far.Close()
		}
	})
	_, err := io.ReadFull(tls.Client(near, dialer), make([]byte, 1))
	near.Close()
	wg.Wait()
	return err
}

func TestAnAcceptorGivesNoTicketsToResumeWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		acceptor := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
		dialer := newCredentials(t, mesh, newKey(t), Claims{}).TLS(testALPN)
		dialer.SessionTicketsDisabled, dialer.ClientSessionCache = false, tls.NewLRUClientSessionCache(1)
		for range 2 {
			if err := shakeAndRead(t, dialer, acceptor); err != nil {
				t.Errorf("handshake: %v, want a full one each time", err)
			}
		}
	})
}

// ending is how a handshake ended on one side.
type ending struct {
	state tls.ConnectionState
	err   error
}

// shake lets two sides shake hands over a pipe.
func shake(t *testing.T, dialer, acceptor *tls.Config) (near, far ending) {
	t.Helper()
	nearPipe, farPipe := pipe(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn := tls.Server(farPipe, acceptor)
		far.err = conn.Handshake()
		far.state = conn.ConnectionState()
		if far.err != nil {
			farPipe.Close()
		}
	})
	conn := tls.Client(nearPipe, dialer)
	near.err = conn.Handshake()
	near.state = conn.ConnectionState()
	// What the dialer wrote the acceptor has read: a pipe has no buffer. An alert it still writes has no reader.
	nearPipe.Close()
	wg.Wait()
	farPipe.Close()
	return near, far
}

// pipe joins two sides. It has no buffer, so a side that writes an alert while the other writes too would wait for
// ever but for the deadline; in a bubble that takes no time.
func pipe(t *testing.T) (near, far net.Conn) {
	t.Helper()
	near, far = net.Pipe()
	deadline := time.Now().Add(time.Minute)
	if err := errors.Join(near.SetDeadline(deadline), far.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// stranger is the side that shows p and takes whatever it is shown.
func stranger(p presented) *tls.Config {
	config := &tls.Config{
		NextProtos:         []string{testALPN},
		ServerName:         serverName,
		InsecureSkipVerify: true,
	}
	cert := &tls.Certificate{Certificate: p.chain}
	if p.key != nil {
		cert.PrivateKey = p.key
	}
	show(config, cert)
	return config
}

// show makes a side present cert.
func show(c *tls.Config, cert *tls.Certificate) {
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
}

// leaf shows a certificate of w.key that m signed, as m would but for change.
func (w world) leaf(m *Mesh, change func(*x509.Certificate)) presented {
	w.Helper()
	return w.signed(template(w, func(c *x509.Certificate) {
		c.URIs = nodeURI(w, m.id, w.key.ID())
		if change != nil {
			change(c)
		}
	}), m.cert, m.private)
}

// signed shows a certificate of w.key as in template, signed by parent, with above after it.
func (w world) signed(template, parent *x509.Certificate, private ed25519.PrivateKey, above ...[]byte) presented {
	w.Helper()
	leaf := sign(w, template, parent, w.key.Public(), private)
	return presented{append([][]byte{leaf}, above...), w.key.private}
}

// template is what w.key's certificate in w.mesh says, but for change.
func template(w world, change func(*x509.Certificate)) *x509.Certificate {
	w.Helper()
	uri := nodeURI(w, w.mesh.id, w.key.ID())[0]
	c := leafTemplate(w.key.Public(), uri, time.Now(), DefaultLife)
	if change != nil {
		change(c)
	}
	return c
}

func nodeURI(w world, mesh MeshID, node ID) []*url.URL {
	w.Helper()
	uri, err := spiffeID{mesh: mesh, node: node, claims: Claims{Name: "stranger"}}.url()
	if err != nil {
		w.Fatal(err)
	}
	return []*url.URL{uri}
}

// signer is an intermediate authority.
type signer struct {
	cert    *x509.Certificate
	private ed25519.PrivateKey
}

// authority makes an intermediate such as a user's, signed by parent, but for change.
func (w world) authority(parent *x509.Certificate, private ed25519.PrivateKey, change func(*x509.Certificate)) signer {
	w.Helper()
	own := newKey(w).private
	return signer{parse(w, sign(w, authorityTemplate(w, change), parent, own.Public(), private)), own}
}

func authorityTemplate(w world, change func(*x509.Certificate)) *x509.Certificate {
	w.Helper()
	c := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "user " + newKey(w).String()},
		NotBefore:             time.Now().Add(-clockSkew),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t testing.TB, template, parent *x509.Certificate, public, private any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
