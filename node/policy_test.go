package node_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/policy"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// law signs a policy with these lines.
func law(t testing.TB, pem []byte, version uint64, lines ...string) *policy.Policy {
	t.Helper()
	p, err := policy.Sign([]byte("peermesh-policy 1\n"+strings.Join(lines, "\n")+"\n"), meshOf(t.(*testing.T), pem), version)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// town is a mesh whose nodes can have policy files. It lives in a synctest bubble.
type town struct {
	*testing.T
	mesh  *meshtest.Mesh
	pem   []byte
	files string
}

func inTown(t *testing.T, f func(*testing.T, *town)) {
	t.Helper()
	files := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f(t, &town{T: t, mesh: meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: time.Millisecond}}), files: files})
	})
}

// file is the policy file of a node.
func (w *town) file(name string) string { return filepath.Join(w.files, name+".policy") }

// node opens a node that reads its file, if lines make one.
func (w *town) node(name string, lines ...string) *node.Node {
	w.Helper()
	return w.mesh.Node(name, func(c *node.Config) {
		w.pem = c.MeshPEM
		if lines != nil {
			w.write(name, 1, lines...)
			c.Policy = w.file(name)
		}
	})
}

// write puts a policy into the file of a node.
func (w *town) write(name string, version uint64, lines ...string) {
	w.Helper()
	if err := law(w.T, w.pem, version, lines...).Write(w.file(name)); err != nil {
		w.Fatal(err)
	}
}

// reload writes a policy and has the node read it.
func (w *town) reload(n *node.Node, version uint64, lines ...string) {
	w.Helper()
	w.write(n.Name(), version, lines...)
	if err := n.ReloadPolicy(); err != nil {
		w.Fatal(err)
	}
}

func ok[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// denials collects what a node tells of refusals from now on.
func (w *town) denials(n *node.Node) func() []node.PeerEvent {
	var all []node.PeerEvent
	go func() {
		for e := range n.Events(w.Context()) {
			if e.State == node.Refused {
				all = append(all, e)
			}
		}
	}()
	synctest.Wait()
	return func() []node.PeerEvent {
		synctest.Wait()
		return slices.Clone(all)
	}
}

// names reports whether one of the events names a rule as its reason, with code policy.
func names(events []node.PeerEvent, rule string, remote bool) bool {
	return slices.ContainsFunc(events, func(e node.PeerEvent) bool {
		return e.Code == identity.CodePolicy && strings.Contains(e.Reason, `"`+rule+`"`) && e.Remote == remote
	})
}

func none(t testing.TB, pull *patterns.Pull, d time.Duration) {
	t.Helper()
	if m, err := pull.Recv(within(t, d)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delivered %v, %v; want nothing", m, err)
	}
}

func bodies(t testing.TB, pull *patterns.Pull, count int) (all []string) {
	t.Helper()
	for range count {
		m := ok(pull.Recv(within(t, time.Minute)))(t)
		all = append(all, string(m.Body))
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A new policy cuts a live pipe, at both ends with the rule as the reason; what is queued waits, what the receiver had
// not begun is not begun, and when the policy allows it again all of it arrives.
func TestANewPolicyCutsLivePipesAndKeepsWhatIsQueued(t *testing.T) {
	for _, end := range []string{"sender", "receiver"} { // where the operator applies it
		t.Run(end, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				a, b := w.node("sender", "default allow"), w.node("receiver", "default allow")
				first, other := a, b
				if end == "receiver" {
					first, other = b, a
				}
				here, there := w.denials(first), w.denials(other)
				push, pull := ok(a.Push("jobs"))(w), ok(b.Pull("jobs"))(w)
				for _, body := range []string{"1", "2", "3"} {
					if err := push.Send(within(w, time.Second), []byte(body)); err != nil {
						t.Fatal(err)
					}
				}
				begun := ok(pull.Recv(within(w, 10*time.Second)))(w)
				settle() // all three are there
				w.reload(first, 2, "default allow", "rule no-jobs deny node=sender verb=push name=jobs")
				if end == "sender" {
					settle() // the receiver learns it
				}
				none(t, pull, 30*time.Second)
				if err := begun.Ack(); err != nil {
					t.Errorf("the answer of what was begun: %v", err)
				}
				if !names(here(), "no-jobs", false) || !names(there(), "no-jobs", true) && !names(there(), "no-jobs", false) {
					t.Errorf("told %+v\nand at the other end %+v", here(), there())
				}
				if v := other.Policy().Version; v != 2 {
					t.Errorf("the other end has policy %d, want 2: peers tell each other", v)
				}
				if err := push.Send(within(w, time.Second), []byte("4")); err != nil {
					t.Errorf("Send to where nobody may take it yet: %v", err)
				}
				if l := push.Stats().Ledger; l.Accepted != 4 || l.Queued+l.Leased+l.Done != 4 || l.Done > 1 {
					t.Errorf("ledger %+v, want all four accounted for", l)
				}
				w.reload(first, 3, "default allow")
				got := bodies(t, pull, 3)
				slices.Sort(got)
				if want := []string{"2", "3", "4"}; !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
				if err := push.Flush(within(w, time.Minute)); err != nil {
					t.Error(err)
				}
				if l := push.Stats().Ledger; l.Done != 4 {
					t.Errorf("ledger %+v, want four done", l)
				}
			})
		})
	}
}

