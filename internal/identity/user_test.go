package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var sensorLimits = Limits{Namespace: "lab", Name: "cam-*", Roles: []Glob{"door-*", "sensor"}}

// newUserOf lets a machine join a mesh.
func newUserOf(t testing.TB, mesh *Mesh, key Key, l Limits, now time.Time, life time.Duration) *Mesh {
	t.Helper()
	der, err := mesh.IssueUser(key.Public(), l, now, life)
	if err != nil {
		t.Fatal(err)
	}
	user, err := NewUser(key, der, mesh.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func TestANodeOfAUserCredentialIsOfTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		machine := newKey(t)
		user := newUserOf(t, mesh, machine, sensorLimits, time.Now(), 0)
		if user.ID() != mesh.ID() || !user.Public().Equal(mesh.Public()) {
			t.Errorf("the user's mesh is %v, want %v", user, mesh)
		}
		claims := Claims{Namespace: "lab", Name: "cam-7", Roles: []string{"door-3", "sensor"}}
		near := newCredentials(t, user, newKey(t), claims)
		far := newCredentials(t, mesh, newKey(t), Claims{Name: "far"})
		seen, back := shake(t, near.TLS(testALPN), far.TLS(testALPN))
		if seen.err != nil || back.err != nil {
			t.Fatal(seen.err, back.err)
		}
		wantPeer(t, far, back.state, Peer{ID: near.ID(), Mesh: mesh.ID(), Namespace: "lab", Name: "cam-7",
			Roles: []string{"door-3", "sensor"}, Authority: machine.ID(), NotAfter: time.Now().Add(DefaultLife).UTC()})
		wantPeer(t, near, seen.state, Peer{ID: far.ID(), Mesh: mesh.ID(), Name: "far", NotAfter: time.Now().Add(DefaultLife).UTC()})
	})
}

func TestAUserCredentialRoundTripsThroughItsFile(t *testing.T) {
	mesh, path := newMesh(t, time.Now()), filepath.Join(privateDir(t), "joined.pem")
	user := newUserOf(t, mesh, newKey(t), sensorLimits, time.Now(), 0)
	if err := user.Write(path); err != nil {
		t.Fatal(err)
	}
	wantMode(t, path, 0o600)
	back, err := LoadMesh(path)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := back.User()
	want, _ := user.User()
	if !ok || !reflect.DeepEqual(got, want) || back.ID() != mesh.ID() {
		t.Errorf("mesh %v and %+v (%v) came back, want %v and %+v", back, got, ok, mesh, want)
	}
	if err := user.Write(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Write: %v, want fs.ErrExist", err)
	}
	if whole, _ := mesh.Marshal(); bytes.Contains(whole, []byte("user")) {
		t.Error("the mesh's own credential speaks of users")
	}
	if _, ok := mesh.User(); ok {
		t.Error("the mesh's own credential is a user's")
	}
}

func TestAUserCredentialIssuesWithinItsLimitsOnly(t *testing.T) {
	user := newUserOf(t, newMesh(t, time.Now()), newKey(t), sensorLimits, time.Now(), 0)
	for _, c := range []struct {
		claims Claims
		reason string // "": it may
	}{
		{Claims{Namespace: "lab", Name: "cam-1"}, ""},
		{Claims{Namespace: "lab", Name: "cam-", Roles: []string{"sensor"}}, ""},
		{Claims{Namespace: "prod", Name: "cam-1"}, `namespace "prod", it may sign for "lab"`},
		{Claims{Name: "cam-1"}, `namespace "", it may sign for "lab"`},
		{Claims{Namespace: "lab", Name: "door"}, `name "door", it may sign for "cam-*"`},
		{Claims{Namespace: "lab", Name: "cam-1", Roles: []string{"sensor", "admin"}}, `role "admin", it may sign for ["door-*" "sensor"]`},
	} {
		_, err := user.Issue(newKey(t).Public(), c.claims, time.Now(), 0)
		if (err == nil) != (c.reason == "") || err != nil && (!errors.Is(err, ErrLimits) || !strings.Contains(err.Error(), c.reason)) {
			t.Errorf("%+v: %v, want %q", c.claims, err, c.reason)
		}
	}
}

func TestAUserCredentialNeitherSignsForTheMeshNorInvites(t *testing.T) {
	user := newUserOf(t, newMesh(t, time.Now()), newKey(t), sensorLimits, time.Now(), 0)
	if _, err := user.Sign("test", []byte("x")); !errors.Is(err, ErrNoMeshKey) {
		t.Errorf("Sign: %v, want ErrNoMeshKey", err)
	}
	if _, err := user.IssueUser(newKey(t).Public(), sensorLimits, time.Now(), 0); !errors.Is(err, ErrNoMeshKey) {
		t.Errorf("IssueUser: %v, want ErrNoMeshKey", err)
	}
}

