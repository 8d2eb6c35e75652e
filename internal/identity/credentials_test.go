package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertificatesAreReplacedAtHalfLifeAndTheKeyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		old := newCredentials(t, mesh, newKey(t), Claims{Name: "old"})
		peer := newCredentials(t, mesh, newKey(t), Claims{})

		first := presents(t, old, peer)
		time.Sleep(DefaultLife/2 - 2*time.Hour)
		if again := presents(t, old, peer); !again.NotAfter.Equal(first.NotAfter) {
			t.Errorf("before half its life the certificate until %v was replaced by one until %v", first.NotAfter, again.NotAfter)
		}
		time.Sleep(2 * time.Hour)
		second := presents(t, old, peer)
		if want := time.Now().Add(DefaultLife); !second.NotAfter.Equal(want) {
			t.Errorf("at half life the certificate runs until %v, want a new one until %v", second.NotAfter, want)
		}
		time.Sleep(10 * DefaultLife) // a box that stood in a cupboard
		if third := presents(t, old, peer); third.ID != first.ID || second.ID != first.ID {
			t.Errorf("ids %s, %s, %s, want the same", first.ID, second.ID, third.ID)
		}
	})
}

func TestAClockSetBackGetsACertificateThatIsValidThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		wrong := true
		node, err := NewCredentials(mesh, newKey(t), Claims{}, func() time.Time {
			if wrong {
				return time.Now().AddDate(5, 0, 0)
			}
			return time.Now()
		})
		if err != nil {
			t.Fatal(err)
		}
		wrong = false
		presents(t, node, newCredentials(t, mesh, newKey(t), Claims{}))
	})
}

func TestTwoBoxesWhoseClocksStartIn1970Meet(t *testing.T) {
	mesh := newMesh(t, birth)
	start := func() time.Time { return time.Unix(10, 0) }
	var nodes [2]*Credentials
	for i := range nodes {
		var err error
		if nodes[i], err = NewCredentials(mesh, newKey(t), Claims{}, start); err != nil {
			t.Fatal(err)
		}
	}
	presents(t, nodes[0], nodes[1])
}

// presents returns what to sees of from in a handshake.
func presents(t *testing.T, from, to *Credentials) Peer {
	t.Helper()
	near, far := shake(t, from.TLS(testALPN), to.TLS(testALPN))
	if near.err != nil || far.err != nil {
		t.Fatalf("handshake: %v, %v", near.err, far.err)
	}
	peer, err := to.Verify(far.state)
	if err != nil {
		t.Fatal(err)
	}
	if peer.ID != from.ID() {
		t.Fatalf("peer %s, want %s", peer.ID, from.ID())
	}
	return peer
}

func TestACertificateThatCannotBeMadeIsAnErrorNotAnOldOne(t *testing.T) {
	now := birth
	node, err := NewCredentials(newMesh(t, birth), newKey(t), Claims{}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	now = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // X.509 cannot write it
	cert, err := node.TLS(testALPN).GetCertificate(nil)
	if err == nil || !strings.Contains(err.Error(), "identity: issue certificate") {
		t.Errorf("GetCertificate = %v, %v, want an error", cert, err)
	}
}

func TestCredentialsKeepNothingOfTheCallersRoles(t *testing.T) {
	roles := []string{"b", "a"}
	node := newCredentials(t, newMesh(t, birth), newKey(t), Claims{Roles: roles})
	if roles[0] != "b" {
		t.Errorf("the caller's roles became %v", roles)
	}
	roles[0], roles[1] = "changed", "changed"
	if got, want := node.Claims().Roles, []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("roles %v, want %v", got, want)
	}
}

func TestCredentialsWithoutAKeyAreAnError(t *testing.T) {
	if c, err := NewCredentials(newMesh(t, birth), Key{}, Claims{}, nil); err == nil {
		t.Errorf("NewCredentials = %v, want an error", c)
	}
	if id := (Key{}).ID(); !id.IsZero() {
		t.Errorf("the zero Key has the id %s", id)
	}
}

func TestCredentialsAreSafeForConcurrentUse(t *testing.T) {
	var days atomic.Int64 // each look at the clock is a day later, so certificates are replaced all the time
	mesh := newMesh(t, birth)
	node, err := NewCredentials(mesh, newKey(t), Claims{Roles: []string{"a"}}, func() time.Time {
		return birth.AddDate(0, 0, int(days.Add(1)))
	})
	if err != nil {
		t.Fatal(err)
	}
	config := node.TLS(testALPN)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				cert, err := config.GetCertificate(nil)
				if err != nil {
					t.Error(err)
					return
				}
				state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
				if _, err := node.Verify(state); err != nil && !errors.Is(err, &Refusal{Code: CodeExpired}) {
					t.Error(err)
				}
				node.Claims().Roles[0] = "changed"
			}
		})
	}
	wg.Wait()
	if got := node.Claims().Roles[0]; got != "a" {
		t.Errorf("a caller changed the role to %q", got)
	}
}