// Both ends look by themselves: a rogue that knows no policy gets nowhere, as a sender and as a receiver.
func TestEachEndChecksByItself(t *testing.T) {
	var file string
	rules := func(c *node.Config) {
		file = filepath.Join(t.TempDir(), "x.policy")
		if err := law(t, c.MeshPEM, 1, "default allow", "rule no-asking deny node=r verb=req name=echo", "rule no-taking deny node=r verb=pull name=jobs").Write(file); err != nil {
			t.Fatal(err)
		}
		c.Policy = file
	}
	t.Run("sender", func(t *testing.T) {
		attack(t, func(t *testing.T, s *scene) {
			r := s.rogue("r", anyhow).link("r")
			st := r.stream(wire.AppendAttach(nil, r.attach(r.hearOffer("echo"))))
			typ, payload, err := socket.ReadFrame(st, 1<<10)
			if err != nil || typ != wire.TypeRejected {
				t.Fatalf("frame %#x, %v, want REJECTED", typ, err)
			}
			if j, err := wire.ParseRejected(payload); err != nil || j.Code != "policy" || !strings.HasPrefix(j.Reason, `rule "no-asking", line 5 of policy version 1: `) {
				t.Errorf("rejected with %+v, %v", j, err)
			}
			if e := s.last(r.id); e.State != node.Refused || !names([]node.PeerEvent{e}, "no-asking", false) {
				t.Errorf("last event %+v", e)
			}
		}, rules)
	})
	t.Run("receiver", func(t *testing.T) {
		attack(t, func(t *testing.T, s *scene) {
			jobs := ok(s.n.Push("jobs"))(t)
			if err := jobs.Send(within(t, time.Second), []byte("secret")); err != nil {
				t.Fatal(err)
			}
			r := s.rogue("r", anyhow).link("r")
			r.say(wire.AppendOffer(nil, wire.Offer{Socket: 7, Kind: wire.Pull, Name: "jobs"}))
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
			defer stop()
			if st, err := r.conn.AcceptStream(ctx); err == nil {
				t.Errorf("the node opened stream %d to who may not take", st.StreamID())
			}
			for {
				typ, payload := r.hear()
				if typ != wire.TypeRefused {
					continue
				}
				if f, err := wire.ParseRefused(payload); err != nil || f.Code != "policy" || !strings.HasPrefix(f.Reason, `rule "no-taking", line 6 of policy version 1: `) {
					t.Errorf("refused with %+v, %v", f, err)
				}
				break
			}
			if l := jobs.Stats().Ledger; l.Queued != 1 {
				t.Errorf("ledger %+v, want the message still queued", l)
			}
		}, rules)
	})
}

func TestASocketThatThePolicyDeniesItsNodeDoesNotOpen(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		n := w.mesh.Node("n", func(c *node.Config) {
			w.pem, c.Policy, c.Roles = c.MeshPEM, w.file("n"), []string{"sensor"}
			w.write("n", 1, "default deny", "rule sensors allow role=sensor verb=push name=telemetry.>", "rule mute deny name=telemetry.secret")
		})
		ok(n.Push("telemetry.temp"))(w)
		_, err := n.Push("telemetry.secret")
		if !errors.Is(err, node.ErrDenied) || !strings.Contains(err.Error(), `rule "mute", line 6 of policy version 1: n may not push "telemetry.secret"`) {
			t.Errorf("denied by a rule: %v", err)
		}
		if _, err := n.Pull("telemetry.temp"); !errors.Is(err, node.ErrDenied) || !strings.Contains(err.Error(), "the default is deny, line 4 of policy version 1") {
			t.Errorf("denied by default: %v", err)
		}
	})
}