// What a machine that does not keep to its limits signs is refused by whoever it meets.
func TestWhatAUserCredentialMayNotSignIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		show   func(w world, u *Mesh) presented
		reason string
	}{
		{"another namespace", func(w world, u *Mesh) presented { return beyond(w, u, Claims{Namespace: "prod", Name: "cam-1"}) }, `namespace "prod"`},
		{"another name", func(w world, u *Mesh) presented { return beyond(w, u, Claims{Namespace: "lab", Name: "x"}) }, `name "x"`},
		{"another role", func(w world, u *Mesh) presented {
			return beyond(w, u, Claims{Namespace: "lab", Name: "cam-1", Roles: []string{"admin"}})
		}, `role "admin"`},
		{"another mesh", func(w world, u *Mesh) presented {
			leaf := template(w, nil)
			leaf.URIs = nodeURI(w, w.mesh.id, w.key.ID())
			leaf.URIs[0].Host = w.other.id.String()
			return presented{[][]byte{sign(w, leaf, u.user, w.key.Public(), u.private), u.user.Raw}, w.key.private}
		}, "is of mesh"},
		{"a user of its own", func(w world, u *Mesh) presented {
			second, private := authorityTemplate(w, nil), newKey(w).private
			second.URIs = u.user.URIs
			cert := parse(w, sign(w, second, u.user, private.Public(), u.private))
			return w.signed(template(w, nil), cert, private, cert.Raw, u.user.Raw)
		}, "too many intermediates"},
		{"itself as a node", func(w world, u *Mesh) presented {
			return presented{[][]byte{u.user.Raw}, u.private}
		}, "certificate authority's"},
		{"a node that says it is a user", func(w world, u *Mesh) presented {
			leaf := template(w, nil)
			leaf.URIs = []*url.URL{u.user.URIs[0]}
			return presented{[][]byte{sign(w, leaf, u.user, w.key.Public(), u.private), u.user.Raw}, w.key.private}
		}, "it is a user's"},
		{"limits of another user's key", func(w world, u *Mesh) presented {
			other := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) { c.URIs = u.user.URIs })
			return w.signed(template(w, nil), other.cert, other.private, other.cert.Raw)
		}, "is not its own"},
		{"limits that nobody understands", func(w world, u *Mesh) presented {
			other := w.authority(w.mesh.cert, w.mesh.private, func(c *x509.Certificate) {
				c.URIs = []*url.URL{{Scheme: "spiffe", Host: w.mesh.id.String(), Path: "/later"}}
			})
			return w.signed(template(w, nil), other.cert, other.private, other.cert.Raw)
		}, "not of the form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				user := newUserOf(t, w.mesh, newKey(t), sensorLimits, time.Now(), 0)
				code := CodeCertificate
				if c.name == "another mesh" {
					code = CodeMesh
				}
				wantRefused(t, w, c.show(w, user), "dialer", &Refusal{Code: code, Reason: c.reason})
			})
		})
	}
}

// beyond shows a certificate that u signed although it may not.
func beyond(w world, u *Mesh, c Claims) presented {
	w.Helper()
	uri, err := spiffeID{mesh: w.mesh.id, node: w.key.ID(), claims: c}.url()
	if err != nil {
		w.Fatal(err)
	}
	leaf := leafTemplate(w.key.Public(), uri, time.Now(), DefaultLife)
	return presented{[][]byte{sign(w, leaf, u.user, w.key.Public(), u.private), u.user.Raw}, w.key.private}
}

func TestANodeLastsNoLongerThanItsUserCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t, time.Now())
		user := newUserOf(t, mesh, newKey(t), Limits{Namespace: "*", Name: "*"}, time.Now(), time.Hour)
		near := newCredentials(t, user, newKey(t), Claims{})
		if at, err := near.NotAfter(); err != nil || !at.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("NotAfter = %v, %v, want in an hour", at, err)
		}
		time.Sleep(2 * time.Hour)
		honest := newCredentials(t, mesh, newKey(t), Claims{})
		_, back := shake(t, near.TLS(testALPN), honest.TLS(testALPN))
		if _, err := honest.Verify(back.state); !errors.Is(err, &Refusal{Code: CodeExpired}) {
			t.Errorf("after its end: %v, want code expired", err)
		}
	})
}

func TestABadUserCredentialIsAnError(t *testing.T) {
	mesh, other, key := newMesh(t, time.Now()), newMesh(t, time.Now()), newKey(t)
	good, err := mesh.IssueUser(key.Public(), sensorLimits, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := mesh.Issue(key.Public(), Claims{}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	plain := sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true}, mesh.cert, key.Public(), mesh.private)
	for name, c := range map[string]struct {
		key        Key
		user, mesh []byte
		want       string
	}{
		"no key":                {Key{}, good, mesh.Certificate(), "no key"},
		"another's key":         {newKey(t), good, mesh.Certificate(), "not the certificate's"},
		"another mesh":          {key, good, other.Certificate(), "not signed by the mesh"},
		"a node's":              {key, leaf[0], mesh.Certificate(), "not that of a user's authority"},
		"without limits":        {key, plain, mesh.Certificate(), "does not say what it may sign"},
		"garbage":               {key, []byte("x"), mesh.Certificate(), "certificate"},
		"a mesh of garbage":     {key, good, []byte("x"), "the mesh's certificate"},
		"a mesh that is a user": {key, good, good, "the mesh's certificate"},
	} {
		if m, err := NewUser(c.key, c.user, c.mesh); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want an error with %q", name, m, err, c.want)
		}
	}
}

func TestLimitsThatACertificateCannotCarryAreAnError(t *testing.T) {
	mesh, key := newMesh(t, time.Now()), newKey(t)
	for name, l := range map[string]Limits{
		"a long name":   {Name: Glob(strings.Repeat("a", 256))},
		"an empty role": {Roles: []Glob{""}},
		"too much":      {Roles: []Glob{Glob(strings.Repeat("*", 250)), Glob(strings.Repeat("+", 250)), Glob(strings.Repeat("/", 250))}},
	} {
		if _, err := mesh.IssueUser(key.Public(), l, time.Now(), 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := mesh.IssueUser(ed25519.PublicKey{1}, Limits{}, time.Now(), 0); err == nil {
		t.Error("a key of one byte: no error")
	}
}

func TestGivenRolesAreThoseThatAreNoPatterns(t *testing.T) {
	if got := sensorLimits.Given(); !reflect.DeepEqual(got, []string{"sensor"}) {
		t.Errorf("Given = %q, want sensor", got)
	}
}
