package enroll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peermesh/internal/identity"
)

var limits = identity.Limits{Namespace: "lab", Name: "cam-*", Roles: []identity.Glob{"sensor"}}

var bound = bytes.Repeat([]byte{7}, 32)

func newMesh(t testing.TB) *identity.Mesh {
	t.Helper()
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newKey(t testing.TB) identity.Key {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// party is an invitation and its token.
type party struct {
	mesh  *identity.Mesh
	token Token
	inv   *Invitation
	now   atomic.Int64 // added to the clock
}

func newParty(t testing.TB, uses int) *party {
	t.Helper()
	p := &party{mesh: newMesh(t)}
	expires := time.Now().Add(10 * time.Minute)
	var err error
	if p.token, err = NewToken(p.mesh.ID(), expires, []string{"192.0.2.1:7000"}); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(p.now.Load())) }
	if p.inv, err = NewInvitation(p.mesh, p.token, limits, uses, expires, now); err != nil {
		t.Fatal(err)
	}
	return p
}

// server is the inviting or the renewing side.
type server interface {
	Serve(io.ReadWriter, []byte) (identity.ID, error)
}

// outcome is what both sides have at the end.
type outcome struct {
	joined        *identity.Mesh
	id            identity.ID
	err, otherErr error
}

// meet lets both sides speak; a nil ask is Ask with the party's secret. wrap may spoil the streams.
func meet(s server, nearBound, farBound []byte, mesh identity.MeshID, wrap func(near, far net.Conn) (net.Conn, net.Conn), ask func(*Side) (*identity.Mesh, error)) (o outcome) {
	near, far := net.Pipe()
	if wrap != nil {
		near, far = wrap(near, far)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer far.Close()
		o.id, o.otherErr = s.Serve(far, farBound)
	})
	o.joined, o.err = join(near, nearBound, mesh, ask)
	near.Close()
	wg.Wait()
	return o
}

func join(near net.Conn, binding []byte, mesh identity.MeshID, ask func(*Side) (*identity.Mesh, error)) (*identity.Mesh, error) {
	side, err := Meet(near, binding, mesh)
	if err != nil {
		return nil, err
	}
	m, err := ask(side)
	if err != nil {
		return nil, err
	}
	return m, side.Stored()
}

// asks proves the secret of a token with a key.
func asks(key identity.Key, secret Secret) func(*Side) (*identity.Mesh, error) {
	return func(s *Side) (*identity.Mesh, error) { return s.Ask(key, secret) }
}

func (p *party) join(key identity.Key) outcome {
	return meet(p.inv, bound, bound, p.mesh.ID(), nil, asks(key, p.token.Secret))
}

func TestAMachineJoinsWithAToken(t *testing.T) {
	p, key := newParty(t, 1), newKey(t)
	o := p.join(key)
	if o.err != nil || o.otherErr != nil {
		t.Fatal(o.err, o.otherErr)
	}
	u, ok := o.joined.User()
	if !ok || u.ID != key.ID() || o.id != key.ID() || o.joined.ID() != p.mesh.ID() || u.Limits.Name != limits.Name {
		t.Errorf("joined mesh %v as %+v (%v), want mesh %v", o.joined, u, ok, p.mesh)
	}
	select {
	case <-p.inv.Full():
	default:
		t.Error("the invitation is not full")
	}
}

// refusedAs checks that both sides report the code, one of them as the other's doing.
func refusedAs(t *testing.T, what string, o outcome, code Code) {
	t.Helper()
	var near, far *Refusal
	if !errors.As(o.err, &near) || !errors.As(o.otherErr, &far) || near.Code != code || far.Code != code || !near.Remote || far.Remote || near.Reason != far.Reason {
		t.Errorf("%s: %v; the other side: %v; want code %s at both", what, o.err, o.otherErr, code)
	}
	if o.joined != nil {
		t.Errorf("%s: refused with a credential", what)
	}
}

func TestWhoIsNotInvitedIsRefusedAtBothSides(t *testing.T) {
	p := newParty(t, 1)
	refusedAs(t, "a wrong secret", meet(p.inv, bound, bound, p.mesh.ID(), nil, asks(newKey(t), Secret{1})), CodeSecret)
	if given, _ := p.inv.Given(); given != 0 {
		t.Errorf("a wrong secret used up %d uses", given)
	}
	if o := p.join(newKey(t)); o.err != nil {
		t.Fatal(o.err)
	}
	refusedAs(t, "one too many", p.join(newKey(t)), CodeUsed)
	late := newParty(t, 1)
	late.now.Store(int64(11 * time.Minute))
	refusedAs(t, "too late", late.join(newKey(t)), CodeExpired)
	refusedAs(t, "a renewal", meet(p.inv, bound, bound, p.mesh.ID(), nil, func(s *Side) (*identity.Mesh, error) { return s.Renew(newKey(t), nil) }), CodeRenew)
}