func TestTwoSocketsOfOneNodeKeepToThePolicyToo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		n := w.node("n", "default allow")
		told := w.denials(n)
		push, pull := ok(n.Push("jobs"))(w), ok(n.Pull("jobs"))(w)
		if err := push.WaitReady(within(w, time.Second), 1); err != nil {
			t.Fatal(err)
		}
		w.reload(n, 2, "default allow", "rule not-here deny verb=pull")
		if err := push.Send(within(w, time.Second), []byte("1")); err != nil {
			t.Fatal(err)
		}
		none(t, pull, 20*time.Second)
		if !names(told(), "not-here", false) {
			t.Errorf("told %+v", told())
		}
		w.reload(n, 3, "default allow")
		if got := bodies(t, pull, 1); got[0] != "1" {
			t.Errorf("delivered %q", got)
		}
	})
}

func TestARevokedNodeIsCutAtBothEndsAndNotTakenAgain(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		a, b, c := w.node("a", "default allow"), w.node("b"), w.node("c")
		w.mesh.AwaitLinks(a, b, c)
		here, there, elsewhere := w.denials(a), w.denials(b), w.denials(c)
		w.reload(a, 2, "default allow", "revoke "+b.ID().String()+` reason="laptop stolen"`)
		time.Sleep(30 * time.Second)
		for _, n := range []*node.Node{a, c} {
			if p := n.Peers(); len(p) != 1 || p[0].ID == b.ID() {
				t.Errorf("%s is linked to %+v", n.Name(), p)
			}
		}
		if p := b.Peers(); len(p) != 0 {
			t.Errorf("the revoked node is linked to %+v", p)
		}
		for who, told := range map[string][]node.PeerEvent{"a": here(), "b": there(), "c": elsewhere()} {
			if !slices.ContainsFunc(told, func(e node.PeerEvent) bool {
				return e.Code == identity.CodePolicy && strings.Contains(e.Reason, "is revoked by policy version 2: laptop stolen") && e.Remote == (who == "b")
			}) {
				t.Errorf("%s was told %+v", who, told)
			}
		}
		if l := len(here()); l > 60 {
			t.Errorf("%d refusals in 30 s", l)
		}
	})
}

// Whoever has the newest one tells the others, which keep it: also for a time when nobody of them is there.
func TestANewerPolicyIsLearntFromPeersAndKept(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		a := w.node("a", "default allow")
		dir := w.mesh.Dir("b")
		b := w.mesh.Node("b", func(c *node.Config) { c.Dir = dir })
		w.mesh.AwaitLinks(a, b)
		settle()
		if v := b.Policy().Version; v != 1 {
			t.Fatalf("version %d at a peer that came later, want 1", v)
		}
		w.write("a", 5, "default allow", "rule x deny name=x")
		time.Sleep(5 * time.Second) // the file is looked at
		synctest.Wait()
		for _, n := range []*node.Node{a, b} {
			if p := n.Policy(); p.Version != 5 || p.Rules != 1 || !bytes.Equal(p.Text, a.Policy().Text) {
				t.Errorf("%s has %+v", n.Name(), p)
			}
		}
		w.mesh.Kill(a)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = w.mesh.Node("b", func(c *node.Config) { c.Dir = dir })
		if v := b.Policy().Version; v != 5 {
			t.Errorf("version %d in the next life, want 5", v)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		// An old file does not bring old rights back, nor stop the node.
		w.write("b", 4, "default allow")
		b = w.mesh.Node("b", func(c *node.Config) { c.Dir, c.Policy = dir, w.file("b") })
		if v := b.Policy().Version; v != 5 {
			t.Errorf("version %d with an old file, want 5", v)
		}
		if err := b.ReloadPolicy(); !errors.Is(err, node.ErrPolicy) || !errors.Is(err, policy.ErrOlder) {
			t.Errorf("reload of an old file: %v", err)
		}
	})
}

