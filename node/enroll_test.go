package node_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
)

// host is an invitation that is served, and what it told.
type host struct {
	*node.Invitation
	events chan node.JoinEvent // more than any test makes it tell
	ended  chan error
}

func invite(t *testing.T, cfg node.InviteConfig) *host {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	inv, err := node.Invite(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Invitation: inv, events: make(chan node.JoinEvent, 64), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { h.ended <- inv.Serve(ctx, func(e node.JoinEvent) { h.events <- e }) })
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		if err := inv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

// next is what the host tells next.
func (h *host) next(t *testing.T) node.JoinEvent {
	t.Helper()
	select {
	case e := <-h.events:
		return e
	case <-time.After(time.Minute):
		t.Fatal("the invitation told nothing")
		return node.JoinEvent{}
	}
}

// ownDir is a directory in which a credential can lie.
func ownDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAMachineJoinsAndItsNodesAreInTheMesh(t *testing.T) {
	mesh := newMesh(t)
	h := invite(t, node.InviteConfig{MeshPEM: mesh, Name: "cam-*", Roles: []string{"sensor"}})
	path := filepath.Join(ownDir(t), "sub", "joined.pem")
	j, err := node.Join(within(t, time.Minute), node.JoinConfig{Token: h.Token(), Mesh: path})
	if err != nil {
		t.Fatal(err)
	}
	if e := h.next(t); !e.Joined || e.ID != j.ID || j.Mesh != meshOf(t, mesh).ID() || j.Path != path {
		t.Errorf("joined as %+v, the inviter told %+v", j, e)
	}
	if err := <-h.ended; err != nil {
		t.Errorf("Serve: %v, want nil when all have come", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(left) != 1 {
		t.Errorf("beside the credential are %q, %v", left, err)
	}
	seen := make(chan node.Access, 64) // more than are asked for
	a, err := node.Open(t.Context(), node.Config{Name: "hub", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true,
		Authorize: func(_ context.Context, who node.Access) error {
			select {
			case seen <- who:
			default:
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Push("jobs"); err != nil {
		t.Fatal(err)
	}
	b, err := node.Open(t.Context(), node.Config{Name: "cam-1", Mesh: path, Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{a.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Pull("jobs"); err != nil {
		t.Fatal(err)
	}
	select {
	case who := <-seen:
		if who.Peer != b.ID() || !slices.Equal(who.Roles, []string{"sensor"}) {
			t.Errorf("%+v came; a node that names no role has that of its credential", who)
		}
	case <-time.After(time.Minute):
		t.Error("the node of the machine that joined did not come")
	}
	for _, cfg := range []node.Config{{Name: "x"}, {Name: "cam-1", Namespace: "prod"}, {Name: "cam-1", Roles: []string{"admin"}}} {
		cfg.Mesh, cfg.Listen, cfg.NoMDNS = path, "127.0.0.1:0", true
		if n, err := node.Open(t.Context(), cfg); !errors.Is(err, node.ErrLimits) {
			t.Errorf("%+v: %v, %v, want ErrLimits", cfg, n, err)
		}
	}
	if i, err := node.Invite(node.InviteConfig{Mesh: path, Listen: "127.0.0.1:0"}); !errors.Is(err, node.ErrNoMeshKey) {
		t.Errorf("a machine that joined invites: %v, %v, want ErrNoMeshKey", i, err)
	}
}

func TestWhoMayNotJoinIsToldSoAtBothSides(t *testing.T) {
	mesh := newMesh(t)
	used, other := invite(t, node.InviteConfig{MeshPEM: mesh}), invite(t, node.InviteConfig{MeshPEM: mesh})
	if _, err := node.Join(within(t, time.Minute), node.JoinConfig{Token: used.Token(), Mesh: filepath.Join(ownDir(t), "a.pem")}); err != nil {
		t.Fatal(err)
	}
	foreign := invite(t, node.InviteConfig{MeshPEM: newMesh(t)})
	for code, c := range map[string]struct {
		token string
		told  *host
	}{
		"secret": {pointed(t, used.Token(), other), other},
		"mesh":   {pointed(t, used.Token(), foreign), nil}, // whose inviter hears nothing
	} {
		path := filepath.Join(ownDir(t), "b.pem")
		_, err := node.Join(within(t, time.Minute), node.JoinConfig{Token: c.token, Mesh: path})
		var refused *node.Enrolled
		if !errors.As(err, &refused) || string(refused.Code) != code || refused.Remote != (c.told != nil) {
			t.Errorf("%s: %v", code, err)
		}
		if c.told != nil {
			if e := c.told.next(t); e.Joined || e.Code != code || e.Reason != refused.Reason {
				t.Errorf("%s: the inviter told %+v, the machine %v", code, e, err)
			}
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a credential is there: %v", code, err)
		}
	}
}

// pointed is a token with the address of another invitation.
func pointed(t *testing.T, token string, at *host) string {
	t.Helper()
	return node.TokenAt(token, at.Addrs())
}

func TestJoinNeverOverwritesAndCompletesWhatWasBegun(t *testing.T) {
	mesh := newMesh(t)
	h := invite(t, node.InviteConfig{MeshPEM: mesh})
	path := filepath.Join(ownDir(t), "mesh.pem")
	if _, err := identity.CreateMesh(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(within(t, time.Minute), node.JoinConfig{Token: h.Token(), Mesh: path}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a credential that is there: %v, want fs.ErrExist", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the credential that was there is changed")
	}
	if given, _ := h.Given(); given != 0 {
		t.Errorf("%d uses were used up by a machine that could not write", given)
	}

	// As a process leaves it that was killed with its credential on disk: it is no other machine, and need not ask again.
	again := filepath.Join(ownDir(t), "again.pem")
	begun, err := identity.LoadOrCreateKey(again + ".joining") // and before that, as one leaves it that was killed while it asked
	if err != nil {
		t.Fatal(err)
	}
	first, err := node.Join(within(t, time.Minute), node.JoinConfig{Token: h.Token(), Mesh: again})
	if err != nil {
		t.Fatal(err)
	}
	if first.ID != begun.ID() {
		t.Errorf("joined with key %v, want %v, to which the inviter may have given the only use", first.ID, begun.ID())
	}
	key := keyOf(t, again)
	if err := os.WriteFile(again+".joining", key, 0o600); err != nil {
		t.Fatal(err)
	}
	<-h.ended
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if second, err := node.Join(ctx, node.JoinConfig{Token: h.Token(), Mesh: again}); err != nil || second.ID != first.ID {
		t.Errorf("again: %+v, %v, want %+v", second, err, first)
	}
	if _, err := os.Stat(again + ".joining"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key is still beside the credential: %v", err)
	}
}

// keyOf cuts the private key out of a credential.
func keyOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data[strings.Index(string(data), "-----BEGIN PRIVATE KEY"):]
}

func TestWithoutAnInviterJoinSaysSo(t *testing.T) {
	mesh := newMesh(t)
	inv, err := node.Invite(node.InviteConfig{MeshPEM: mesh, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(ownDir(t), "mesh.pem")
	if _, err := node.Join(within(t, time.Second), node.JoinConfig{Token: inv.Token(), Mesh: path}); !errors.Is(err, node.ErrNoAnswer) {
		t.Errorf("%v, want ErrNoAnswer", err)
	}
	if _, err := node.Join(t.Context(), node.JoinConfig{Token: "pm1", Mesh: path}); !errors.Is(err, node.ErrToken) {
		t.Errorf("%v, want ErrToken", err)
	}
}

func TestAnInvitationEndsByTime(t *testing.T) {
	h := invite(t, node.InviteConfig{MeshPEM: newMesh(t), TTL: time.Millisecond})
	select {
	case err := <-h.ended:
		if !errors.Is(err, node.ErrInvitationOver) {
			t.Errorf("%v, want ErrInvitationOver", err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// joinedAt writes a user credential that was made at some time, and returns its file.
func joinedAt(t *testing.T, pem []byte, made time.Time) (path string, id node.ID) {
	t.Helper()
	mesh := meshOf(t, pem)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := mesh.IssueUser(key.Public(), identity.Limits{Namespace: "default", Name: "*"}, made, 0)
	if err != nil {
		t.Fatal(err)
	}
	user, err := identity.NewUser(key, cert, mesh.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(ownDir(t), "joined.pem")
	if err := user.Write(path); err != nil {
		t.Fatal(err)
	}
	return path, key.ID()
}

func TestARunOutCredentialIsGoodForItsRenewalOnly(t *testing.T) {
	mesh := newMesh(t)
	hub := open(t, mesh, "hub")
	path, id := joinedAt(t, mesh, time.Now().AddDate(-2, 0, 0))
	cfg := node.Config{Name: "box", Mesh: path, Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{hub.Addr().String()}}
	late, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	bothRefuse(t, hub, late, identity.CodeExpired)
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	other := open(t, newMesh(t), "of another mesh")
	j, err := node.Renew(within(t, time.Minute), node.RenewConfig{Mesh: path,
		Addrs: func() []string { return []string{other.Addr().String(), hub.Addr().String(), hub.Addr().String()} }})
	if err != nil {
		t.Fatal(err)
	}
	if j.ID != id || time.Until(j.NotAfter) < 360*24*time.Hour {
		t.Errorf("renewed to %+v", j)
	}
	back, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	await(t, back, "hub is up", func(e node.PeerEvent) bool { return e.State == node.Up })

	// Who joined does not renew others, and the mesh's own needs no renewal.
	if _, err := node.Renew(within(t, 2*time.Second), node.RenewConfig{Mesh: path, Addrs: func() []string { return []string{back.Addr().String()} }}); !errors.Is(err, node.ErrNoAnswer) {
		t.Errorf("renewed by a machine that joined: %v, want ErrNoAnswer", err)
	}
	own := filepath.Join(ownDir(t), "own.pem")
	if err := os.WriteFile(own, mesh, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Renew(t.Context(), node.RenewConfig{Mesh: own}); !errors.Is(err, node.ErrNotJoined) {
		t.Errorf("the mesh's own: %v, want ErrNotJoined", err)
	}
}

func TestARevokedCredentialIsNeitherRenewedNorLinked(t *testing.T) {
	mesh := newMesh(t)
	path, id := joinedAt(t, mesh, time.Now())
	file := filepath.Join(ownDir(t), "mesh.policy")
	if err := law(t, mesh, 1, "default allow").Write(file); err != nil {
		t.Fatal(err)
	}
	hub, err := node.Open(t.Context(), node.Config{Name: "hub", MeshPEM: mesh, Policy: file, Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	cfg := node.Config{Name: "box", Mesh: path, Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{hub.Addr().String()}}
	box, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	await(t, hub, "box is up", func(e node.PeerEvent) bool { return e.State == node.Up })
	why := func(e node.PeerEvent) bool {
		return e.State == node.Refused && e.Code == identity.CodePolicy && strings.Contains(e.Reason, "the user credential "+id.String())
	}
	here, there := expect(t, hub, "refused", why), expect(t, box, "refused", why)
	if err := law(t, mesh, 2, "default allow", "revoke "+id.String()+" reason=stolen").Write(file); err != nil {
		t.Fatal(err)
	}
	if err := hub.ReloadPolicy(); err != nil {
		t.Fatal(err)
	}
	here()
	there()
	var refused *node.Enrolled
	_, err = node.Renew(within(t, time.Minute), node.RenewConfig{Mesh: path, Addrs: func() []string { return []string{hub.Addr().String()} }})
	if !errors.As(err, &refused) || refused.Code != "revoked" || !refused.Remote {
		t.Errorf("renewal: %v, want code revoked", err)
	}
}