func TestManyAtOnceGetAsManyCredentialsAsThereAreUses(t *testing.T) {
	const uses, machines = 3, 12
	p := newParty(t, uses)
	keys := make([]identity.Key, machines)
	for i := range keys {
		keys[i] = newKey(t)
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for _, key := range keys {
		wg.Go(func() {
			switch o := p.join(key); {
			case o.err == nil:
				in.Add(1)
			case !errors.Is(o.err, &Refusal{Code: CodeUsed}):
				t.Errorf("refused with %v, want code used", o.err)
			}
		})
	}
	wg.Wait()
	if in.Load() != uses {
		t.Errorf("%d machines joined, want %d", in.Load(), uses)
	}
	<-p.inv.Full()
}

// tapped keeps what was written through it.
type tapped struct {
	net.Conn
	written *bytes.Buffer
}

func (c tapped) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

func TestSomebodyInTheMiddleIsToldNothing(t *testing.T) {
	p := newParty(t, 1)
	other := newParty(t, 1)
	foreign := bytes.Repeat([]byte{8}, 32)
	user, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.mesh.IssueUser(user.Public(), limits, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	member, err := identity.NewUser(user, cert, p.mesh.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server server
		bound  []byte // of its own connection
		reason string
	}{
		"who passes on what is said":       {p.inv, foreign, "something stands in between"},
		"another mesh":                     {other.inv, bound, "not of mesh"},
		"a member without the mesh's key":  {forger{member, user}, bound, "something stands in between"},
		"who says nothing that is a mesh":  {answers{typeProof, bytes.Repeat([]byte{1}, 200)}, bound, "shows no mesh"},
		"who shows the mesh's certificate": {answers{typeProof, append(make([]byte, 64), p.mesh.Certificate()...)}, bound, "something stands in between"},
	} {
		var said bytes.Buffer
		o := meet(c.server, bound, c.bound, p.mesh.ID(), func(near, far net.Conn) (net.Conn, net.Conn) { return tapped{near, &said}, far },
			asks(newKey(t), p.token.Secret))
		if !errors.Is(o.err, &Refusal{Code: CodeMesh}) || !strings.Contains(o.err.Error(), c.reason) {
			t.Errorf("%s: %v, want code mesh with %q", name, o.err, c.reason)
		}
		if want := []byte{byte(typeHello), 0, 1, protocol}; !bytes.Equal(said.Bytes(), want) {
			t.Errorf("%s was told %x, want %x", name, said.Bytes(), want)
		}
	}
	if o := p.join(newKey(t)); o.err != nil {
		t.Errorf("afterwards: %v", o.err)
	}
}

// forger signs with the key that a member has.
type forger struct {
	member *identity.Mesh
	key    identity.Key
}

func (f forger) Serve(s io.ReadWriter, binding []byte) (identity.ID, error) {
	signature, err := f.key.Sign(purposeInviter, binding)
	if err != nil {
		return identity.ID{}, err
	}
	return answers{typeProof, append(signature, f.member.Certificate()...)}.Serve(s, binding)
}

// answers says one frame to HELLO.
type answers struct {
	t       frameType
	payload []byte
}

func (a answers) Serve(s io.ReadWriter, _ []byte) (identity.ID, error) {
	if _, err := expect(s, typeHello); err != nil {
		return identity.ID{}, err
	}
	return identity.ID{}, say(s, a.t, a.payload)
}

func TestTheSecretIsProvedAndNeverSaid(t *testing.T) {
	p := newParty(t, 1)
	var near, far bytes.Buffer
	o := meet(p.inv, bound, bound, p.mesh.ID(), func(n, f net.Conn) (net.Conn, net.Conn) { return tapped{n, &near}, tapped{f, &far} },
		asks(newKey(t), p.token.Secret))
	if o.err != nil {
		t.Fatal(o.err)
	}
	for _, said := range [][]byte{near.Bytes(), far.Bytes()} {
		if bytes.Contains(said, p.token.Secret[:]) {
			t.Error("the secret was said")
		}
	}
}

// frail ends after so many frames were written through it; each is one Write.
type frail struct {
	net.Conn
	left int
}

func (c *frail) Write(b []byte) (int, error) {
	if c.left--; c.left < 0 {
		c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(b)
}

// Whichever frame is the first that does not arrive: the machine that asked first can complete its joining, and no other
// one gets its use.
func TestWhereverJoiningEndsTheSameMachineCompletesIt(t *testing.T) {
	for _, c := range []struct {
		name      string
		near, far int  // frames that the joining and the inviting side still write
		taken     bool // the use is the first machine's
	}{
		{"before HELLO", 0, 9, false}, {"before PROOF", 9, 0, false}, {"before ASK", 1, 9, false},
		{"before GRANT", 9, 1, true}, {"before STORED", 2, 9, true}, {"before DONE", 9, 2, true},
	} {
		p, first, second := newParty(t, 1), newKey(t), newKey(t)
		o := meet(p.inv, bound, bound, p.mesh.ID(), func(n, f net.Conn) (net.Conn, net.Conn) { return &frail{n, c.near}, &frail{f, c.far} },
			asks(first, p.token.Secret))
		if o.err == nil {
			t.Errorf("%s: nothing went wrong", c.name)
		}
		if given, _ := p.inv.Given(); (given == 1) != c.taken {
			t.Errorf("%s: %d uses given, want that to be %v", c.name, given, c.taken)
		}
		if c.taken {
			refusedAs(t, c.name+", another machine", p.join(second), CodeUsed)
		}
		if o := p.join(first); o.err != nil || o.joined == nil {
			t.Fatalf("%s, again: %v", c.name, o.err)
		}
		<-p.inv.Full()
	}
}

func TestACredentialIsRenewedWhetherItRanOutOrNot(t *testing.T) {
	mesh, key := newMesh(t), newKey(t)
	var revoked bool
	r := &Renewer{Mesh: mesh, Now: time.Now, Revoked: func(identity.ID) (string, bool) { return "lost", revoked }}
	issue := func(m *identity.Mesh, key identity.Key, made time.Time) []byte {
		der, err := m.IssueUser(key.Public(), limits, made, 0)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	renew := func(key identity.Key, old []byte) outcome {
		return meet(r, bound, bound, mesh.ID(), nil, func(s *Side) (*identity.Mesh, error) { return s.Renew(key, old) })
	}
	for name, made := range map[string]time.Time{"new": time.Now(), "two years old": time.Now().AddDate(-2, 0, 0)} {
		o := renew(key, issue(mesh, key, made))
		if o.err != nil || o.otherErr != nil {
			t.Fatalf("%s: %v, %v", name, o.err, o.otherErr)
		}
		if u, _ := o.joined.User(); time.Until(u.NotAfter) < identity.UserLife-time.Hour || u.Limits.Namespace != "lab" || u.ID != key.ID() {
			t.Errorf("%s: renewed to %+v", name, u)
		}
	}
	refusedAs(t, "another mesh's", renew(key, issue(newMesh(t), key, time.Now())), CodeRenew)
	refusedAs(t, "another key's", renew(newKey(t), issue(mesh, key, time.Now())), CodeRenew)
	refusedAs(t, "garbage", renew(key, []byte("x")), CodeRenew)
	refusedAs(t, "an invitation", meet(r, bound, bound, mesh.ID(), nil, asks(key, Secret{})), CodeSecret)
	revoked = true
	refusedAs(t, "a revoked one", renew(key, issue(mesh, key, time.Now())), CodeRevoked)
}

func TestWhoCannotInviteIsToldSo(t *testing.T) {
	p, key := newParty(t, 1), newKey(t)
	o := p.join(key)
	if o.err != nil {
		t.Fatal(o.err)
	}
	if _, err := NewInvitation(o.joined, p.token, limits, 1, time.Now(), time.Now); !errors.Is(err, identity.ErrNoMeshKey) {
		t.Errorf("a machine that joined invites: %v, want ErrNoMeshKey", err)
	}
	for _, uses := range []int{-1, 0, MaxUses + 1} {
		if _, err := NewInvitation(p.mesh, p.token, limits, uses, time.Now(), time.Now); err == nil {
			t.Errorf("%d uses: no error", uses)
		}
	}
}

// FuzzServe says anything to an inviter: nobody is let in without the secret.
func FuzzServe(f *testing.F) {
	p := newParty(f, 1)
	f.Add([]byte{byte(typeHello), 0, 1, protocol, byte(typeAsk), 0, 2, 1, 2})
	f.Add([]byte{byte(typeHello), 0, 1, 99})
	f.Add(append([]byte{byte(typeRefused), 1, 0, 255}, make([]byte, 255)...))
	f.Add([]byte{byte(typeHello), 0, 1, protocol, byte(typeRenew), 0, 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		id, err := p.inv.Serve(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}, bound)
		if given, _ := p.inv.Given(); err == nil || given != 0 {
			t.Errorf("let in %v", id)
		}
	})
}

// A code may be as long as its one byte of length can say.
func TestARefusalWithTheLongestCodeIsOne(t *testing.T) {
	code := strings.Repeat("c", 255)
	var refusal *Refusal
	if err := parseRefused(append([]byte{255}, code+"why"...)); !errors.As(err, &refusal) || string(refusal.Code) != code || refusal.Reason != "why" {
		t.Errorf("got %v", err)
	}
	if err := parseRefused(append([]byte{255}, code[1:]...)); !errors.Is(err, ErrProtocol) {
		t.Errorf("a code that is cut off: %v", err)
	}
}

// FuzzMeet says anything to a joiner: it believes nobody.
func FuzzMeet(f *testing.F) {
	p := newParty(f, 1)
	f.Add([]byte{byte(typeProof), 0, 2, 1, 2})
	f.Add([]byte{byte(typeRefused), 0, 9, 4, 'u', 's', 'e', 'd', 'w', 'h', 'y', '\n'})
	f.Add(append([]byte{byte(typeProof), 1, 200}, p.mesh.Certificate()...))
	f.Fuzz(func(t *testing.T, said []byte) {
		_, err := Meet(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}, bound, p.mesh.ID())
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\n\r") {
			t.Errorf("error %v", err)
		}
	})
}