func TestAPolicyOfAPeerThatTheMeshHasNotSignedChangesNothing(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r", func(h *wire.Hello) { h.Policy = 10 })
		if r.hello.Policy != 1 {
			t.Errorf("HELLO announces policy %d, want 1: none, and POLICY is understood", r.hello.Policy)
		}
		good := string(law(t, s.pem, 9, "default allow").Text())
		foreign := law(t, newMesh(t), 9, "default deny").Text()
		for _, text := range []string{"", "nonsense", string(foreign), "peermesh-policy 1\ndefault deny\n", strings.Replace(good, "allow", "deny", 1),
			strings.Replace(string(foreign), meshOf(t, newMesh(t)).ID().String(), meshOf(t, s.pem).ID().String(), 1), "peermesh-policy 2\n"} {
			r.say(wire.AppendPolicy(nil, []byte(text)))
		}
		if !r.linked() {
			t.Error("the link was cut")
		}
		if v := s.n.Policy().Version; v != 0 {
			t.Fatalf("policy %d in force", v)
		}
		r.say(wire.AppendPolicy(nil, []byte(good)))
		settle()
		if v := s.n.Policy().Version; v != 9 {
			t.Errorf("policy %d in force, want the one that was signed", v)
		}
		r.say(wire.AppendPolicy(nil, law(t, s.pem, 8, "default deny").Text()))
		settle()
		if v := s.n.Policy().Version; v != 9 {
			t.Errorf("policy %d in force after an older one came", v)
		}
	})
}

// A peer of before there were policies does not understand the frame, and is not sent it.
func TestAPeerThatKnowsNoPolicyIsNotSentOne(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		old := s.rogue("old", anyhow).link("old")
		young := s.rogue("young", anyhow).link("young", func(h *wire.Hello) { h.Policy = 1 })
		young.say(wire.AppendPolicy(nil, law(t, s.pem, 3, "default allow").Text()))
		third := s.rogue("third", anyhow).link("third", func(h *wire.Hello) { h.Policy = 1 })
		settle()
		until := func(r *rogue) (heard []wire.Type) {
			r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: 77}))
			for {
				typ, payload := r.hear()
				heard = append(heard, typ)
				if h, err := wire.ParseHeartbeat(payload); typ == wire.TypeHeartbeat && err == nil && h.Echo && h.Number == 77 {
					return heard
				}
			}
		}
		for r, want := range map[*rogue]bool{old: false, young: false, third: true} {
			if heard := until(r); slices.Contains(heard, wire.TypePolicy) != want {
				t.Errorf("heard frames %v, POLICY among them: want %v", heard, want)
			}
		}
	})
}

func TestABadPolicyFileStopsOpenAndLeavesARunningNodeAsItIs(t *testing.T) {
	pem := newMesh(t)
	good := law(t, pem, 3, "default deny").Text()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.policy")
	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := node.Config{Name: "n", MeshPEM: pem, Listen: "127.0.0.1:0", NoMDNS: true, Policy: path}
	if n, err := node.Open(t.Context(), cfg); !errors.Is(err, node.ErrPolicy) || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("opened %v, %v without the file", n, err)
	}
	write(good)
	running, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"tampered":        {bytes.Replace(good, []byte("deny"), []byte("allow"), 1), policy.ErrForged},
		"of another mesh": {law(t, newMesh(t), 4, "default allow").Text(), policy.ErrForeign},
		"not signed":      {[]byte("peermesh-policy 1\ndefault allow\n"), policy.ErrUnsigned},
		"cut off":         {good[:len(good)-1], nil},
		"empty":           {nil, nil},
	} {
		write(c.text)
		for what, err := range map[string]error{"open": justErr(node.Open(t.Context(), cfg)), "reload": running.ReloadPolicy()} {
			if !errors.Is(err, node.ErrPolicy) || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v, want %v and the file's name", name, what, err, c.want)
			}
		}
	}
	for name, text := range map[string][]byte{"older": law(t, pem, 2, "default allow").Text(), "of the same version": law(t, pem, 3, "default allow").Text()} {
		write(text)
		if err := running.ReloadPolicy(); !errors.Is(err, node.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := running.Policy(); p.Version != 3 || !bytes.Equal(p.Text, good) {
		t.Errorf("in force: %+v, want what was", p)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := running.ReloadPolicy(); !errors.Is(err, os.ErrNotExist) || running.Policy().Version != 3 {
		t.Errorf("without the file: %v, version %d", err, running.Policy().Version)
	}
}

// justErr closes what should not have opened.
func justErr(n *node.Node, err error) error {
	if n != nil {
		return errors.Join(err, n.Close())
	}
	return err
}

// The policy lies beside the mesh credential, for all that use it.
func TestThePolicyBesideTheCredentialHolds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "blue.pem")
	m, err := identity.CreateMesh(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Sign([]byte("peermesh-policy 1\ndefault deny\n"), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(filepath.Join(dir, "blue.policy")); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), node.Config{Name: "n", Mesh: path, Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Push("jobs"); !errors.Is(err, node.ErrDenied) {
		t.Errorf("%v", err)
	}
}

func TestABadCopyOfThePolicyStopsOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mesh.policy"), []byte("peermesh-policy 1\ndefault allow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := justErr(node.Open(t.Context(), node.Config{MeshPEM: newMesh(t), Listen: "127.0.0.1:0", NoMDNS: true, Dir: dir}))
	if !errors.Is(err, node.ErrPolicy) || !errors.Is(err, policy.ErrUnsigned) {
		t.Errorf("%v", err)
	}
}

// inForce signs a policy of the scene's mesh and has the node under attack learn it from a member.
func (s *scene) inForce(version uint64, lines ...string) {
	s.Helper()
	member := s.rogue("member", anyhow).link("member")
	member.say(wire.AppendPolicy(nil, law(s.T, s.pem, version, lines...).Text()))
	settle()
	if v := s.n.Policy().Version; v != version {
		s.Fatalf("policy %d in force, want %d", v, version)
	}
	member.leave()
}

// closePolicy is the application code of a connection that the policy forbids.
const closePolicy = 21

func TestARevokedNodeIsRefusedBeforeItSaysHello(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow)
		s.inForce(4, "default allow", "revoke "+r.id.String()+" reason=lost")
		if code, text := r.dial().ended(); code != closePolicy || !strings.HasSuffix(text, "is revoked by policy version 4: lost") {
			t.Errorf("closed with %d %q", code, text)
		}
		if e := s.last(r.id); e.Code != identity.CodePolicy || e.Remote {
			t.Errorf("told %+v", e)
		}
	})
}

func TestANodeRevokedDuringItsHandshakeIsNotTaken(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", higher).dial()
		settle() // its certificate was looked at
		s.inForce(4, "default allow", "revoke "+r.id.String())
		r.open(wire.AppendHello(nil, r.myHello("r")))
		if typ, _ := r.hear(); typ != wire.TypeHello {
			t.Fatalf("frame %#x, want HELLO", typ)
		}
		typ, payload := r.hear()
		if f, err := wire.ParseRefused(payload); typ != wire.TypeRefused || err != nil || f.Code != "policy" || !strings.Contains(f.Reason, "is revoked") {
			t.Errorf("frame %#x, %+v, %v; want REFUSED", typ, f, err)
		}
		if r.linked() {
			t.Error("linked")
		}
	})
}

// The other end may have had the policy first and cut the pipe: then what it has left here waits for no lease to end.
func TestWhatAPipeThatIsGoneHasLeftIsNotBegunUnderANewPolicy(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		pull := ok(s.n.Pull("jobs"))(t)
		r := s.rogue("r", anyhow).link("r")
		st, _ := r.pipe("jobs")
		if _, err := st.Write(wire.AppendData(nil, wire.Run{Base: 1, Attempt: 1}, record(0, "left"))); err != nil {
			t.Fatal(err)
		}
		settle()
		st.CancelWrite(0)
		settle()
		if i := pull.Stats(); i.Queued != 1 || i.Pipes != 0 {
			t.Fatalf("%+v, want one message and no pipe", i)
		}
		s.inForce(1, "default allow")
		if i := pull.Stats(); i.Queued != 0 || i.Returned != 1 {
			t.Errorf("%+v, want it given back", i)
		}
		none(t, pull, time.Second)
	})
}

// ReloadPolicy does not return before that, though the end of the pipe may take a while: here its reader is with the user.
func TestWhatWasNotBegunIsGivenBackBeforeItsPipeHasEnded(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		told, goOn := make(chan struct{}), make(chan struct{})
		pull := ok(s.n.Pull("jobs", patterns.OnGap(func(socket.Gap) {
			close(told)
			<-goOn
		})))(t)
		r := s.rogue("r", anyhow).link("r")
		st, _ := r.pipe("jobs")
		frames := wire.AppendData(nil, wire.Run{Base: 1, Attempt: 1}, record(0, "queued"))
		if _, err := st.Write(wire.AppendGap(frames, wire.Gap{From: 2, To: 2, Reason: wire.GapDropped})); err != nil {
			t.Fatal(err)
		}
		<-told
		s.inForce(1, "default allow", "rule no-push deny node=r")
		if i := pull.Stats(); i.Queued != 0 || i.Returned != 1 || i.Pipes != 1 {
			t.Errorf("%+v, want it given back while the pipe is still there", i)
		}
		close(goOn)
		none(t, pull, time.Second)
	})
}
